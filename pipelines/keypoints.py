"""Whole-body keypoints: layouts and the drawn skeleton. Geometry only, no network.

The layout is COCO-WholeBody (Jin et al. 2020): 17 body, 6 feet, 68 face (iBUG order), 21 + 21 hand points. Left and
right are the person's own. Points are (x, y) in pixels, origin at the top left corner of the image; a point below
VISIBLE keeps its coordinates but is never drawn nor fitted.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

# T = frames, N = points
Points = npt.NDArray[np.float32]
"""[..., N, 2] pixels (x, y)."""
Scores = npt.NDArray[np.float32]
"""[..., N] in 0..1."""
Image = npt.NDArray[np.uint8]

KEYPOINTS = 133
VISIBLE = 0.3  # a point scoring more is drawn and fitted
BODY, FEET, FACE = slice(0, 17), slice(17, 23), slice(23, 91)
LEFT_HAND, RIGHT_HAND = slice(91, 112), slice(112, 133)

# OpenPose order: 0 nose, 1 neck, 2-4 right arm, 5-7 left arm, 8-10 right leg, 11-13 left leg, 14-17 eyes and ears.
BODY_LIMBS = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13),
    (1, 0), (0, 14), (14, 16), (0, 15), (15, 17),
)  # fmt: skip
HAND_BONES = tuple((0 if i == 0 else 4 * finger + i, 4 * finger + i + 1) for finger in range(5) for i in range(4))

# body of 134 <- 17 body points with the neck appended as 17
_OPENPOSE_FROM = [0, 17, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3]  # fmt: skip

_TURN = np.linspace(0, 2 * np.pi, 33)[:-1, None]  # of a limb's outline


def _mirror_table() -> tuple[int, ...]:
    """Index of the point that each point becomes when the image is flipped left to right."""
    ibug = {**{i: 16 - i for i in range(17)}, **{i: 43 - i for i in range(17, 27)}, **{i: i for i in range(27, 31)},
            **{i: 66 - i for i in range(31, 36)}, 36: 45, 37: 44, 38: 43, 39: 42, 40: 47, 41: 46,
            **{i: 102 - i for i in range(48, 55)}, **{i: 114 - i for i in range(55, 60)},
            **{i: 124 - i for i in range(60, 65)}, **{i: 132 - i for i in range(65, 68)}}  # fmt: skip
    ibug.update({twin: point for point, twin in list(ibug.items())})
    body = [0, *(i + 1 if i % 2 else i - 1 for i in range(1, 17))]
    return (*body, 20, 21, 22, 17, 18, 19, *(23 + ibug[i] for i in range(68)), *range(112, 133), *range(91, 112))


MIRROR = _mirror_table()


def to_openpose(points: Points, scores: Scores) -> tuple[Points, Scores]:
    """COCO-WholeBody to the OpenPose order with a neck: ([..., 133, 2], [..., 133]) -> ([..., 134, 2], [..., 134]).

    The neck is the middle of the shoulders; its score is 1 where both are visible, else 0.
    """
    neck = (points[..., 5:6, :] + points[..., 6:7, :]) / 2
    seen = ((scores[..., 5:6] > VISIBLE) & (scores[..., 6:7] > VISIBLE)).astype(scores.dtype)
    body = np.concatenate([points[..., BODY, :], neck], axis=-2)[..., _OPENPOSE_FROM, :]
    body_scores = np.concatenate([scores[..., BODY], seen], axis=-1)[..., _OPENPOSE_FROM]
    points134 = np.concatenate([body, points[..., 17:, :]], axis=-2)
    return points134, np.concatenate([body_scores, scores[..., 17:]], axis=-1)


def scale_points(points: Points, from_size: tuple[int, int], to_size: tuple[int, int]) -> Points:
    """Points of an image of size (height, width) in the same image resized; its top left corner is (0, 0) in both."""
    factor = np.array([to_size[1] / from_size[1], to_size[0] / from_size[0]], np.float32)
    return (points * factor).astype(np.float32)


def draw_skeleton(
    points: Points,
    scores: Scores,
    height: int,
    width: int,
    *,
    face: bool = True,
    hands: bool = True,
    style: Literal["binary", "confidence"] = "binary",
) -> Image:
    """The pose image of one person on black: body limbs and joints, hand bones, face points.

    points [133, 2] in canvas pixels, scores [133]; returns uint8 RGB [height, width, 3]. "binary" draws what is visible
    in full colour (Moore-AnimateAnyone), "confidence" multiplies the colour with the scores (MimicMotion).
    """
    # Public code draws fixed widths on canvases near 512 px (binary) or 2160 px (confidence, resized afterwards). We
    # scale the widths with the short side in both styles, so that a canvas of 128 px is legible.
    pen = _Pen(*to_openpose(points, scores), np.zeros((height, width, 3), np.uint8), weighted=style == "confidence")
    _draw_body(pen)
    if hands:
        _draw_hand(pen, first=92)
        _draw_hand(pen, first=113)
    if face:
        for index in range(24, 92):
            pen.dot(index, (255, 255, 255), radius=3)
    return pen.canvas


@lru_cache(maxsize=64)
def _rainbow(index: int, count: int) -> tuple[int, int, int]:
    """`index` of `count` evenly spaced hues, RGB 0..255; 18 of them are OpenPose's body palette."""
    red, green, blue = colorsys.hsv_to_rgb(index / count, 1, 1)
    return round(red * 255), round(green * 255), round(blue * 255)


