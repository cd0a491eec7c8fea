"""Clips without a file, for extractors that are given their frames."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from pipelines.clip import Clip, Frames


def clip_of(frames: Frames) -> Clip:
    """The clip that these frames [T, H, W, 3] would be, at 30 frames per second."""
    _, height, width, _ = frames.shape
    span = {"start_frame": 0, "end_frame": len(frames), "start_pts": None, "end_pts": None}
    rate = {"time_base": Fraction(1, 30), "fps": Fraction(30)}
    return Clip(dataset="d", clip_id="c", video_id="v", uri="", width=width, height=height, **span, **rate)


def noise(count: int, height: int = 72, width: int = 96) -> Frames:
    """Uniform noise, the same each time."""
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)
