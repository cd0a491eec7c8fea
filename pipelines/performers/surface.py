"""Depth, labels and optical flow of the pixels of one person, computed from where their body parts lie in two frames.

A pixel is taken back to its place on the body (along and around a tube, in the head's own axes, or between the joints of
a hand) and from there to where this place is in the next frame. Nothing is estimated.
# N = pixels of the person, K = owners
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.performers.labels import FACE, HAIR, LEFT_HAND, RIGHT_HAND, SKIN
from pipelines.performers.piece import LUT, Anatomy, Floats
from pipelines.performers.wardrobe import OWNERS

_HANDS = ((OWNERS["left_hand"], "left", LEFT_HAND), (OWNERS["right_hand"], "right", RIGHT_HAND))
_KINDS = max(OWNERS.values()) + 1

Bools = npt.NDArray[np.bool_]
Owners = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Tubes:
    """The tubes of one frame as columns of a table, [K] or [K, ...]; rows without a tube are harmless."""

    start: Floats
    direction: Floats  # [K, 2] unit
    length: Floats
    radii: Floats  # [K, LUT] px
    bow: Floats
    angle: Floats
    near: Floats  # depth of the axis at its start
    slope: Floats  # and what it gains to the end
    bulge: Floats  # body heights of depth per px of radius
    cut: Floats
    labels: Owners  # [K, 2]

    @classmethod
    def of(cls, anatomy: Anatomy) -> _Tubes:
        numbers, radii, labels = np.zeros((_KINDS, 11), np.float32), np.ones((_KINDS, LUT), np.float32), np.zeros((_KINDS, 2), np.uint8)
        numbers[:, 4] = 1  # no division by zero
        for owner, piece in anatomy.pieces.items():
            (x, y), (to_x, to_y) = piece.start.tolist(), piece.end.tolist()
            length = max(float(np.hypot(to_x - x, to_y - y)), 1e-3)
            near, far = piece.depth
            bulge = piece.thick / anatomy.unit
            direction = ((to_x - x) / length, (to_y - y) / length)
            numbers[owner] = (x, y, *direction, length, piece.bow, piece.angle, near, far - near, bulge, piece.cut)
            radii[owner], labels[owner] = piece.radii * piece.scale, piece.labels
        x, y, ux, uy, length_, bow, angle, near_, slope, bulge_, cut = numbers.T
        return cls(
            start=np.stack([x, y], -1), direction=np.stack([ux, uy], -1), length=length_, radii=radii, bow=bow, angle=angle,
            near=near_, slope=slope, bulge=bulge_, cut=cut, labels=labels,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Surface:
    """The visible surface of one person in one frame. Positions are canvas px."""

    anatomy: Anatomy
    tubes: _Tubes
    at: tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]  # rows and columns of the pixels in the frame, [N] each
    owner: Owners  # [N]
    place: Floats  # [N, 2] x, y
    t: Floats  # [N] along the tube
    angle: Floats  # [N] around it, from the part's front
    cap: Floats  # [N] beyond its ends, in radii
    depth: Floats  # [N] larger is nearer
    labels: Owners  # [N]


def surface_of(owner: Owners, anatomy: Anatomy, supersampling: int) -> Surface:
    """owner [H, W]: who owns each pixel of the frame, 0 nobody; the anatomy is in canvas px."""
    rows, columns = np.nonzero(owner)
    who = owner[rows, columns]
    place = np.stack([columns, rows], -1).astype(np.float32) * supersampling + np.float32((supersampling - 1) / 2)
    tubes = _Tubes.of(anatomy)
    offset, direction = place - tubes.start[who], tubes.direction[who]
    along = (offset * direction).sum(-1)
    across = offset[:, 1] * direction[:, 0] - offset[:, 0] * direction[:, 1]
    length = tubes.length[who]
    t = np.clip(along / length, 0, 1)
    radius = tubes.radii[who, (t * (LUT - 1)).astype(np.intp)]
    s = np.clip((across - 4 * tubes.bow[who] * (t - t * t)) / radius, -1, 1)
    depth = tubes.near[who] + tubes.slope[who] * t + np.sqrt(1 - s * s) * radius * tubes.bulge[who]
    labels = np.where(t <= tubes.cut[who], tubes.labels[who, 0], tubes.labels[who, 1])
    surface = Surface(
        anatomy=anatomy, tubes=tubes, at=(rows, columns), owner=who, place=place, t=t, angle=np.arcsin(s) - tubes.angle[who],
        cap=(along - t * length) / radius, depth=depth, labels=labels.astype(np.uint8),
    )  # fmt: skip
    _model_head(surface)
    _model_hands(surface)
    return surface


def _ellipsoid(anatomy: Anatomy, place: Floats, axes: Floats) -> Floats:
    """Depth of an upright ellipsoid around mid-head."""
    centre, up = anatomy.head_frame[0], anatomy.head_frame[2, :2] - anatomy.head_frame[0, :2]
    up = up / max(float(np.hypot(*up)), 1e-3)
    offset = place - centre[:2]
    x, y = (offset[:, 1] * up[0] - offset[:, 0] * up[1]) / axes[0], offset @ up / axes[1]
    bulge: Floats = centre[2] + axes[2] * np.sqrt(np.clip(1 - x * x - y * y, 0, 1))
    return bulge


def _in_head(surface: Surface, pixels: Bools) -> Floats:
    """[N', 3] places in the head's own axes (left, up, front), head heights."""
    frame = surface.anatomy.head_frame.astype(np.float64)
    points = np.concatenate([surface.place[pixels], surface.depth[pixels, None]], -1) - frame[0]
    # a 3x3 inverse and a plain sum: a solver would start its threads for every frame
    return np.asarray(np.einsum("nj,jk->nk", points, np.linalg.inv(frame[1:] - frame[0])), np.float32)


def _model_head(surface: Surface) -> None:
    """Skull and hair: their depth, and which side of the skull is the face."""
    for name, axes in (("head", surface.anatomy.head_axes), ("hair", surface.anatomy.hair_axes)):
        pixels = surface.owner == OWNERS[name]
        if pixels.any():
            surface.depth[pixels] = _ellipsoid(surface.anatomy, surface.place[pixels], axes)
            surface.labels[pixels] = HAIR if name == "hair" else np.where(_in_head(surface, pixels)[:, 2] > 0, FACE, SKIN)
    surface.labels[surface.owner == OWNERS["drape"]] = HAIR


def _weights(place: Floats, joints: Floats) -> Floats:
    """[N', 21] shares of the joints in a place, all of it next to a joint."""
    distance = ((place[:, None] - joints[None, :, :2]) ** 2).sum(-1)
    near = 1 / (distance + 0.05) ** 2
    shares: Floats = near / near.sum(-1, keepdims=True)
    return shares


def _model_hands(surface: Surface) -> None:
    for owner, side, label in _HANDS:
        pixels = surface.owner == owner
        if pixels.any():
            joints = surface.anatomy.hands[side]
            surface.depth[pixels] = np.einsum("nj,j->n", _weights(surface.place[pixels], joints), joints[:, 2])
            surface.labels[pixels] = label


def next_place(surface: Surface, following: Surface) -> tuple[Floats, Bools]:
    """([N, 2] canvas px where the surface's pixels are in the following frame, [N] whether that side still faces the camera)."""
    who, t, tubes, after = surface.owner, surface.t, following.tubes, following.anatomy
    turned = surface.angle + tubes.angle[who]
    # an angle is known up to whole turns
    turned = turned - 2 * np.pi * np.round(turned / (2 * np.pi))
    radius = tubes.radii[who, (t * (LUT - 1)).astype(np.intp)]
    along = t * tubes.length[who] + surface.cap * radius
    across = np.sin(turned) * radius + 4 * tubes.bow[who] * (t - t * t)
    direction = tubes.direction[who]
    place = tubes.start[who] + along[:, None] * direction + across[:, None] * np.stack([-direction[:, 1], direction[:, 0]], -1)
    seen = np.cos(turned) > 0
    rigid = (who == OWNERS["head"]) | (who == OWNERS["hair"])
    if rigid.any():
        frame = after.head_frame
        place[rigid] = frame[0, :2] + np.einsum("nj,jk->nk", _in_head(surface, rigid), frame[1:, :2] - frame[0, :2])
        seen[rigid] = True
    for owner, side, _ in _HANDS:
        pixels = who == owner
        if pixels.any():
            now = surface.anatomy.hands[side]
            step = (after.hands[side] - now)[:, :2]
            place[pixels] = surface.place[pixels] + np.einsum("nj,jk->nk", _weights(surface.place[pixels], now), step)
            seen[pixels] = True
    return place, seen
