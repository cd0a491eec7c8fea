"""Noise schedule, targets and loss weights; the source of each is beside it. One schedule for training and sampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

Objective = Literal["v", "epsilon"]


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseConfig:
    """Scaled-linear betas of Stable Diffusion; zero terminal SNR with v-prediction unless the paper-literal epsilon is chosen."""

    objective: Objective = "v"  # [R] public reproduction; the paper writes epsilon
    zero_terminal_snr: bool = True  # Lin et al. 2024, Algorithm 1
    min_snr_gamma: float | None = 5.0  # Hang et al. 2023; None = no reweighting
    noise_offset: float = 0.05  # one extra value per sample and channel
    train_steps: int = 1000

    def __post_init__(self) -> None:
        if self.objective == "epsilon" and self.zero_terminal_snr:
            raise ValueError("epsilon cannot be predicted at zero SNR; use objective='v' or zero_terminal_snr=False")


def make_scheduler(config: NoiseConfig) -> Any:
    """DDIM scheduler of diffusers, `trailing` spacing so that sampling begins at the last training step."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=config.train_steps,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        steps_offset=1,
        rescale_betas_zero_snr=config.zero_terminal_snr,
        timestep_spacing="trailing",
        prediction_type="v_prediction" if config.objective == "v" else "epsilon",
    )


def alpha_bar(scheduler: Any, timesteps: Tensor, like: Tensor) -> Tensor:
    """Cumulative alpha of each sample's timestep, shaped to broadcast over `like`: [B, 1, ...]."""
    values = scheduler.alphas_cumprod[timesteps.cpu()].to(like)
    return values.view(-1, *([1] * (like.ndim - 1)))


def draw_noise(shape: torch.Size, config: NoiseConfig, generator: torch.Generator) -> Tensor:
    """Gaussian noise [B, C, ...], plus noise_offset * N(0, 1) that is constant over all but the first two axes."""
    noise = torch.randn(shape, generator=generator)
    if config.noise_offset:
        noise = noise + config.noise_offset * torch.randn(*shape[:2], *([1] * (len(shape) - 2)), generator=generator)
    return noise


def add_noise(x0: Tensor, noise: Tensor, alpha: Tensor) -> Tensor:
    """x_t = sqrt(a) x0 + sqrt(1 - a) eps."""
    return alpha.sqrt() * x0 + (1 - alpha).sqrt() * noise


def target_of(x0: Tensor, noise: Tensor, alpha: Tensor, objective: Objective) -> Tensor:
    """What the network predicts: eps, or v = sqrt(a) eps - sqrt(1 - a) x0 (Salimans & Ho 2022)."""
    return noise if objective == "epsilon" else alpha.sqrt() * noise - (1 - alpha).sqrt() * x0


def linear_estimate(noisy: Tensor, alpha: Tensor, data_std: float) -> Tensor:
    """Best linear estimate of v from x_t where x0 has mean 0 and standard deviation s: Cov(v, x_t) / Var(x_t) * x_t.

    The skip of Karras et al. 2022 (EDM, Sec. 5) in v-prediction: Var(x_t) = a s^2 + 1 - a and Cov(v, x_t) = sqrt(a (1 - a)) (1 - s^2).
    """
    return (alpha * (1 - alpha)).sqrt() * (1 - data_std**2) / (alpha * data_std**2 + 1 - alpha) * noisy


def loss_weight(alpha: Tensor, config: NoiseConfig) -> Tensor:
    """Min-SNR weight of each sample: min(SNR, gamma) / SNR for eps, / (SNR + 1) for v."""
    if config.min_snr_gamma is None:
        return torch.ones_like(alpha)
    snr = alpha / (1 - alpha).clamp(min=1e-8)
    if config.objective == "v":
        snr = snr + 1  # the released code adds one before the minimum, and so do we
    return snr.clamp(max=config.min_snr_gamma) / snr.clamp(min=1e-8)


def diffusion_loss(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean squared error, a scalar."""
    return (weight * (prediction - target).square()).mean()
