"""Boxes of detectors: overlap, non-maximum suppression, letterboxing, tracking by overlap. Arithmetic only, no network.

A box is (x1, y1, x2, y2) in pixels, origin top left. n, m = boxes, T = frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.clip import Frames

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

SMALLEST_IOU = 0.3  # between two sightings of one track
PATIENCE_FRAMES = 30  # a track that was not seen for longer gets no further boxes


@dataclass(frozen=True, slots=True)
class People:
    """The boxes of one frame: boxes [n, 4], scores [n] in 0..1, tracks [n], the same person has the same number."""

    boxes: Floats
    scores: Floats
    tracks: Ints


def iou(a: Floats, b: Floats, pixel: float = 0.0) -> Floats:
    """Intersection over union of every pair, [n, 4] and [m, 4] -> [n, m] in 0..1.

    pixel: 1 where a box ends with the last pixel that it covers (so its width is x2 - x1 + 1), 0 where it ends after it.
    """
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.prod(np.clip(high - low + pixel, 0, None), axis=2)
    both = np.prod(a[:, 2:] - a[:, :2] + pixel, axis=1)[:, None] + np.prod(b[:, 2:] - b[:, :2] + pixel, axis=1)[None] - shared
    return np.asarray(np.divide(shared, both, out=np.zeros_like(shared), where=both > 0))


def nms(boxes: Floats, scores: Floats, threshold: float, pixel: float = 1.0) -> npt.NDArray[np.intp]:
    """Indices of the boxes [n, 4] to keep, best score [n] first; a box that overlaps a better one by more than threshold goes.

    The published post-processing of YOLOX, SCRFD and RetinaFace counts the last pixel (pixel=1); torchvision does not (0).
    """
    order = np.argsort(-scores, kind="stable")
    ranked, keep = boxes[order], np.ones(len(order), bool)
    for i in range(len(order)):
        if keep[i]:
            keep[i + 1 :] &= iou(ranked[i : i + 1], ranked[i + 1 :], pixel)[0] <= threshold
    kept: npt.NDArray[np.intp] = order[keep]
    return kept


def letterbox(frames: Frames, size: tuple[int, int], fill: int) -> tuple[Frames, float]:
    """Frames [N, H, W, 3] scaled to fit size (height, width), at the top left of a canvas of grey level `fill`.

    Returns the canvases [N, h, w, 3] and the scale: a point of the canvas divided by it is a point of the frame. The scaled
    frame's sides are rounded down, as YOLOX and SCRFD do.
    """
    import cv2

    _, height, width, _ = frames.shape
    scale = min(size[0] / height, size[1] / width)
    inside = (max(int(width * scale), 1), max(int(height * scale), 1))
    if inside == (width, height) and inside == size[::-1]:
        return frames, scale
    canvas = np.full((len(frames), *size, 3), fill, np.uint8)
    for image, target in zip(frames, canvas, strict=True):
        target[: inside[1], : inside[0]] = cv2.resize(image, inside, interpolation=cv2.INTER_LINEAR)
    return canvas, scale


def track(boxes: Sequence[Floats], smallest_iou: float = SMALLEST_IOU, patience: int = PATIENCE_FRAMES) -> list[Ints]:
    """Numbers for the boxes [n, 4] of each of T frames: the same number for the same person, counted from 0 as they appear.

    In every frame the tracks' last boxes are paired with the frame's so that the sum of overlaps is largest.
    """
    last: dict[int, tuple[Floats, int]] = {}
    numbers = []
    for frame, found in enumerate(boxes):
        alive = [number for number, (_, seen) in last.items() if frame - seen <= patience]
        paired = _pair(np.array([last[number][0] for number in alive], np.float32).reshape(-1, 4), found, smallest_iou)
        own = np.full(len(found), -1, np.int32)
        for old, new in paired:
            own[new] = alive[old]
        fresh = np.flatnonzero(own < 0)
        own[fresh] = np.arange(len(fresh)) + len(last)
        last.update({int(number): (box, frame) for number, box in zip(own, found, strict=True)})
        numbers.append(own)
    return numbers


def _pair(old: Floats, new: Floats, smallest_iou: float) -> list[tuple[int, int]]:
    from scipy.optimize import linear_sum_assignment

    overlap = iou(old, new)
    overlap[overlap < smallest_iou] = 0
    rows, columns = linear_sum_assignment(-overlap)
    return [(int(row), int(column)) for row, column in zip(rows, columns, strict=True) if overlap[row, column] > 0]


def fill_between(seen: Mapping[int, People], num_frames: int) -> list[People]:
    """People of all T frames from those of some frames, the first and the last among them.

    A track seen on both sides moves along a straight line with the lower of the two scores; one seen on one side only is
    held over the half that is nearer to it.
    """
    marks = sorted(seen)
    return [seen[frame] if frame in seen else _between(seen, marks, frame) for frame in range(num_frames)]


def _between(seen: Mapping[int, People], marks: Sequence[int], frame: int) -> People:
    after = int(np.searchsorted(marks, frame))
    start, end = marks[after - 1], marks[after]
    share = (frame - start) / (end - start)
    before, later = seen[start], seen[end]
    shared, i, j = np.intersect1d(before.tracks, later.tracks, return_indices=True)
    boxes = before.boxes[i] * (1 - share) + later.boxes[j] * share
    nearer = before if share <= 0.5 else later
    alone = ~np.isin(nearer.tracks, shared)
    return People(
        boxes=np.concatenate([boxes, nearer.boxes[alone]]).astype(np.float32),
        scores=np.concatenate([np.minimum(before.scores[i], later.scores[j]), nearer.scores[alone]]).astype(np.float32),
        tracks=np.concatenate([shared, nearer.tracks[alone]]).astype(np.int32),
    )
