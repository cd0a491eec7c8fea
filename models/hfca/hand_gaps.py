"""The gap between two neighbouring fingers and the structuring element that opens it (Sec. 3.3, Eq. 6)."""

# a hand = 21 points [21, 2] (x, y) px, COCO-WholeBody: the wrist, then thumb to little finger, tips last

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from models.hfca.config import HandDetail
from pipelines.keypoints import Points

Mask = npt.NDArray[np.uint8]
Kernel = npt.NDArray[np.uint8]

CHAINS = ((2, 3, 4), (5, 6, 7, 8), (9, 10, 11, 12), (13, 14, 15, 16), (17, 18, 19, 20))
"""Joints of the five fingers from the knuckle (MCP) to the tip."""

_LARGEST_RADIUS, _WIDEST = 6, 4  # px of the disk and of the line
_STRIP = 0.18  # width of a finger's strip, in distances of its knuckle to the neighbour's


def knuckle(finger: int) -> int:
    """Its joint next to the palm."""
    return CHAINS[finger][0]


def tip(finger: int) -> int:
    """Its last joint."""
    return CHAINS[finger][-1]


@dataclass(frozen=True, kw_only=True, slots=True)
class Gap:
    """Where two neighbouring fingers part."""

    region: Mask  # [h, w] 1 in the gap, without the fingers
    medial: Mask  # [h, w] 1 along the line half-way between the fingers
    fingers: Mask  # [h, w] 1 along both fingers' bones
    kernel: Kernel  # K_ij


def gap_between(hand: Points, finger: int, shape: tuple[int, int], detail: HandDetail) -> Gap:
    """The gap of `finger` and the next one (0 is the thumb) in an image of that shape (height, width)."""
    first, second = hand[list(CHAINS[finger])], hand[list(CHAINS[finger + 1])]
    thickness = max(1, round(_STRIP * float(np.linalg.norm(first[0] - second[0])) + 1))
    fingers = np.zeros(shape, np.uint8)
    for chain in (first, second):
        cv2.polylines(fingers, [_pixels(chain)], False, 1, thickness)
    region = np.zeros(shape, np.uint8)
    cv2.fillPoly(region, [_pixels(np.stack([first[0], first[-1], second[-1], second[0]]))], 1)
    medial = np.zeros(shape, np.uint8)
    between = (first[-2:] + second[-2:]) / 2  # of the last phalanges: nearer to the palm fingers touch anyway
    cv2.polylines(medial, [_pixels(np.concatenate([[(first[-3] + second[-3]) / 2], between]))], False, 1, 1)
    return Gap(
        region=np.where(fingers > 0, np.uint8(0), region),
        medial=np.where(fingers > 0, np.uint8(0), medial),
        fingers=fingers,
        kernel=gap_kernel(hand, finger, detail),
    )


def gap_kernel(hand: Points, finger: int, detail: HandDetail) -> Kernel:
    """K(p_i, p_j): a disk where the tips are near each other, else a line (Eq. 6).

    The formula's line runs from tip to tip, across the gap. Closing with it cannot open a bridge from finger to finger, which fills
    the whole row: by default the line lies along the gap instead, from the middle of the knuckles to the middle of the tips.
    """
    p_i, p_j = hand[tip(finger)], hand[tip(finger + 1)]
    distance, limit = float(np.linalg.norm(p_i - p_j)), detail.threshold * diagonal_of(hand)
    if distance < limit:
        return disk(_bounded(detail.radius * distance, _LARGEST_RADIUS))
    middle = (hand[knuckle(finger)] + hand[knuckle(finger + 1)]) / 2
    along = (p_i + p_j) / 2 - middle if detail.line_axis == "gap" else p_j - p_i
    return line(along, 2 * _bounded(detail.radius * limit, _LARGEST_RADIUS) + 1, _bounded(detail.width * distance, _WIDEST))


def diagonal_of(hand: Points) -> float:
    """Of the box around the 21 joints, px."""
    return float(np.linalg.norm(np.ptp(hand, axis=0)))


def disk(radius: int) -> Kernel:
    """All pixels at most `radius` from the centre."""
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return (x * x + y * y <= radius * radius).astype(np.uint8)


def line(along: npt.NDArray[np.floating[Any]], length: int, width: int) -> Kernel:
    """Pixels at most length / 2 along that direction from the centre and width / 2 beside it; the same after a half turn."""
    size = float(np.linalg.norm(along))
    unit = along / size if size > 0 else np.array([0.0, 1.0])
    reach = (length + width) // 2 + 1
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    beside = np.abs(x * unit[1] - y * unit[0])
    return ((np.abs(x * unit[0] + y * unit[1]) <= length / 2) & (beside <= width / 2)).astype(np.uint8)


def _bounded(value: float, most: int) -> int:
    return min(max(round(value), 1), most)


def _pixels(points: Points) -> npt.NDArray[np.int32]:
    return np.round(points).astype(np.int32)
