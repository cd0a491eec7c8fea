"""Noise levels of EDM (Karras et al. 2022) as Stable Video Diffusion has them: preconditioning, the sampler's list, training's distributions."""

# B = clips, N = steps of the sampler, sigma = deviation of the noise that was added to unit latents

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Distribution = Literal["cosine_interp", "svd", "svd_xt", "edm"]

_LOGNORMAL = {
    "svd": (0.7, 1.6),
    "svd_xt": (1.0, 1.6),
    "edm": (-1.2, 1.2),
}  # mean and deviation of ln sigma: SVD, SVD-XT, Karras et al. 2022


@dataclass(frozen=True, kw_only=True, slots=True)
class SigmaConfig:
    """How sigma is drawn in training. cosine_interp: the cosine schedule shifted for an image of `image_side` (released code)."""

    distribution: Distribution = "cosine_interp"
    smallest: float = 0.002
    largest: float = 700.0
    image_side: float = 64.0
    noise_sides: tuple[float, float] = (32.0, 64.0)
    data_std: float = 0.5


@dataclass(frozen=True, slots=True)
class Preconditioning:
    """D(x; sigma) = c_skip x + c_out F(c_in x; c_noise), each [B]."""

    c_in: Tensor
    c_skip: Tensor
    c_out: Tensor
    c_noise: Tensor


def preconditioning(sigma: Tensor, skip_std: float = 1.0) -> Preconditioning:
    """SVD's, for latents of unit variance and a network that predicts v: F = (x - (sigma^2 + 1) x0) / (sigma sqrt(sigma^2 + 1)) is exact.

    skip_std: deviation of what most of the latents are; c_skip x is their best linear estimate (DemoAdditions.skip_std).
    """
    root = (sigma.square() + 1).sqrt()
    skip = skip_std**2 / (sigma.square() + skip_std**2)
    return Preconditioning(c_in=1 / root, c_skip=skip, c_out=-sigma / root, c_noise=sigma.log() / 4)


def denoising_weight(sigma: Tensor) -> Tensor:
    """1 / c_out^2 = (1 + sigma^2) / sigma^2, with which every level's network output counts the same."""
    return (1 + sigma.square()) / sigma.square()


def sampling_sigmas(steps: int, smallest: float = 0.002, largest: float = 700.0, rho: float = 7.0) -> Tensor:
    """[N + 1] levels from `largest` to `smallest` and 0 (Karras et al. 2022, Eq. 5)."""
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    ends = largest ** (1 / rho), smallest ** (1 / rho)
    return torch.cat([(ends[0] + ramp * (ends[1] - ends[0])) ** rho, torch.zeros(1, dtype=torch.float64)]).float()


def draw_sigmas(config: SigmaConfig, count: int, generator: torch.Generator) -> Tensor:
    """[B] noise levels of a training batch."""
    if config.distribution == "cosine_interp":
        return cosine_interpolated(torch.rand(count, generator=generator), config)
    mean, std = _LOGNORMAL[config.distribution]
    return (mean + std * torch.randn(count, generator=generator)).exp()


def cosine_interpolated(u: Tensor, config: SigmaConfig) -> Tensor:
    """Quantile function of `cosine_interp`: u [B] in 0..1 -> sigma from `largest` down to `smallest` (Hoogeboom et al. 2023, Eq. 5).

    log SNR(u) = lerp over u of the cosine schedules shifted to the two noise sides; sigma = data_std exp(-log SNR / 2).
    """
    low, high = (_shifted(u, side, config) for side in config.noise_sides)
    return config.data_std * (-torch.lerp(low, high, u) / 2).exp()


def _shifted(u: Tensor, noise_side: float, config: SigmaConfig) -> Tensor:
    """log SNR of the cosine schedule that an image of `noise_side` pixels would have, at `image_side`; u = 0 is all noise."""
    shift = 2 * math.log(noise_side / config.image_side)
    angles = [math.atan(math.exp(math.log(sigma / config.data_std) + shift / 2)) for sigma in (config.largest, config.smallest)]
    return -2 * (angles[0] + u * (angles[1] - angles[0])).tan().log() + shift
