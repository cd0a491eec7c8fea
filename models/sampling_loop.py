"""DDIM over overlapping windows: a function over a `predict` callable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from models.windows import Windows, flat_weights, fuse_windows

Predict = Callable[[Tensor, list[int], int], Tensor]
"""(latents [S, C, h, w] of one window, its frame indices, timestep) -> prediction of the same shape."""


@torch.no_grad()
def sample_windows(
    predict: Predict, noise: Tensor, scheduler: Any, steps: int, windows: Windows, advance: Callable[[], None] | None = None
) -> Tensor:
    """[F, C, h, w] Gaussian noise -> clean latents; predictions of overlapping windows are averaged at every step.

    Deterministic (eta 0): Song et al. 2021, Eq. 12.
    """
    scheduler.set_timesteps(steps)
    latents, frames = noise, torch.tensor(windows)
    for timestep in scheduler.timesteps.tolist():
        predictions = torch.stack([predict(latents[window], window, timestep) for window in windows])
        fused = fuse_windows(predictions, frames, flat_weights(frames.shape[1]), len(latents))
        latents = scheduler.step(fused, timestep, latents, eta=0.0).prev_sample
        if advance is not None:
            advance()
    return latents
