"""Pose guider: pose image -> features added to the denoiser's stem (AnimateAnyone Sec. 3.2.2, HFCA's PoseNet)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from models.checkpoint import load_strictly

Variant = Literal["controlnet", "paper_k4", "paper_literal"]


def _zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """Zero-initialised, so that a fresh guider changes nothing."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _controlnet_layers(widths: Sequence[int], out_channels: int, in_channels: int) -> list[nn.Module]:
    """3x3 convolutions in pairs, the second of each pair with stride 2 (ControlNet's conditioning embedding)."""
    layers: list[nn.Module] = [nn.Conv2d(in_channels, widths[0], 3, padding=1), nn.SiLU()]
    for narrow, wide in itertools.pairwise(widths):
        layers += [nn.Conv2d(narrow, narrow, 3, padding=1), nn.SiLU(), nn.Conv2d(narrow, wide, 3, padding=1, stride=2), nn.SiLU()]
    return [*layers, _zeroed(nn.Conv2d(widths[-1], out_channels, 3, padding=1))]


def _halving_layers(widths: Sequence[int]) -> list[nn.Module]:
    """4x4 convolutions of stride 2, one from each width to the next."""
    pairs = itertools.pairwise(widths)
    return [layer for narrow, wide in pairs for layer in (nn.Conv2d(narrow, wide, 4, stride=2, padding=1), nn.SiLU())]


def _paper_layers(widths: Sequence[int], out_channels: int, in_channels: int) -> list[nn.Module]:
    """4x4 convolutions of stride 2.

    The paper states four of them, which gives /16 while latents are /8: the last one keeps its size here.
    """
    layers = _halving_layers((in_channels, *widths[:-1]))
    layers += [nn.ZeroPad2d((1, 2, 1, 2)), nn.Conv2d(widths[-2], widths[-1], 4), nn.SiLU()]
    return [*layers, _zeroed(nn.Conv2d(widths[-1], out_channels, 1))]


def _literal_layers(widths: Sequence[int], out_channels: int, in_channels: int) -> list[nn.Module]:
    """The paper's four 4x4 convolutions of stride 2 as they are written, and a bilinear doubling that brings /16 back to /8."""
    doubling = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)
    return [*_halving_layers((in_channels, *widths)), doubling, _zeroed(nn.Conv2d(widths[-1], out_channels, 1))]


class PoseGuider(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """[N, in_channels, H, W] pose images in [0, 1] -> [N, out_channels, h, w], h = H / 2^(number of widths - 1).

    in_channels: 3 for a skeleton; HFCA's PoseNet also takes the three of DensePose (models/densepose_image.py).
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        out_channels: int = 320,
        widths: Sequence[int] = (16, 32, 96, 256),
        variant: Variant = "controlnet",
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        build = {"controlnet": _controlnet_layers, "paper_k4": _paper_layers, "paper_literal": _literal_layers}[variant]
        self.layers = nn.Sequential(*build(tuple(widths), out_channels, in_channels))

    def forward(self, pose: Tensor) -> Tensor:
        return self.layers(pose)


def widened_input(layer: nn.Conv2d, channels: int) -> nn.Conv2d:
    """A copy of `layer` that takes `channels` >= its own input channels; the added ones have zero weights, so that they change nothing yet."""
    if channels < layer.in_channels:
        raise ValueError(f"{channels} input channels are fewer than the layer's {layer.in_channels}")
    size, stride, padding = layer.kernel_size[0], layer.stride[0], layer.padding[0]
    assert isinstance(padding, int)
    wide = nn.Conv2d(channels, layer.out_channels, size, stride, padding, bias=layer.bias is not None)
    with torch.no_grad():
        _zeroed(wide).weight[:, : layer.in_channels].copy_(layer.weight)
        if wide.bias is not None and layer.bias is not None:
            wide.bias.copy_(layer.bias)
    return wide.to(layer.weight)


def start_from_controlnet(guider: PoseGuider, weights: Mapping[str, Tensor]) -> list[str]:
    """Give a `controlnet` guider the conditioning embedding of a ControlNet, all but its last layer; returns the names that were taken.

    weights: of the whole ControlNet (control_v11p_sd15_openpose) by diffusers' names. The last layer stays zero, so the guider still
    changes nothing. Input channels that the ControlNet lacks get zero weights. Raises UserError where names or shapes do not fit.
    """
    prefix = "controlnet_cond_embedding."
    convolutions = [(name, layer) for name, layer in guider.layers.named_children() if isinstance(layer, nn.Conv2d)]
    theirs = ["conv_in", *(f"blocks.{i}" for i in range(len(convolutions) - 2))]
    taken = {}
    for (ours, layer), other in zip(convolutions[:-1], theirs, strict=True):
        for kind in ("weight", "bias"):
            if f"{prefix}{other}.{kind}" in weights:
                taken[f"{ours}.{kind}"] = _widened_to(weights[f"{prefix}{other}.{kind}"], getattr(layer, kind))
    load_strictly(guider.layers, taken, source="the ControlNet", may_be_missing=[f"{convolutions[-1][0]}.*"])
    return sorted(f"layers.{name}" for name in taken)


def _widened_to(value: Tensor, like: Tensor) -> Tensor:
    """Zeros behind the input channels of a weight [out, in, ...] where `like` has more of them."""
    if value.ndim < 2 or value.shape[1] >= like.shape[1] or value.shape[0] != like.shape[0]:
        return value
    return torch.cat([value, value.new_zeros(value.shape[0], like.shape[1] - value.shape[1], *value.shape[2:])], dim=1)
