"""From source pixels to the network's image: the crop of a frame, resized; the same for pictures and points."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipelines.clip import Frames

Points = npt.NDArray[np.float32]
Box = tuple[float, float, float, float]
"""x, y, width, height in source pixels."""


def centre_box(width: int, height: int, size: tuple[int, int]) -> Box:
    """Largest centred box with the aspect of `size` (height, width)."""
    scale = min(width / size[1], height / size[0])
    w, h = size[1] * scale, size[0] * scale
    return ((width - w) / 2, (height - h) / 2, w, h)


def random_box(width: int, height: int, size: tuple[int, int], rng: np.random.Generator) -> Box:
    """A box of 90 to 100 % of the centred one, anywhere in it: one draw for target, pose and reference alike."""
    x, y, w, h = centre_box(width, height, size)
    scale = rng.uniform(0.9, 1.0)
    return (x + rng.uniform(0, w * (1 - scale)), y + rng.uniform(0, h * (1 - scale)), w * scale, h * scale)


def fit_frames(frames: Frames, box: Box, size: tuple[int, int]) -> Frames:
    """Crop [T, H, W, 3] (or masks [T, H, W]) to `box` and resize (area) to `size` (height, width)."""
    import cv2

    x, y, w, h = (round(v) for v in box)
    resized = [cv2.resize(frame[y : y + h, x : x + w], (size[1], size[0]), interpolation=cv2.INTER_AREA) for frame in frames]
    return np.stack(resized)


def fit_points(points: Points, box: Box, size: tuple[int, int]) -> Points:
    """[..., 2] source pixels -> pixels of the fitted image (pixel centres at .5, as the area filter has them)."""
    x, y, w, h = (round(v) for v in box)
    scale = np.array([size[1] / w, size[0] / h], np.float32)
    return ((points - np.array([x, y], np.float32) + 0.5) * scale - 0.5).astype(np.float32)
