"""The frozen networks that the Identity Preservation Module looks through: a face recogniser and VGG19's first layers."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from models.checkpoint import load_strictly
from models.hfca.config import IdentityPreservation
from models.style_loss import Vgg19, load_vgg19
from models.torch_recognisers import torch_recogniser
from pipelines.extractors.lpips import LPIPS_TINY
from pipelines.extractors.pretrained_folder import load_state
from pipelines.weights import find_weights

_TINY_WIDTHS = (LPIPS_TINY.widths[0], LPIPS_TINY.widths[1])

TINY_VGG = "vgg_tiny"
"""Role of the tiny family's VGG16. VGG16 and VGG19 are the same up to conv2_2; this one has narrower layers."""


def recogniser_of(config: IdentityPreservation) -> nn.Module | None:
    """The recogniser of Eq. 1, or None where there is no such loss. Raises MissingWeightsError."""
    return torch_recogniser(config.recogniser) if config.enabled and config.face else None


def perceptual_of(config: IdentityPreservation) -> Vgg19 | None:
    """The network of Eq. 2, or None where there is no such loss. Raises MissingWeightsError, UserError."""
    return style_network(config.perceptual) if config.enabled and config.style else None


def style_network(role: str | None) -> Vgg19:
    """Features behind conv1_2 and conv2_2 of a role's file; None = a fixed random stand-in, which tells colours and edges apart."""
    if role is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return Vgg19(_TINY_WIDTHS)
    path = find_weights(role)
    if role != TINY_VGG:
        return load_vgg19(path)
    network, weights = Vgg19(_TINY_WIDTHS), load_state(path)
    load_strictly(network, {name: weights[name].float() for name in network.state_dict() if name in weights}, source=str(path))
    return network


def judge_files(config: IdentityPreservation) -> list[Path]:
    """Pretrained files that the losses depend on. Raises MissingWeightsError."""
    roles = {"face": config.recogniser if config.face else None, "style": config.perceptual if config.style else None}
    return [find_weights(role) for role in roles.values() if role is not None] if config.enabled else []
