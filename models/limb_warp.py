"""A picture of a person carried to another pose, limb by limb: what can be had without any learning.

Each limb is cut out of the reference and laid where the other pose has it, as Balakrishnan et al. 2018 ("Synthesizing Images of Humans in Unseen
Poses", Sec. 3.1) move layers by the transform of their limb, here by keypoints alone and without learned masks; behind them is the reference with
its person taken out. No paper of the methods here does this: it is a baseline (models/baselines/warp_reference.py) and an addition of the demo.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from models.fitting import Points
from pipelines.clip import Frames

Affine = NDArray[np.float64]  # [2, 3]: (x, y, 1) of the reference -> (x, y) of the pose
Mask = NDArray[np.uint8]  # [H, W]: how much of a pixel belongs to a limb, 0..255

_SEEN = 0.3  # least score of a keypoint
_SUBPIXEL = 4  # bits behind the point in cv2's drawing
_LEAST_BONE = 0.15  # of the body's unit: a bone that points at the camera says little of its direction
_HOLE = 1.15  # times the width of the limbs: what is taken out behind them
_SHOULDERS, _HIPS = (5, 6), (11, 12)
_HEAD = (0, 1, 2, 3, 4, *range(23, 91))
_HEAD_RADII = 2.0  # of the spread of the head's keypoints: hair is above and beside them
_HEAD_HOLE = 1.25  # times that: long hair hangs further out, and what stays behind is a second head
_RESIZED = (0.75, 1.33)  # of a hand, foot or head: keypoints come together where one turns, the thing itself does not shrink


@dataclass(frozen=True, kw_only=True, slots=True)
class Limb:
    """Keypoints (of 133) of one limb, how it moves, and how far it reaches beyond them, in units of the shoulders' width.

    bone: along two points, stretched with them, never thicker. rigid: turned and scaled as a whole. plane: any affine map.
    """

    points: tuple[int, ...]
    moves: Literal["bone", "rigid", "plane"]
    reach: float


def _hand(wrist: int, first: int) -> Limb:
    return Limb(points=(wrist, *range(first, first + 21)), moves="rigid", reach=0.05)


# from back to front
LIMBS: tuple[Limb, ...] = (
    *(Limb(points=points, moves="bone", reach=0.3) for points in ((11, 13), (12, 14))),
    *(Limb(points=points, moves="bone", reach=0.24) for points in ((13, 15), (14, 16))),
    *(Limb(points=points, moves="rigid", reach=0.07) for points in ((15, 17, 18, 19), (16, 20, 21, 22))),
    Limb(points=(*_SHOULDERS, *_HIPS), moves="plane", reach=0.18),
    Limb(points=_HEAD, moves="rigid", reach=0.0),
    *(Limb(points=points, moves="bone", reach=0.2) for points in ((5, 7), (6, 8))),
    *(Limb(points=points, moves="bone", reach=0.17) for points in ((7, 9), (8, 10))),
    _hand(9, 91),
    _hand(10, 112),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Layer:
    """A limb of the reference: its pixels and how much of each is its own, uint8 [h, w, 4], and where they were."""

    limb: Limb
    pixels: Frames
    corner: tuple[int, int]  # x, y


class LimbWarp:
    """One reference, ready to be carried to any number of poses.

    image: uint8 [H, W, 3]. points: [133, 2] in its pixels, scores: [133] in 0..1. A limb whose keypoints are not seen (score up to 0.3), here or
    in the pose, is left out; a person of whom nothing is seen stays where it is.
    """

    def __init__(self, image: Frames, points: Points, scores: Points) -> None:
        self._points, self._scores, self._unit = points.astype(np.float64), scores, _unit(points)
        size = (image.shape[0], image.shape[1])
        masks = [(limb, self._mask(limb, size, 1.0)) for limb in LIMBS if _seen(limb, scores)]
        self._layers = [_layer(limb, image, mask) for limb, mask in masks if mask.any()]
        hole = np.zeros(size, np.uint8)
        for limb, _ in masks:
            np.maximum(hole, self._mask(limb, size, _HEAD_HOLE if limb.points == _HEAD else _HOLE), out=hole)
        self.background: Frames = filled_by_rows(image, cv2.dilate(hole, np.ones((3, 3), np.uint8)) > 0)

    def __call__(self, points: Points, scores: Points) -> Frames:
        """uint8 [H, W, 3]: the person in the pose of points [133, 2] (pixels) with scores [133]."""
        canvas = self.background.astype(np.float32)
        for layer in self._layers:
            seen = [index for index in layer.limb.points if self._scores[index] > _SEEN and scores[index] > _SEEN]
            if len(seen) >= _needed(layer.limb):
                _lay(canvas, layer, _moved(layer.limb, self._points[seen], points[seen].astype(np.float64), self._unit))
        done: Frames = canvas.round().clip(0, 255).astype(np.uint8)
        return done

    def _mask(self, limb: Limb, size: tuple[int, int], grow: float) -> Mask:
        seen = [index for index in limb.points if self._scores[index] > _SEEN]
        if limb.points == _HEAD:
            return _head_mask(self._points, seen, size, grow)
        hull = cv2.convexHull(_fixed(self._points[seen]))
        mask: Mask = np.zeros(size, np.uint8)
        cv2.fillConvexPoly(mask, hull, 255, cv2.LINE_AA, _SUBPIXEL)
        cv2.polylines(mask, [hull], True, 255, max(1, round(2 * limb.reach * self._unit * grow)), cv2.LINE_AA, _SUBPIXEL)
        return mask


def filled_by_rows(image: Frames, hole: NDArray[np.bool_]) -> Frames:
    """uint8 [H, W, 3] with the pixels of `hole` [H, W] drawn from what is left and right of them, linearly; a row that is all hole stays.

    Floors and skylines run through behind a person; cv2's inpainting lets the ground flow up between the feet (0.2 dB less on performers).
    """
    filled, columns = image.copy(), np.arange(image.shape[1])
    for row in np.flatnonzero(hole.any(axis=1) & ~hole.all(axis=1)):
        known = ~hole[row]
        for channel in range(3):
            drawn = np.interp(columns[hole[row]], columns[known], image[row, known, channel])
            filled[row, hole[row], channel] = drawn.round().astype(np.uint8)
    return filled


def _unit(points: Points) -> float:
    """Width of the shoulders in pixels; of a person seen from the side what the trunk's length says of it."""
    left, right = (points[index].astype(np.float64) for index in _SHOULDERS)
    trunk = (left + right - points[_HIPS[0]] - points[_HIPS[1]]) / 2
    return max(float(np.linalg.norm(left - right)), 0.6 * float(np.linalg.norm(trunk)), 4.0)


