"""What happens to a picture on its way to a network: colour casts, blur, noise, re-encoding. Drawn people are too clean otherwise."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import torch

from pipelines.clip import Frames


def rng_of(generator: torch.Generator) -> np.random.Generator:
    """NumPy's random numbers of a training step."""
    return np.random.default_rng(int(torch.randint(1 << 62, (1,), generator=generator)))


def degraded(image: Frames, rng: np.random.Generator) -> Frames:
    """[H, W, 3] uint8 with a random colour cast and, each in one case of three, blur, noise, and JPEG's artefacts."""
    gain, offset = rng.uniform(0.85, 1.15) * rng.uniform(0.95, 1.05, 3), rng.uniform(-18, 18)
    out = image.astype(np.float32) * gain.astype(np.float32) + np.float32(offset)
    if rng.random() < 0.35:
        out = cv2.GaussianBlur(out, (0, 0), float(rng.uniform(0.3, 1.1)))
    if rng.random() < 0.35:
        out += rng.standard_normal(out.shape, np.float32) * np.float32(rng.uniform(1, 9))
    pixels: Frames = np.clip(out, 0, 255).astype(np.uint8)
    if rng.random() < 0.35:
        _, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))])
        pixels = cv2.imdecode(encoded, cv2.IMREAD_COLOR).astype(np.uint8, copy=False)
    return pixels


def similarity(
    rng: np.random.Generator, size: int, *, centre: npt.NDArray[np.float32], zoom: tuple[float, float], turn: float, shift: float
) -> npt.NDArray[np.float32]:
    """A random [2, 3] matrix that takes `centre` (x, y) to about the middle of a picture of `size` px.

    zoom: range of the scale;  turn: largest angle in radians;  shift: largest distance from the middle, in sizes.
    """
    scale, angle = np.exp(rng.uniform(*np.log(zoom))), rng.uniform(-turn, turn)
    rotation = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    target = size / 2 + rng.uniform(-shift, shift, 2) * size
    return np.concatenate([rotation, (target - rotation @ centre)[:, None]], axis=1).astype(np.float32)


def moved(points: npt.NDArray[np.float32], matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Points [..., 2] through a [2, 3] matrix."""
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2], np.float32)
