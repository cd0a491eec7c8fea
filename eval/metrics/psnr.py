"""PSNR: 10 log10(255^2 / MSE), MSE over all pixels and channels of a frame jointly, 100 dB for equal frames.

As DisCo since April 2024; mean over frames of the decibels of each frame.
"""

from __future__ import annotations

import cv2
import numpy as np

from eval.metrics.metric import Metric, PerFrame, check_pair
from pipelines.clip import Frames

EQUAL_FRAMES_DB = 100.0


def decibels(squared_error_sums: PerFrame, values: int) -> PerFrame:
    """[T] PSNR in dB from sums of squared errors over `values` numbers of 0..255."""
    with np.errstate(divide="ignore"):
        db = 10.0 * np.log10(255.0**2 * values / squared_error_sums)
    return np.where(squared_error_sums == 0, EQUAL_FRAMES_DB, db)


def psnr(prediction: Frames, truth: Frames) -> PerFrame:
    """[T] dB; uint8 [T, H, W, 3] pairs; above 0, higher is better, 100 when equal. The squared error is an exact integer."""
    check_pair(prediction, truth)
    sums = [_squared_error(p, t) for p, t in zip(prediction, truth, strict=True)]
    return decibels(np.array(sums, dtype=np.float64), truth[0].size)


def _squared_error(p: Frames, t: Frames) -> int:
    return round(cv2.norm(p, t, cv2.NORM_L2SQR))  # OpenCV adds integers and takes a root that it squares again


PSNR = Metric(
    id="psnr",
    title="PSNR",
    better="up",
    low=0.0,
    high=EQUAL_FRAMES_DB,
    unit="dB",
    kind="paired",
    digits=2,
    tolerance=0.0,
    per_frame=psnr,
    summary="peak signal-to-noise ratio, in decibels; 100 means equal",
)
