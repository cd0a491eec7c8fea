"""DDIM without noise (Song et al. 2021, Eq. 12) in both directions, with gradients, for networks that predict epsilon or v.

Levels: 0 = clean, T = noisiest; the network's timestep of level k is `timestep(k)`. Stable Diffusion's settings: `leading` spacing from
step 1, and the first training step's alpha as that of level 0 (set_alpha_to_one=False).
"""

# N = frames, C h w = latent channels, height, width

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.noise import NoiseConfig, Objective, make_scheduler

STABLE_DIFFUSION = NoiseConfig(objective="epsilon", zero_terminal_snr=False, min_snr_gamma=None, noise_offset=0.0)
"""What Stable Diffusion 1.5 was trained with."""


@dataclass(frozen=True, slots=True)
class DdimSchedule:
    """alphas [T + 1] cumulative, by level; timesteps [T], of the levels 1 … T."""

    alphas: Tensor
    timesteps: tuple[int, ...]
    objective: Objective

    @classmethod
    def of(cls, noise: NoiseConfig, steps: int) -> DdimSchedule:
        """ValueError for more steps than the schedule has."""
        if not 0 < steps <= noise.train_steps:
            raise ValueError(f"steps={steps} must be between 1 and the {noise.train_steps} of training")
        cumulative = make_scheduler(noise).alphas_cumprod
        ratio = noise.train_steps // steps
        # With T = 1000 the last training step itself is no sampling step, so that zero terminal SNR never has to be divided by.
        timesteps = tuple(min(k * ratio + 1, noise.train_steps - 1) for k in range(steps))
        return cls(torch.cat([cumulative[:1], cumulative[list(timesteps)]]), timesteps, noise.objective)

    @property
    def steps(self) -> int:
        """T."""
        return len(self.timesteps)

    def timestep(self, level: int) -> int:
        """What the network is told at a level of 1 … T."""
        return self.timesteps[level - 1]

    def noise_of(self, prediction: Tensor, noisy: Tensor, level: int) -> Tensor:
        """Epsilon from what the network predicts at a level: eps = sqrt(a) v + sqrt(1 - a) x for v (Salimans & Ho 2022)."""
        if self.objective == "epsilon":
            return prediction
        alpha = self.alphas[level].to(noisy)
        return alpha.sqrt() * prediction + (1 - alpha).sqrt() * noisy

    def move(self, latents: Tensor, noise: Tensor, start: int, end: int) -> Tensor:
        """From one level to another, up or down: x0 = (x - sqrt(1 - a) eps) / sqrt(a), x' = sqrt(a') x0 + sqrt(1 - a') eps (Eq. 4 and 5)."""
        before, after = self.alphas[start].to(latents), self.alphas[end].to(latents)
        clean = (latents - (1 - before).sqrt() * noise) / before.sqrt()
        return after.sqrt() * clean + (1 - after).sqrt() * noise
