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
    """Three quarters of the width, the middle."""
    frames, size = performance.frames.shape[:2]
    left, width = size // 8, size - 2 * (size // 8)
    truth = performance.truth.part(0, frames, (left, 0, width, size))
    return replace(performance, frames=np.ascontiguousarray(performance.frames[:, :, left : left + width]), truth=truth)


def landscape(performance: Performance) -> Frames:
    """[T, H, W, 3] of 4:3, the border repeated on both sides."""
    side = performance.frames.shape[1] // 6
    return np.pad(performance.frames, ((0, 0), (0, 0), (side, side), (0, 0)), mode="edge")
