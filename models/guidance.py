"""Classifier-free guidance (Ho & Salimans 2022); one null condition for training and sampling."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """What steers the denoiser. R references, each for N / R consecutive pose images."""

    reference_latent: Tensor  # [R, C, h, w] clean latents
    image_tokens: Tensor  # [R, S, D] tokens of the image encoder
    pose: Tensor  # [N, 3, H, W] pose images in [0, 1]
    dropped: Tensor  # [R] bool: True where the reference is the null condition


def null_conditions(condition: Condition, dropped: Tensor) -> Condition:
    """The same condition with the references of `dropped` rows [R] replaced by nothing: zero tokens and no reference attention.

    The pose is never dropped, so guidance does not amplify it.
    """
    keep = (~dropped).to(condition.image_tokens)[:, None, None]
    return replace(condition, image_tokens=condition.image_tokens * keep, dropped=condition.dropped | dropped)


def draw_dropped(references: int, probability: float, generator: torch.Generator) -> Tensor:
    """[R] bool, drawn per reference (never per batch, or workers would disagree on what runs)."""
    return torch.rand(references, generator=generator) < probability


def guide(unconditional: Tensor, conditional: Tensor, scale: float) -> Tensor:
    """e = e_u + w (e_c - e_u)."""
    return unconditional + scale * (conditional - unconditional)