def _needed(limb: Limb) -> int:
    """Keypoints that must be seen: all of a bone or a plane, three where many points move as one."""
    return len(limb.points) if len(limb.points) <= 4 else 3


def _seen(limb: Limb, scores: Points) -> bool:
    return sum(bool(scores[index] > _SEEN) for index in limb.points) >= _needed(limb)


def _fixed(points: NDArray[np.float64]) -> NDArray[np.int32]:
    """cv2's fixed-point coordinates."""
    return np.round(points * 2**_SUBPIXEL).astype(np.int32)


def _head_mask(points: NDArray[np.float64], seen: Sequence[int], size: tuple[int, int], grow: float) -> Mask:
    """A capsule from the chin to the top of the hair: keypoints end at the brows."""
    centre = points[seen].mean(axis=0)
    radius = float(np.sqrt(np.square(points[seen] - centre).sum(axis=1).mean()))
    up = centre - (points[_SHOULDERS[0]] + points[_SHOULDERS[1]]) / 2
    reach = up / max(float(np.linalg.norm(up)), 1e-3) * 0.9 * radius
    (top, chin), mask = _fixed(np.stack([centre + reach, centre - reach])).tolist(), np.zeros(size, np.uint8)
    cv2.line(mask, top, chin, 255, max(1, round(2 * _HEAD_RADII * radius * grow)), cv2.LINE_AA, _SUBPIXEL)
    return mask


