"""The people of the small data sets, cut to the shapes of the public ones."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from pipelines.clip import Frames
from pipelines.performers import Performance, perform


@lru_cache(maxsize=64)
def draw(identity: int, frames: int, size: int) -> Performance:
    """A square performance; the motion follows from the identity."""
    return perform(identity, identity + 100, frames=frames, size=size)


def portrait(performance: Performance) -> Performance:
    """Three quarters of the width, the middle: frames, masks and IUV; other truth stays in the square's pixels."""
    size = performance.frames.shape[1]
    middle = slice(size // 8, size - size // 8)
    truth = replace(performance.truth, iuv=performance.truth.iuv[:, :, middle], mask=performance.truth.mask[:, :, middle])
    return replace(performance, frames=np.ascontiguousarray(performance.frames[:, :, middle]), truth=truth)


def landscape(performance: Performance) -> Frames:
    """[T, H, W, 3] of 4:3, the border repeated on both sides."""
    side = performance.frames.shape[1] // 6
    return np.pad(performance.frames, ((0, 0), (0, 0), (side, side), (0, 0)), mode="edge")
