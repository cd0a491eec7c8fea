"""Whole-body keypoints of boxed people by a SimCC network (Li et al. 2022; RTMPose, Jiang et al. 2023; DWPose, Yang et al. 2023).

Pre- and post-processing are RTMPose's: the box padded by 1.25, widened to the input's aspect, warped bilinearly with black
outside, RGB minus ImageNet's mean over its deviation (0..255); a coordinate is the argmax of its own 1-D map over 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipelines.clip import Frames
from pipelines.errors import UserError
from pipelines.keypoints import KEYPOINTS, Points, Scores
from pipelines.onnx_session import open_session, planes

# M = boxes of a batch, K = keypoints (133), H W = input height, width
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

PADDING, SPLIT = 1.25, 2.0  # map bins per input pixel
_MEAN, _STD = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
NORMALISED = ((np.arange(256)[:, None] - _MEAN) / _STD).astype(
    np.float32
)  # [256, 3] of a value 0..255, rounded once as in the published code
_OPEN_SIZE = (384, 288)  # of graphs that leave the input's size open


class SimCC:
    """An ONNX network [M, 3, H, W] -> maps of x [M, K, 2 W] and y [M, K, 2 H]."""

    def __init__(self, path: Path, device: str = "cpu", threads: int = 1) -> None:
        self._session = open_session(path, device, threads)
        self._path = path
        self.size = self._session.size or _OPEN_SIZE

    def __call__(self, frames: Sequence[Frames], boxes: Floats) -> tuple[Points, Scores]:
        """Keypoints [M, 133, 2] in px of the frame and scores [M, 133] of M boxes [M, 4], each in its frame [H, W, 3] RGB."""
        if not len(boxes):
            return np.zeros((0, KEYPOINTS, 2), np.float32), np.zeros((0, KEYPOINTS), np.float32)
        centres, extents = box_geometry(boxes, self.size)
        crops = np.stack([warp_box(*part, self.size) for part in zip(frames, centres, extents, strict=True)])
        x, y = self._session.run(planes(crops, NORMALISED))
        height, width = self.size
        if (x.shape[1:], y.shape[1:]) != ((KEYPOINTS, SPLIT * width), (KEYPOINTS, SPLIT * height)):
            raise UserError(f"{self._path.name} is no whole-body SimCC network: its outputs are {x.shape[1:]} and {y.shape[1:]}, expected "
                            f"{KEYPOINTS} maps of {SPLIT:g} bins per pixel of {width}x{height}")  # fmt: skip
        points, scores = decode(x, y)
        placed = points * (extents / (width, height))[:, None] + (centres - extents / 2)[:, None]
        return placed.astype(np.float32), scores


def box_geometry(boxes: Floats, size: tuple[int, int]) -> tuple[Doubles, Doubles]:
    """Centres [M, 2] and extents (width, height) [M, 2] of the padded boxes in the aspect of the input size (H, W)."""
    boxes = boxes.astype(np.float64)  # as published: the warp is rounded once, and so to the same pixels
    aspect = size[1] / size[0]
    width, height = ((boxes[:, 2:] - boxes[:, :2]) * PADDING).T
    wide = width > height * aspect
    extents = np.stack([np.where(wide, width, height * aspect), np.where(wide, width / aspect, height)], axis=1)
    return (boxes[:, :2] + boxes[:, 2:]) * 0.5, extents


def warp_box(image: Frames, centre: Doubles, extent: Doubles, size: tuple[int, int]) -> Frames:
    """The part of the image around `centre`, as wide as `extent`, at the input's size [H, W, 3]; black outside."""
    import cv2

    height, width = size
    # Three points, the third from the others in float32, as the published code has it: another formula moves pixels by rounding.
    middle, above = np.array([centre, centre - (0, extent[0] * 0.5)], np.float32)
    source = np.stack([middle, above, above - (middle - above)[::-1]])
    target = np.array([[width / 2, height / 2], [width / 2, height / 2 - width / 2], [0, height / 2 - width / 2]], np.float32)
    crop: Frames = cv2.warpAffine(image, cv2.getAffineTransform(source, target), (width, height), flags=cv2.INTER_LINEAR)
    return crop


def decode(x: Floats, y: Floats) -> tuple[Points, Scores]:
    """Maps [M, K, bins] -> points [M, K, 2] in input pixels, scores [M, K] = mean of both maxima, in 0..1.

    The published code sets points that score 0 or less to (-1, -1), and some networks score over 1. Here a point always
    keeps the place of its maximum, so that nothing between frames is pulled to the corner, and scores are clipped.
    """
    points = np.stack([x.argmax(axis=2), y.argmax(axis=2)], axis=2).astype(np.float32) / np.float32(SPLIT)
    scores = np.clip(np.float32(0.5) * (x.max(axis=2) + y.max(axis=2)), 0, 1)
    return points, scores
