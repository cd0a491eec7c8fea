"""A tube: a limb seen as a bent surface.

Every pixel inside knows its place along the axis and around it, and from that come its shading, its cloth and its U and V.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.performers.fabric import Tile
from pipelines.performers.labels import SKIN
from pipelines.performers.paint import Canvas, lit, offsets
from pipelines.performers.piece import LUT, Floats, Piece

Places = npt.NDArray[np.intp]
_AROUND = (np.arcsin(np.linspace(-1, 1, 129)) / np.pi + 0.5).astype(np.float32)  # v -> 0..1 around the visible half


@dataclass(frozen=True, kw_only=True, slots=True)
class Tube:
    """One limb or trunk segment. Lengths in px unless said otherwise."""

    radii: Floats  # [LUT] half width along the axis
    skin: Floats  # [3] RGB
    cloth: Tile | None = None  # worn up to `cut`
    cut: float = 2.0  # fraction of the axis where the cloth ends
    repeat: float = 1.0  # cloth tiles along the axis
    wraps: float = 1.0  # cloth tiles around the visible half
    fold: float = 0.0  # strength of folds, 0..1
    fold_phase: float = 0.0
    parts: tuple[int, int] = (0, 0)  # DensePose part on the back, on the front
    owner: int = 0  # id of the body part, for visibility
    shadow: float = 0.0  # how dark a shadow it casts on what lies behind
    spares: tuple[int, ...] = ()  # owners that get no shadow: its neighbours
    round_ends: bool = False  # shade the caps as domes
    flat: tuple[bool, bool] = (False, False)  # start, end: cut straight across (hems) instead of round
    thick: float = 1.0  # depth of the section relative to its width
    round: float = 1.0  # how far the shading turns to the side at the outline, 0..1
    blunt: float = 1.0  # how much flatter than a half circle the start's cap is
    fades: tuple[int, ...] = ()  # owners that both ends pass into without a seam
    labels: tuple[int, int] = (SKIN, SKIN)  # what the covered and the bare part are, indices in LABELS


def _albedo(tube: Tube, t: Floats, s: Floats, angle: float) -> tuple[Floats, Floats]:
    """(colour [N, 3], folds [N] or [1]) of the surface at t along, s across (-1..1) the visible half; the cloth turns by `angle`."""
    if tube.cloth is None or tube.cut <= 0:
        return tube.skin[None], np.ones(1, np.float32)
    around = _AROUND[((s + 1) * 64).astype(np.intp)] + np.float32(2 - angle / np.pi)
    side = len(tube.cloth)
    rows = (t * (tube.repeat * side)).astype(np.intp) % side
    columns = (around * (tube.wraps * side)).astype(np.intp) % side
    colour = tube.cloth[rows, columns]
    folds = np.ones(1, np.float32)
    if tube.fold > 0:
        turned = s - np.float32(0.8 * np.sin(angle))  # folds go with the cloth, as far as a flat picture lets them
        wave = np.sin(t * 17 + turned * 2.6 + tube.fold_phase) + np.sin(t * 29 - turned * 3.7 + 2 * tube.fold_phase)
        folds = 1 + np.float32(0.055 * tube.fold) * wave
    if tube.cut < 1:
        bare = t > tube.cut
        colour = np.where(bare[:, None], tube.skin, colour)
        folds = np.where(bare, 1 - 0.22 * np.clip(1 - (t - tube.cut) * 9, 0, 1), folds)  # the sleeve's shadow
    return colour, folds


def _edge(tube: Tube, along: Floats, across: Floats, length: float, radius: Floats, s: Floats) -> Floats:
    """Distance to the outline in px, positive inside; a hem hangs a little lower in the middle, as a circle seen from above."""
    before = np.minimum(along, 0) * (tube.blunt * (not tube.flat[0]))
    after = np.maximum(along - length, 0) * (not tube.flat[1])
    edge: Floats = radius - np.sqrt(across * across + (before + after) ** 2)
    if any(tube.flat):
        hang = 1 + 0.07 * radius * (1 - s * s)
        if tube.flat[0]:
            edge = np.minimum(edge, along + hang)
        if tube.flat[1]:
            edge = np.minimum(edge, length - along + hang)
    return edge


def _angle(facing: Floats, ux: float, uy: float) -> float:
    """Of a part's front around the axis (ux, uy), radians; 0 faces the camera."""
    return float(np.arctan2(facing[1] * ux - facing[0] * uy, facing[2]))


