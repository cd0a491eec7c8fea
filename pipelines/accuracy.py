"""How right an extractor is, against exact ground truth: arithmetic on arrays, one value per frame, NaN where a frame has nothing to judge.

T = frames, K = keypoints, H W = height, width. Coordinates are px.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

# Spread of the annotators for each of COCO's 17 body joints (Lin et al. 2014, keypoint evaluation).
SIGMAS: Floats = np.array([26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]) / 1000
BODY, FACE, HANDS = slice(0, 17), slice(23, 91), slice(91, 133)


def oks(found: npt.ArrayLike, true: npt.ArrayLike, seen: Bools, area: npt.ArrayLike) -> Floats:
    """[T] object keypoint similarity of the 17 body joints, 0..1: mean over seen joints of exp(-d^2 / (2 area (2 sigma)^2)).

    found, true: [T, >= 17, 2];  seen: [T, >= 17];  area: [T] of the person, px^2.
    """
    squared = np.square(np.asarray(found, np.float64)[:, BODY] - np.asarray(true, np.float64)[:, BODY]).sum(-1)
    spread = 2 * np.asarray(area, np.float64)[:, None] * np.square(2 * SIGMAS)
    with np.errstate(divide="ignore", invalid="ignore"):
        return _mean(np.exp(-squared / spread), seen[:, BODY])


def pck(found: npt.ArrayLike, true: npt.ArrayLike, seen: Bools, share: float = 0.1) -> Floats:
    """[T] share of seen points that lie within `share` of the larger side of the box around all true points of the group (Yang & Ramanan 2013).

    found, true: [T, K, 2], one group of points (body, face or one hand);  seen: [T, K].
    """
    points = np.asarray(true, np.float64)
    side = (points.max(1) - points.min(1)).max(-1)
    distance = np.linalg.norm(np.asarray(found, np.float64) - points, axis=-1)
    return _mean(distance <= share * side[:, None], seen)


def keypoint_error(found: npt.ArrayLike, true: npt.ArrayLike, seen: Bools, height: npt.ArrayLike) -> Floats:
    """[T] mean distance of the seen points, in percent of the body's height. height: [T] px."""
    distance = np.linalg.norm(np.asarray(found, np.float64) - np.asarray(true, np.float64), axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return _mean(100 * distance / np.asarray(height, np.float64)[:, None], seen)


def mask_iou(found: Bools, true: Bools) -> Floats:
    """[T] intersection over union of masks [T, H, W]; NaN where both are empty."""
    both, either = (found & true).sum((1, 2)), (found | true).sum((1, 2))
    with np.errstate(invalid="ignore"):
        return np.asarray(both / either, np.float64)


def part_accuracy(found: npt.NDArray[np.uint8], true: npt.NDArray[np.uint8]) -> Floats:
    """[T] share of the true body's pixels with the right one of 24 parts. IUV [T, H, W, 3], part 0 = background."""
    return _mean((found[..., 0] == true[..., 0]).reshape(len(true), -1), (true[..., 0] > 0).reshape(len(true), -1))


def uv_error(found: npt.NDArray[np.uint8], true: npt.NDArray[np.uint8]) -> Floats:
    """[T] mean |difference| of U and V, 0..1, over pixels whose part is right."""
    right = (found[..., 0] == true[..., 0]) & (true[..., 0] > 0)
    difference = np.abs(found[..., 1:].astype(np.float64) - true[..., 1:]).mean(-1) / 255
    return _mean(difference.reshape(len(true), -1), right.reshape(len(true), -1))


def endpoint_error(found: npt.ArrayLike, true: npt.ArrayLike, where: Bools) -> Floats:
    """[T] mean length of the difference of two flows [T, H, W, 2], px, over the pixels `where` [T, H, W] (Baker et al. 2011)."""
    length = np.linalg.norm(np.asarray(found, np.float64) - np.asarray(true, np.float64), axis=-1)
    return _mean(length.reshape(len(length), -1), where.reshape(len(where), -1))


def verification(same: npt.ArrayLike, different: npt.ArrayLike, false_positives: float = 0.01) -> tuple[float, float]:
    """(area under the ROC, true positive rate at a false positive rate) of similarities of pairs.

    The area is the chance that a pair of one person is more similar than a pair of two people, ties counting half
    (Mann & Whitney 1947). Raises ValueError without pairs of either kind.
    """
    positive, negative = np.sort(np.asarray(same, np.float64)), np.sort(np.asarray(different, np.float64))
    if not len(positive) or not len(negative):
        raise ValueError("a ROC needs pairs of one person and pairs of two people")
    below, up_to = np.searchsorted(negative, positive, "left"), np.searchsorted(negative, positive, "right")
    area = float((below + up_to).sum() / 2 / len(positive) / len(negative))
    threshold = negative[len(negative) - 1 - int(false_positives * len(negative))]
    return area, float((positive > threshold).mean())


def _mean(values: npt.ArrayLike, where: Bools) -> Floats:
    """[T, n] -> [T] mean over `where`; NaN where nothing is."""
    chosen = np.where(where, values, 0.0).sum(1)
    count = where.sum(1)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(count > 0, chosen / np.maximum(count, 1), np.nan), np.float64)
