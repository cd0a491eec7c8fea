"""Pose guider: pose image -> features added to the denoiser's stem (AnimateAnyone Sec. 3.2.2)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

Variant = Literal["controlnet", "paper_k4"]


def _zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """Zero-initialised, so that a fresh guider changes nothing."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _controlnet_layers(widths: Sequence[int], out_channels: int) -> list[nn.Module]:
    """3x3 convolutions in pairs, the second of each pair with stride 2 (ControlNet's conditioning embedding)."""
    layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 3, padding=1), nn.SiLU()]
    for narrow, wide in itertools.pairwise(widths):
        layers += [nn.Conv2d(narrow, narrow, 3, padding=1), nn.SiLU(), nn.Conv2d(narrow, wide, 3, padding=1, stride=2), nn.SiLU()]
    return [*layers, _zeroed(nn.Conv2d(widths[-1], out_channels, 3, padding=1))]


def _paper_layers(widths: Sequence[int], out_channels: int) -> list[nn.Module]:
    """4x4 convolutions of stride 2.

    The paper states four of them, which gives /16 while latents are /8: the last one keeps its size here.
    """
    layers: list[nn.Module] = []
    for narrow, wide in zip((3, *widths[:-2]), widths[:-1], strict=True):
        layers += [nn.Conv2d(narrow, wide, 4, stride=2, padding=1), nn.SiLU()]
    layers += [nn.ZeroPad2d((1, 2, 1, 2)), nn.Conv2d(widths[-2], widths[-1], 4), nn.SiLU()]
    return [*layers, _zeroed(nn.Conv2d(widths[-1], out_channels, 1))]


class PoseGuider(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """[N, 3, H, W] pose images in [0, 1] -> [N, out_channels, h, w], h = H / 2^(number of widths - 1)."""

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, out_channels: int = 320, widths: Sequence[int] = (16, 32, 96, 256), variant: Variant = "controlnet") -> None:
        super().__init__()
        build = {"controlnet": _controlnet_layers, "paper_k4": _paper_layers}[variant]
        self.layers = nn.Sequential(*build(tuple(widths), out_channels))

    def forward(self, pose: Tensor) -> Tensor:
        return self.layers(pose)
