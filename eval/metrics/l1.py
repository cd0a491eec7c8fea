"""L1: mean absolute difference of two frames, values in [0, 1] (as in MRAA's reconstruction.py).

The papers on TikTok print DisCo's variant instead, which divides by the number of pixels twice; `l1_disco` gives it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from eval.metrics.metric import Metric, PerFrame, check_pair
from pipelines.clip import Frames

if TYPE_CHECKING:
    from eval.sides import Sides


def absolute_sums(prediction: Frames, truth: Frames) -> PerFrame:
    """[T] sum |d| of each frame over H, W, 3 in grey levels; exact (integer arithmetic)."""
    check_pair(prediction, truth)
    return np.array([cv2.norm(p, t, cv2.NORM_L1) for p, t in zip(prediction, truth, strict=True)], dtype=np.float64)


def l1(prediction: Frames, truth: Frames) -> PerFrame:
    """[T] mean |d| / 255 over H, W, 3 of each frame; uint8 [T, H, W, 3] pairs; 0 (equal) to 1."""
    return np.asarray(absolute_sums(prediction, truth) / (255 * truth[0].size))


def l1_disco(prediction: Frames, truth: Frames) -> PerFrame:
    """[T] mean |d| / (H W) in grey levels: DisCo divides by the pixel count twice, so it scales with 1 / resolution."""
    height, width = truth.shape[1:3]
    return np.asarray(absolute_sums(prediction, truth) / truth[0].size / (height * width))


def _of_protocol(sides: Sides) -> PerFrame:
    return sides.scattered((l1_disco if sides.l1_over_pixels else l1)(*sides.counted_frames))


L1 = Metric(
    id="l1",
    title="L1",
    better="down",
    low=0.0,
    high=1.0,
    unit="of full scale",
    kind="paired",
    digits=4,
    tolerance=0.0,
    per_frame=l1,
    measure=_of_protocol,
    summary="mean absolute difference of the pixels, 0 to 1; under protocols of the DisCo family grey levels over the number of pixels",
)
