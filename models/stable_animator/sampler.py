"""Algorithm 1's outer loop: EDM's stochastic Heun sampler (Karras et al. 2022, Algorithm 2) and Euler's, with a place to change the prediction."""

# F = frames, C h w = latents; N = steps

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Denoise = Callable[[Tensor, float], Tensor]
"""(x [F, C, h, w], sigma) -> D(x; sigma), the estimate of x0."""

Steer = Callable[[Tensor, int, int, float], Tensor]
"""(x_pred [F, C, h, w], step i, N, sigma) -> the prediction that the step goes towards."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Churn:
    """How much noise a step adds before it denoises. Those that EDM found for ImageNet; the paper says no more than "pre-defined values of EDM"."""

    amount: float = 40.0  # S_churn
    smallest: float = 0.05  # S_tmin
    largest: float = 50.0  # S_tmax
    noise_std: float = 1.003  # S_noise

    def gamma(self, sigma: float, steps: int) -> float:
        """Share by which sigma rises."""
        return min(self.amount / steps, math.sqrt(2) - 1) if self.smallest <= sigma <= self.largest else 0.0


def initial_latents(noise: Tensor, sigma: float) -> Tensor:
    """x_0 from unit noise: deviation sqrt(sigma^2 + 1), as diffusers' scheduler has it, not sigma as Algorithm 1; 1e-6 of it at sigma = 700."""
    return noise * math.sqrt(sigma**2 + 1)


@torch.no_grad()
def sample_edm(
    denoise: Denoise,
    latents: Tensor,
    sigmas: Tensor,
    *,
    sampler: Literal["heun", "euler"] = "euler",
    churn: Churn | None = None,
    generator: torch.Generator | None = None,
    steer: Steer | None = None,
    advance: Callable[[], None] | None = None,
) -> Tensor:
    """x_0 at sigmas[0] -> x_N at sigmas[N] = 0, both [F, C, h, w].

    steer: changes x_pred of the first evaluation of every step; Heun's correction uses the denoiser's own at the new point (Algorithm 1).
    generator: of the churned noise, on the CPU.
    """
    levels = [float(sigma) for sigma in sigmas]
    steps, x = len(levels) - 1, latents
    for i in range(steps):
        x, sigma = _churned(x, levels[i], churn, steps, generator)
        predicted = denoise(x, sigma)
        if steer is not None:
            predicted = steer(predicted, i, steps, sigma)
        slope = (x - predicted).div_(sigma)
        del predicted  # of a long clip: as few copies as can be
        stepped = (slope * (levels[i + 1] - sigma)).add_(x)
        if sampler == "heun" and levels[i + 1] != 0:
            slope_there = stepped.sub_(denoise(stepped, levels[i + 1])).div_(levels[i + 1])
            stepped = slope.add_(slope_there).mul_(levels[i + 1] - sigma).div_(2).add_(x)
        x = stepped
        if advance is not None:
            advance()
    return x


def _churned(x: Tensor, sigma: float, churn: Churn | None, steps: int, generator: torch.Generator | None) -> tuple[Tensor, float]:
    """x_hat and its level: x with fresh noise up to sigma (1 + gamma)."""
    raised = sigma * (1 + (churn.gamma(sigma, steps) if churn is not None else 0.0))
    if churn is None or raised == sigma:
        return x, sigma
    fresh = torch.randn(x.shape, generator=generator).to(x).mul_(churn.noise_std)
    return fresh.mul_(math.sqrt(raised**2 - sigma**2)).add_(x), raised