def _draw_body(pen: _Pen) -> None:
    pen.limbs(BODY_LIMBS, [_rainbow(index, 18) for index in range(len(BODY_LIMBS))], half_width=4)
    pen.canvas = (pen.canvas * 0.6).astype(np.uint8)
    for index in range(18):
        pen.dot(index, _rainbow(index, 18), radius=4)


def _draw_hand(pen: _Pen, first: int) -> None:
    for index, (a, b) in enumerate(HAND_BONES):
        pen.line(first + a, first + b, _rainbow(index, 20), thickness=2)
    for index in range(first, first + 21):
        pen.dot(index, (0, 0, 255), radius=4)


class _Pen:
    """Draws what is visible of the points [N, 2] with scores [N], at subpixel positions, with sizes in units of short side / 512, at least one pixel.

    What every point needs is worked out once for all of them: of a frame's time, little is left but the drawing.
    """

    _SHIFT = 4  # cv2 fixed point: 1/16 px

    def __init__(self, points: Points, scores: Scores, canvas: Image, *, weighted: bool) -> None:
        self.canvas, self.unit = canvas, min(canvas.shape[:2]) / 512
        # finite, and within reach of the canvas: far points would overflow cv2's fixed point; NaN is neither
        near = (np.abs(points) < 10 * max(canvas.shape)).all(axis=-1)
        seen = (scores > VISIBLE) & near
        self._seen: list[bool] = seen.tolist()
        self._points = np.where(seen[:, None], points, 0)
        self._fixed: list[list[int]] = self._to_fixed(self._points).tolist()
        self._share = np.clip(scores, 0, 1).astype(np.float32) if weighted else None

    def limbs(self, pairs: Sequence[tuple[int, int]], colours: Sequence[tuple[int, int, int]], half_width: float) -> None:
        """Filled ellipses between pairs of points."""
        import cv2

        ends = self._points[np.array(pairs)]
        centres, axes = ends.mean(axis=1), (ends[:, 1] - ends[:, 0]) / 2
        lengths = np.hypot(axes[:, 0], axes[:, 1])
        across = (
            axes[:, ::-1] * np.array([-1, 1], axes.dtype) / np.where(lengths > 0, lengths, 1)[:, None] * max(half_width * self.unit, 0.5)
        )
        outlines = self._to_fixed(centres[:, None] + np.cos(_TURN) * axes[:, None] + np.sin(_TURN) * across[:, None])
        for (a, b), length, outline, colour in zip(pairs, lengths.tolist(), outlines, colours, strict=True):
            if self._seen[a] and self._seen[b] and length > 0:
                cv2.fillConvexPoly(self.canvas, outline, self._shade(colour, a, b), shift=self._SHIFT)

    def line(self, a: int, b: int, colour: tuple[int, int, int], thickness: float) -> None:
        """A straight stroke between two points."""
        import cv2

        if self._seen[a] and self._seen[b]:
            width = max(1, round(thickness * self.unit))
            cv2.line(self.canvas, self._fixed[a], self._fixed[b], self._shade(colour, a, b), width, shift=self._SHIFT)

    def dot(self, index: int, colour: tuple[int, int, int], radius: float) -> None:
        """A filled circle."""
        import cv2

        if self._seen[index]:
            fixed_radius = round(max(radius * self.unit, 0.5) * (1 << self._SHIFT))
            cv2.circle(self.canvas, self._fixed[index], fixed_radius, self._shade(colour, index), -1, shift=self._SHIFT)

    def _to_fixed(self, points: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
        # pixel i covers [i, i + 1): its centre is i + 0.5, where cv2 means i
        fixed: npt.NDArray[np.int32] = np.rint((points - 0.5) * (1 << self._SHIFT)).astype(np.int32)
        return fixed

    def _shade(self, colour: tuple[int, int, int], *points: int) -> tuple[float, float, float]:
        factor = 1.0 if self._share is None else float(self._share[list(points)].prod())
        return colour[0] * factor, colour[1] * factor, colour[2] * factor
