"""A photograph cut for a method's size: the crop that keeps the person, or the whole photograph with its sides extended."""

from __future__ import annotations

import numpy as np

from models.fitting import Box, Points, centre_box, fit_frames, fit_points
from pipelines.clip import Frames
from pipelines.keypoints import VISIBLE

Pose = tuple[Points, Points]
"""Keypoints [T, 133, 2] or [133, 2] in pixels, and scores."""

_MARGIN = 0.05  # of the person's height, around the visible keypoints: hair and fingers lie beyond them


def photograph_box(width: int, height: int, pose: Pose, size: tuple[int, int]) -> tuple[Box, str]:
    """What of a photograph the method sees at `size` (height, width); and a note where more than a centred crop was needed, else "".

    The largest crop of that shape, moved as little as keeps the person inside. A person larger than any crop keeps the
    whole photograph: then the box reaches outside.
    """
    x, y, w, h = centre_box(width, height, size)
    low, high = _extent(pose, width, height)
    if (high - low <= (w, h)).all():
        x, y = float(np.clip(x, high[0] - w, low[0])), float(np.clip(y, high[1] - h, low[1]))
        return (min(max(x, 0), width - w), min(max(y, 0), height - h), w, h), ""
    across, down = (max(round(v), 0) for v in (height * size[1] / size[0] - width, width * size[0] / size[1] - height))
    note = f"the person fills the photograph: {width}x{height} was extended to {width + across}x{height + down} instead of cropped"
    return (float(-(across // 2)), float(-(down // 2)), float(width + across), float(height + down)), note


def cut_photograph(image: Frames, box: Box, size: tuple[int, int]) -> Frames:
    """The box of [H, W, 3] at `size`; outside the photograph its border pixels are repeated."""
    import cv2

    x, y, w, h = (round(v) for v in box)
    height, width, _ = image.shape
    left, top, right, bottom = max(-x, 0), max(-y, 0), max(x + w - width, 0), max(y + h - height, 0)
    larger = cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_REPLICATE) if left or top or right or bottom else image
    return fit_frames(larger[None], (x + left, y + top, w, h), size)[0]


def fit_photograph(image: Frames, pose: Pose, size: tuple[int, int]) -> tuple[Frames, Points, str]:
    """[H, W, 3] and its keypoints at `size` (height, width), and the note of `photograph_box`."""
    box, note = photograph_box(image.shape[1], image.shape[0], pose, size)
    return cut_photograph(image, box, size), fit_points(pose[0], box, size), note


def _extent(pose: Pose, width: int, height: int) -> tuple[Points, Points]:
    """Corners of the person's box in the picture, with a margin."""
    visible = pose[0][pose[1] > VISIBLE]
    margin = _MARGIN * float(np.ptp(visible[:, 1]))
    edge = np.array([width, height], np.float32)
    return np.clip(visible.min(axis=0) - margin, 0, edge), np.clip(visible.max(axis=0) + margin, 0, edge)