def _layer(limb: Limb, image: Frames, mask: Mask) -> _Layer:
    """The pixels around the mask, with a margin in which nothing is the limb's."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    top, left = max(0, int(rows[0]) - 1), max(0, int(columns[0]) - 1)
    part = np.s_[top : int(rows[-1]) + 2, left : int(columns[-1]) + 2]
    return _Layer(limb=limb, pixels=np.dstack([image[part], mask[part]]), corner=(left, top))


def _moved(limb: Limb, before: NDArray[np.float64], after: NDArray[np.float64], unit: float) -> Affine:
    """The map of a limb from its keypoints [N, 2] in the reference to those of the pose."""
    if limb.moves == "bone":
        return _bone(before, after, unit)
    if limb.moves == "plane":
        return _plane(before, after)
    return _similarity(before, after)


def _plane(before: NDArray[np.float64], after: NDArray[np.float64]) -> Affine:
    """Least squares over all affine maps."""
    solved: Affine = np.linalg.lstsq(np.column_stack([before, np.ones(len(before))]), after, rcond=None)[0].T
    return solved


def _bone(before: NDArray[np.float64], after: NDArray[np.float64], unit: float) -> Affine:
    """Takes the segment before[0]..before[1] to after[0]..after[1]; what is across keeps its width."""
    (u, length), (v, longer) = (_direction(ends[1] - ends[0], _LEAST_BONE * unit) for ends in (before, after))
    turn = np.array([[v[0], -v[1]], [v[1], v[0]]]) @ np.diag([longer / length, 1.0]) @ np.array([[u[0], u[1]], [-u[1], u[0]]])
    return np.column_stack([turn, after[0] - turn @ before[0]])


def _direction(vector: NDArray[np.float64], least: float) -> tuple[NDArray[np.float64], float]:
    """(unit vector, length but not under `least`)."""
    length = float(np.linalg.norm(vector))
    return (vector / length if length > 1e-6 else np.array([0.0, 1.0])), max(length, least)


def _similarity(before: NDArray[np.float64], after: NDArray[np.float64]) -> Affine:
    """Least squares over turn, scale and shift (Umeyama 1991; no mirror image in two unknowns)."""
    a, b = before - before.mean(axis=0), after - after.mean(axis=0)
    spread = max(float(np.square(a).sum()), 1e-6)
    c, s = float((a * b).sum()) / spread, float((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()) / spread
    scale = max(float(np.hypot(c, s)), 1e-6)
    turn = np.array([[c, -s], [s, c]]) * (np.clip(scale, *_RESIZED) / scale)
    return np.column_stack([turn, after.mean(axis=0) - turn @ before.mean(axis=0)])


def _lay(canvas: NDArray[np.float32], layer: _Layer, affine: Affine) -> None:
    """Draw a layer over the canvas [H, W, 3], in the part of it that the layer reaches."""
    (height, width), shift = layer.pixels.shape[:2], np.array(layer.corner, np.float64)
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]]) + shift
    reached = corners @ affine[:, :2].T + affine[:, 2]
    left, top = np.floor(reached.min(axis=0)).clip(0, None).astype(int)
    right, bottom = np.minimum(np.ceil(reached.max(axis=0)).astype(int) + 1, canvas.shape[1::-1])
    if right <= left or bottom <= top:
        return
    local = np.column_stack([affine[:, :2], affine @ np.append(shift, 1.0) - (left, top)])
    drawn = cv2.warpAffine(
        layer.pixels, local, (int(right - left), int(bottom - top)), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
    )
    share = drawn[..., 3:].astype(np.float32) / 255
    part = canvas[top:bottom, left:right]
    part += share * (drawn[..., :3] - part)
