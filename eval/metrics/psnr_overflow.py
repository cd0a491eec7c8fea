"""PSNR with the uint8 overflow of DisCo before April 2024: a known fault, kept so that old numbers can be compared.

The difference and its square wrap modulo 256, so the "MSE" is mean((a - b)^2 mod 256). No square is above 249 modulo 256,
hence it never falls under 24.168 dB, and it hardly moves once mean |d| is above 15.
"""

from __future__ import annotations

import math

import numpy as np

from eval.metrics.metric import Metric, PerFrame, check_pair
from eval.metrics.psnr import EQUAL_FRAMES_DB, decibels
from pipelines.clip import Frames

FLOOR_DB = 20.0 * math.log10(255.0 / math.sqrt(249.0))  # 24.168 dB


def psnr_overflow(prediction: Frames, truth: Frames) -> PerFrame:
    """[T] dB; uint8 [T, H, W, 3] pairs; at least FLOOR_DB for any pair, 100 when the wrapped error is 0."""
    check_pair(prediction, truth)
    sums = [_wrapped_error(p, t) for p, t in zip(prediction, truth, strict=True)]
    return decibels(np.array(sums, dtype=np.float64), truth[0].size)


def _wrapped_error(p: Frames, t: Frames) -> int:
    difference = p - t  # wraps on purpose
    return int(np.sum(difference * difference, dtype=np.int64))


PSNR_OVERFLOW = Metric(
    id="psnr_overflow",
    title="PSNR (overflow)",
    better="up",
    low=FLOOR_DB,
    high=EQUAL_FRAMES_DB,
    unit="dB",
    kind="paired",
    digits=2,
    tolerance=0.0,
    judges=False,
    per_frame=psnr_overflow,
    summary="the faulty PSNR that older papers print (8-bit overflow); nearly blind to quality, never under 24.17",
)
