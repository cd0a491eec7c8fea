"""The canvas: colour and truth are painted by the same strokes, in depth order, at twice the final resolution.

A tube is a limb seen as a bent surface: every pixel inside knows its place along the axis and around it, and from that
come its shading, its cloth and its U and V. Small things (fingers, eyes) are OpenCV polygons and lines.
# S = canvas side in px (2 x frame size)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.performers.fabric import TILE, Tile

Floats = npt.NDArray[np.float32]
LIGHT = np.array([-0.42, -0.5, 0.76], np.float32)  # from the upper left, toward the camera; image axes
LUT = 256  # samples of a radius profile
_SHIFT = 4  # OpenCV's fractional bits
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


class Canvas:
    """Colour [S, S, 3], part, u, v [S, S] and owner [S, S], all uint8."""

    def __init__(self, backdrop: npt.NDArray[np.uint8]) -> None:
        self.rgb = backdrop.copy()
        self.part, self.u, self.v, self.owner = (np.zeros(backdrop.shape[:2], np.uint8) for _ in range(4))

    def window(self, low: Floats, high: Floats, margin: float) -> tuple[slice, slice] | None:
        """Rows and columns that cover a box, or None outside the canvas."""
        side = self.rgb.shape[0]
        x0, y0 = (max(0, int(value - margin)) for value in low)
        x1, y1 = (min(side, int(value + margin) + 2) for value in high)
        return (slice(y0, y1), slice(x0, x1)) if x1 > x0 and y1 > y0 else None

    def blend(self, where: tuple[slice, slice], colour: Floats, alpha: Floats) -> None:
        """colour [h, w, 3] over the canvas with alpha [h, w]."""
        below = self.rgb[where]
        self.rgb[where] = below + (colour - below) * alpha[..., None]

    def label(self, where: tuple[slice, slice], inside: npt.NDArray[np.bool_], part: object, u: object, v: object, owner: int) -> None:
        """Write the truth of the pixels inside; part, u, v are numbers or [h, w]."""
        for plane, value in ((self.part, part), (self.u, u), (self.v, v), (self.owner, owner)):
            np.copyto(plane[where], np.asarray(value, np.uint8), where=inside)

    def darken(self, where: tuple[slice, slice], amount: Floats, spares: tuple[int, ...]) -> None:
        """A contact shadow on the person (never on the background), except on the parts in `spares`."""
        owner = self.owner[where]
        on = owner > 0
        for spare in spares:
            on &= owner != spare
        if on.any():
            self.rgb[where] = self.rgb[where] * (1 - amount * on)[..., None]

    def polygon(self, points: Floats, colour: Floats, grow: int = 0) -> None:
        """Filled, antialiased; points [N, 2] px."""
        import cv2

        fixed = [np.round(points * (1 << _SHIFT)).astype(np.int32)]
        cv2.fillPoly(self.rgb, fixed, colour.tolist(), cv2.LINE_AA, _SHIFT)
        if grow > 0:
            cv2.polylines(self.rgb, fixed, True, colour.tolist(), grow, cv2.LINE_AA, _SHIFT)

    def line(self, points: Floats, colour: Floats, width: int) -> None:
        """Antialiased polyline with round joints; points [N, 2] px."""
        import cv2

        cv2.polylines(
            self.rgb,
            [np.round(points * (1 << _SHIFT)).astype(np.int32)],
            False,
            colour.tolist(),
            max(1, width),
            cv2.LINE_AA,
            _SHIFT,
        )

    def disc(self, centre: Floats, radius: float, colour: Floats) -> None:
        """Filled, antialiased circle; px."""
        self._circle(centre, radius, colour, -1)

    def ring(self, centre: Floats, radius: float, colour: Floats, width: int) -> None:
        """Antialiased circle line; px."""
        self._circle(centre, radius, colour, width)

    def _circle(self, centre: Floats, radius: float, colour: Floats, width: int) -> None:
        import cv2

        x, y = (round(float(value) * (1 << _SHIFT)) for value in centre)
        cv2.circle(self.rgb, (x, y), max(1, round(radius * (1 << _SHIFT))), colour.tolist(), width, cv2.LINE_AA, _SHIFT)

    def label_lines(
        self,
        outline: Floats,
        lines: list[Floats],
        width: int,
        part: int,
        owner: int,
        *,
        axis: tuple[Floats, Floats],
        span: float,
    ) -> None:
        """Truth of a hand: the filled outline and the lines; V along `axis`, U across it, both over `span` px."""
        import cv2

        every = np.concatenate([outline, *lines])
        where = self.window(every.min(0), every.max(0), width + 1)
        if where is None:
            return
        offset = np.array([where[1].start, where[0].start], np.float32)
        inside = np.zeros((where[0].stop - where[0].start, where[1].stop - where[1].start), np.uint8)
        cv2.fillPoly(inside, [np.round((outline - offset) * (1 << _SHIFT)).astype(np.int32)], 1, cv2.LINE_8, _SHIFT)
        for line in lines:
            cv2.polylines(
                inside,
                [np.round((line - offset) * (1 << _SHIFT)).astype(np.int32)],
                False,
                1,
                width,
                cv2.LINE_8,
                _SHIFT,
            )
        direction = (axis[1] - axis[0]) / max(float(np.hypot(*(axis[1] - axis[0]))), 1e-3)
        dx, dy = _offsets(where, axis[0])
        along, across = dx * direction[0] + dy * direction[1], dy * direction[0] - dx * direction[1]
        u, v = np.clip(127 + 200 * across / span, 0, 255), np.clip(255 * (along / span + 0.05), 0, 255)
        self.label(where, inside > 0, part, u, v, owner)


def _offsets(where: tuple[slice, slice], origin: Floats) -> tuple[Floats, Floats]:
    """(dx [1, w], dy [h, 1]) of pixel centres from a point."""
    rows, columns = where
    return (np.arange(columns.start, columns.stop, dtype=np.float32) - origin[0])[None], (
        np.arange(rows.start, rows.stop, dtype=np.float32) - origin[1]
    )[:, None]


def lit(nx: Floats, ny: Floats, nz: Floats) -> Floats:
    """Brightness of a surface normal, about 0.45 to 1.12: wrapped Lambert, darker at grazing angles."""
    light = nx * LIGHT[0] + ny * LIGHT[1] + nz * LIGHT[2]
    shade: Floats = (0.62 + 0.44 * light) * (0.8 + 0.2 * nz) + 0.06
    return shade


def _albedo(tube: Tube, t: Floats, s: Floats) -> tuple[Floats, Floats]:
    """(colour [h, w, 3], folds [h, w]) of the surface at t along, s across (-1..1)."""
    if tube.cloth is None or tube.cut <= 0:
        return np.broadcast_to(tube.skin, (*t.shape, 3)), np.ones((1, 1), np.float32)
    around = _AROUND[((s + 1) * 64).astype(np.intp)]
    rows = (t * (tube.repeat * TILE)).astype(np.intp) % TILE
    columns = (around * (tube.wraps * TILE)).astype(np.intp) % TILE
    colour = tube.cloth[rows, columns]
    folds = np.ones((1, 1), np.float32)
    if tube.fold > 0:
        wave = np.sin(t * 17 + s * 2.6 + tube.fold_phase) + np.sin(t * 29 - s * 3.7 + 2 * tube.fold_phase)
        folds = 1 + (0.055 * tube.fold) * wave
    if tube.cut < 1:
        bare = t > tube.cut
        colour = np.where(bare[..., None], tube.skin, colour)
        folds = np.where(bare, 1 - 0.22 * np.clip(1 - (t - tube.cut) * 9, 0, 1), folds)  # the sleeve's shadow
    return colour, folds


def _edge(tube: Tube, along: Floats, across: Floats, length: float, radius: Floats, s: Floats) -> Floats:
    """Distance to the outline in px, positive inside; a hem hangs a little lower in the middle, as a circle seen from above."""
    before = np.minimum(along, 0) * (not tube.flat[0])
    after = np.maximum(along - length, 0) * (not tube.flat[1])
    edge: Floats = radius - np.sqrt(across * across + (before + after) ** 2)
    if any(tube.flat):
        hang = 1 + 0.07 * radius * (1 - s * s)
        if tube.flat[0]:
            edge = np.minimum(edge, along + hang)
        if tube.flat[1]:
            edge = np.minimum(edge, length - along + hang)
    return edge


def paint_tube(canvas: Canvas, tube: Tube, start: Floats, end: Floats, facing: Floats, *, scale: float = 1.0, bow: float = 0.0) -> None:
    """Paint from `start` to `end` [2] px.

    facing: [3] the part's front as a unit vector in image axes (z to the camera).  scale: factor on the radii.
    bow: how far the middle of the axis bends to the side, px.
    """
    axis = end - start
    length = max(float(np.hypot(axis[0], axis[1])), 1e-3)
    ux, uy = (axis / length).tolist()
    thick = float(tube.radii.max()) * scale + abs(bow)
    where = canvas.window(np.minimum(start, end), np.maximum(start, end), thick + (5 if tube.shadow else 1))
    if where is None:
        return
    dx, dy = _offsets(where, start)
    along, across = dx * ux + dy * uy, dy * ux - dx * uy
    t = np.clip(along / length, 0, 1)
    radius = tube.radii[(t * (LUT - 1)).astype(np.intp)] * np.float32(scale)
    if bow:
        across = across - (4 * bow) * (t - t * t)
    s = np.clip(across / radius, -1, 1)
    edge = _edge(tube, along, across, length, radius, s)
    if tube.shadow:
        canvas.darken(where, tube.shadow * np.clip(1 + edge / 5, 0, 1), (*tube.spares, tube.owner))
    alpha = np.clip(edge + 0.5, 0, 1)
    cap = (along - t * length) / radius if tube.round_ends else np.zeros((1, 1), np.float32)
    nz = np.sqrt(np.clip(1 - s * s - cap * cap, 0, 1))
    colour, folds = _albedo(tube, t, s)
    shade = lit(s * -uy + cap * ux, s * ux + cap * uy, nz) * folds
    canvas.blend(where, np.clip(colour * shade[..., None], 0, 255), alpha)
    across_facing = facing[0] * -uy + facing[1] * ux
    front = s * across_facing + nz * facing[2]
    around = s * facing[2] - nz * across_facing
    part = np.where(front > 0, tube.parts[1], tube.parts[0])
    canvas.label(where, alpha >= 0.5, part, 127.5 + 127 * np.clip(around, -1, 1), 255 * t, tube.owner)