def paint_tube(canvas: Canvas, tube: Tube, start: Floats, end: Floats, facing: Floats, *, scale: float = 1.0, bow: float = 0.0) -> None:
    """Paint from `start` to `end` [3]: x, y px and depth.

    facing: [3] the part's front as a unit vector in image axes (z to the camera).  scale: factor on the radii.
    bow: how far the middle of the axis bends to the side, px.
    """
    depth, start, end = (float(start[2]), float(end[2])), start[:2], end[:2]
    axis = end - start
    length = max(float(np.hypot(axis[0], axis[1])), 1e-3)
    ux, uy = (axis / length).tolist()
    angle = _angle(facing, ux, uy)
    cut = 0.0 if tube.cloth is None else tube.cut
    canvas.pieces[tube.owner] = Piece(
        start=start,
        end=end,
        depth=depth,
        radii=tube.radii,
        scale=scale,
        bow=bow,
        angle=angle,
        thick=tube.thick,
        cut=cut,
        labels=tube.labels,
    )
    thick = float(tube.radii.max()) * scale + abs(bow)
    soft = 5 * canvas.grain
    where = canvas.window(np.minimum(start, end), np.maximum(start, end), thick + (soft if tube.shadow else 1))
    if where is None:
        return
    dx, dy = offsets(where, start)
    along, across = dx * ux + dy * uy, dy * ux - dx * uy
    t = np.minimum(np.maximum(along / length, 0), 1)
    radius = tube.radii[(t * (LUT - 1)).astype(np.intp)] * np.float32(scale)
    if bow:
        across = across - (4 * bow) * (t - t * t)
    s = np.minimum(np.maximum(across / radius, -1), 1)
    edge = _edge(tube, along, across, length, radius, s)
    if tube.shadow:
        canvas.darken(where, tube.shadow * np.clip(1 + edge / soft, 0, 1), (*tube.spares, tube.owner))
    at = np.flatnonzero(edge > -0.5)
    cap = (along - t * length) / radius if tube.round_ends else None
    places = _places(canvas, where, at)
    seam = _seam(canvas, tube, places, along.ravel()[at], radius.ravel()[at], length) if tube.fades else None
    _finish_tube(canvas, tube, places, at, (t, s, edge, cap), (ux, uy, angle), seam)


def _seam(canvas: Canvas, tube: Tube, places: Places, along: Floats, radius: Floats, length: float) -> Floats:
    """[N] opacity 0..1: over a neighbour, the ends come out of it gradually."""
    neighbour = np.zeros(256, bool)
    neighbour[list(tube.fades)] = True
    inner = np.minimum(along, length - along) / (1.6 * radius) + np.float32(0.5)
    inner = np.minimum(np.maximum(inner, 0), 1)
    rise: Floats = np.where(neighbour[canvas.owner.ravel()[places]], inner * inner * (3 - 2 * inner), np.float32(1))
    return rise


def _places(canvas: Canvas, where: tuple[slice, slice], at: Places) -> Places:
    """Flat indices on the canvas of flat indices of a window."""
    rows, columns = np.divmod(at, where[1].stop - where[1].start)
    places: Places = (rows + where[0].start) * canvas.owner.shape[1] + (columns + where[1].start)
    return places


def _finish_tube(
    canvas: Canvas,
    tube: Tube,
    places: Places,
    at: Places,
    planes: tuple[Floats, Floats, Floats, Floats | None],
    turn: tuple[float, float, float],
    seam: Floats | None,
) -> None:
    """Colour and truth of the pixels `at` [N] of the window, which are `places` on the canvas; U is the sine of the angle, V the length."""
    t, s, edge = (plane.ravel()[at] for plane in planes[:3] if plane is not None)
    cap = np.zeros(1, np.float32) if planes[3] is None else planes[3].ravel()[at]
    ux, uy, angle = turn
    nz = np.sqrt(np.maximum(1 - s * s - cap * cap, 0))
    colour, folds = _albedo(tube, t, s, angle)
    side = s * np.float32(tube.round)
    toward = nz if tube.round == 1 else np.sqrt(1 - side * side)
    shade = lit(side * np.float32(-uy) + cap * np.float32(ux), side * np.float32(ux) + cap * np.float32(uy), toward) * folds
    alpha = np.minimum(edge + np.float32(0.5), 1)
    picture = canvas.rgb.reshape(-1, 3)
    below, opacity = picture[places], alpha if seam is None else alpha * seam
    picture[places] = below + (np.minimum(colour * shade[:, None], 255) - below) * opacity[:, None]
    sine, cosine = np.float32(np.sin(angle)), np.float32(np.cos(angle))
    truth = np.empty((len(at), 4), np.uint8)
    truth[:, 0] = np.where(s * sine + nz * cosine > 0, tube.parts[1], tube.parts[0])
    truth[:, 1] = np.float32(127.5) + np.float32(127) * (s * cosine - nz * sine)
    truth[:, 2] = 255 * t
    truth[:, 3] = tube.owner
    inside = alpha >= 0.5
    canvas.truth.reshape(-1, 4).view(np.uint32)[places[inside]] = truth[inside].view(np.uint32)
