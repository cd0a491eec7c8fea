"""The canvas: colour and truth are painted by the same strokes, in depth order, at twice the final resolution.

Limbs are painted by tube.py; small things (fingers, eyes) are OpenCV polygons and lines.
# H, W = canvas size in px (2 x frame size)
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipelines.performers.piece import Floats, Piece

LIGHT = np.array([-0.42, -0.5, 0.76], np.float32)  # from the upper left, toward the camera; image axes
_SHIFT = 4  # OpenCV's fractional bits


class Canvas:
    """Colour [H, W, 3] and truth [H, W, 4] = part, u, v, owner, all uint8, of one person over a backdrop that is painted on.

    grain: px that a detail of the smallest size spans: 1 where a body is 220 px high.  pieces: the tubes painted, by owner.
    """

    def __init__(self, backdrop: npt.NDArray[np.uint8], grain: float = 1.0) -> None:
        self.rgb, self.grain = backdrop, max(grain, 0.5)
        self.truth = np.zeros((*backdrop.shape[:2], 4), np.uint8)
        self.part, self.u, self.v, self.owner = np.moveaxis(self.truth, -1, 0)  # views
        self.pieces: dict[int, Piece] = {}

    def window(self, low: Floats, high: Floats, margin: float) -> tuple[slice, slice] | None:
        """Rows and columns that cover a box, or None outside the canvas."""
        height, width = self.owner.shape
        x0, y0 = (max(0, int(value - margin)) for value in low)
        x1, y1 = min(width, int(high[0] + margin) + 2), min(height, int(high[1] + margin) + 2)
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
        spared = np.ones(256, bool)
        spared[1:] = False
        spared[list(spares)] = True
        at = np.nonzero((amount > 0) & ~spared[self.owner[where]])
        if len(at[0]):
            picture = self.rgb[where]
            picture[at] = picture[at] * (1 - amount[at])[:, None]

    def polygon(self, points: Floats, colour: Floats, grow: int = 0) -> None:
        """Filled, antialiased; points [N, 2] px."""
        import cv2

        fixed = [np.round(points * (1 << _SHIFT)).astype(np.int32)]
        cv2.fillPoly(self.rgb, fixed, colour.tolist(), cv2.LINE_AA, _SHIFT)
        if grow > 0:
            cv2.polylines(self.rgb, fixed, True, colour.tolist(), grow, cv2.LINE_AA, _SHIFT)

    def line(self, points: Floats, colour: Floats, width: float) -> None:
        """Antialiased polyline with round joints; points [N, 2] px."""
        import cv2

        cv2.polylines(
            self.rgb,
            [np.round(points * (1 << _SHIFT)).astype(np.int32)],
            False,
            colour.tolist(),
            max(1, round(width)),
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

    def label_disc(self, centre: Floats, radius: float, part: int, owner: int) -> None:
        """Truth of a disc that lies on nobody yet, or on the person's own head; px."""
        where = self.window(centre[:2], centre[:2], radius + 1)
        if where is not None:
            dx, dy = offsets(where, centre)
            self.label(where, dx * dx + dy * dy <= radius * radius, part, 127, 127, owner)

    def reassign(self, points: Floats, owner: int, of: int) -> None:
        """Give the pixels of a polygon [N, 2] that belong to the part `of` to another one, e.g. a neckline cut into a shirt."""
        import cv2

        where = self.window(points.min(0), points.max(0), 1)
        if where is None:
            return
        inside = np.zeros(self.owner[where].shape, np.uint8)
        offset = np.array([where[1].start, where[0].start], np.float32)
        cv2.fillPoly(inside, [np.round((points - offset) * (1 << _SHIFT)).astype(np.int32)], 1, cv2.LINE_8, _SHIFT)
        self.owner[where][(inside > 0) & (self.owner[where] == of)] = owner

    def tint(self, points: Floats, colour: Floats, owner: int, grow: float = 0.0, opacity: float = 1.0) -> None:
        """An antialiased polygon [N, 2] px on one body part only, e.g. a neckline on a shirt."""
        import cv2

        where = self.window(points.min(0), points.max(0), grow + 2)
        if where is None:
            return
        alpha = np.zeros(self.owner[where].shape, np.uint8)
        fixed = [np.round((points - np.array([where[1].start, where[0].start])) * (1 << _SHIFT)).astype(np.int32)]
        cv2.fillPoly(alpha, fixed, 255, cv2.LINE_AA, _SHIFT)
        if grow > 0:
            cv2.polylines(alpha, fixed, True, 255, max(1, round(2 * grow)), cv2.LINE_AA, _SHIFT)
        self.blend(where, np.broadcast_to(colour, (*alpha.shape, 3)), alpha * (self.owner[where] == owner) * np.float32(opacity / 255))

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
        dx, dy = offsets(where, axis[0])
        along, across = dx * direction[0] + dy * direction[1], dy * direction[0] - dx * direction[1]
        u, v = np.clip(127 + 200 * across / span, 0, 255), np.clip(255 * (along / span + 0.05), 0, 255)
        self.label(where, inside > 0, part, u, v, owner)


def offsets(where: tuple[slice, slice], origin: Floats) -> tuple[Floats, Floats]:
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
