"""DDIM over overlapping windows: a function over a `predict` callable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from models.windows import Windows, flat_weights, fuse_windows

STEPPED_AT_ONCE = 16  # frames: a DDIM step holds five more copies of what it steps

Predict = Callable[[Tensor, list[int], int], Tensor]
"""(latents [S, C, h, w] of one window, its frame indices, timestep) -> prediction of the same shape."""

WindowsAt = Callable[[int], Windows]
"""Index of the denoising step -> its windows: always the same ones, or others at every step (HIA's prompt travelling)."""

WeightsOf = Callable[[int], Tensor]
"""Length of a window -> weights of its slots [S]: models.windows.flat_weights, gaussian_weights or triangular_weights."""

Correct = Callable[[Tensor, Tensor, int], Tensor]
"""(the clip's fused prediction [F, C, h, w], its latents, timestep) -> the prediction that the step is taken by."""


@torch.no_grad()
def sample_windows(
    predict: Predict,
    latents: Tensor,
    scheduler: Any,
    steps: int,
    windows_at: WindowsAt,
    weights_of: WeightsOf = flat_weights,
    advance: Callable[[], None] | None = None,
    correct: Correct | None = None,
) -> Tensor:
    """[F, C, h, w] Gaussian noise -> clean latents, in its place; predictions of overlapping windows are fused at every step.

    Deterministic (eta 0): Song et al. 2021, Eq. 12. Of a long clip there are two copies: the latents and their prediction.
    """
    scheduler.set_timesteps(steps)
    for index, timestep in enumerate(scheduler.timesteps.tolist()):
        windows = windows_at(index)
        each = ((window, predict(latents[window], window, timestep)) for window in windows)
        fused = fuse_windows(each, weights_of(len(windows[0])), latents)
        if correct is not None:
            fused = correct(fused, latents, timestep)
        for start in range(0, len(latents), STEPPED_AT_ONCE):
            part = slice(start, start + STEPPED_AT_ONCE)
            latents[part] = scheduler.step(fused[part], timestep, latents[part], eta=0.0).prev_sample
        if advance is not None:
            advance()
    return latents
