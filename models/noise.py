"""Noise schedule, targets and loss weights; the source of each is beside it. One schedule for training and sampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

Objective = Literal["v", "epsilon"]
Schedule = Literal["scaled_linear", "linear"]

_BETAS = (0.00085, 0.012)  # Stable Diffusion and AnimateDiff alike


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseConfig:
    """Scaled-linear betas of Stable Diffusion unless said otherwise; zero terminal SNR with v-prediction unless the paper-literal epsilon is chosen."""

    objective: Objective = "v"  # [R] public reproduction; the paper writes epsilon
    zero_terminal_snr: bool = True  # Lin et al. 2024, Algorithm 1
    min_snr_gamma: float | None = 5.0  # Hang et al. 2023; None = no reweighting
    noise_offset: float = 0.05  # one extra value per sample and channel
    train_steps: int = 1000
    schedule: Schedule = "scaled_linear"  # Stable Diffusion; HIA, MagicAnimate and AnimateDiff: "linear"
    shift_gamma: float = 1.0  # HIA Alg. 1: signal-to-noise ratio times this; 1 = not shifted

    def __post_init__(self) -> None:
        if self.objective == "epsilon" and self.zero_terminal_snr:
            raise ValueError("epsilon cannot be predicted at zero SNR; use objective='v' or zero_terminal_snr=False")
        if not 0 < self.shift_gamma <= 1:
            raise ValueError(f"shift_gamma={self.shift_gamma} must be above 0 and at most 1 (1 = not shifted)")


def make_scheduler(config: NoiseConfig) -> Any:
    """DDIM scheduler of diffusers, `trailing` spacing so that sampling begins at the last training step."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=config.train_steps,
        beta_start=_BETAS[0],
        beta_end=_BETAS[1],
        beta_schedule=config.schedule,
        trained_betas=None if config.shift_gamma == 1 else shifted_betas(plain_betas(config), config.shift_gamma).tolist(),
        clip_sample=False,
        steps_offset=1,
        rescale_betas_zero_snr=config.zero_terminal_snr,
        timestep_spacing="trailing",
        prediction_type="v_prediction" if config.objective == "v" else "epsilon",
    )


def plain_betas(config: NoiseConfig) -> Tensor:
    """[T] float64 betas before any shift or rescaling: linear, or the squares of a linear ramp."""
    power = 0.5 if config.schedule == "scaled_linear" else 1.0
    return torch.linspace(_BETAS[0] ** power, _BETAS[1] ** power, config.train_steps, dtype=torch.float64) ** (1 / power)


def shifted_betas(betas: Tensor, gamma: float) -> Tensor:
    """[T] betas whose signal-to-noise ratio is gamma times that of `betas` (HIA Alg. 1).

    snr' = gamma a / (1 - a),   a' = snr' / (1 + snr'),   beta'_t = 1 - a'_t / a'_(t-1),   a = cumprod(1 - beta)
    """
    alpha = (1 - betas).cumprod(0)
    snr = gamma * alpha / (1 - alpha)
    shifted = snr / (1 + snr)
    # The algorithm as printed keeps the first beta, which multiplies every a' by 1.0006 (gamma = .571); here a'_(-1) = 1.
    before = torch.cat([torch.ones_like(shifted[:1]), shifted[:-1]])
    return 1 - shifted / before


def shift_of_size(height: int, width: int) -> float:
    """gamma = 512 * 512 / (H * W), at most 1. The paper asks for 0 < gamma < 1 and names no value: the same noise hides less of a larger image."""
    return min(1.0, 512 * 512 / (height * width))


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


def clean_estimate(noisy: Tensor, prediction: Tensor, alpha: Tensor, objective: Objective) -> Tensor:
    """One-step x0 from what the network predicts: (x_t - sqrt(1 - a) eps) / sqrt(a), or sqrt(a) x_t - sqrt(1 - a) v."""
    if objective == "epsilon":
        return (noisy - (1 - alpha).sqrt() * prediction) / alpha.sqrt()
    return alpha.sqrt() * noisy - (1 - alpha).sqrt() * prediction


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
