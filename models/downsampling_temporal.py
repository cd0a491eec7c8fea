"""Temporal layers behind the downsampling blocks (HFCA Sec. 3.4): one self-attention over frames each, zero-initialised."""

# B = clips, T = frames, C h w = channels, height, width of a block's output

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn


def frame_positions(frames: int, channels: int) -> Tensor:
    """[T, C] sinusoidal positions, sines at even channels and cosines at odd ones, base 10000 (Vaswani et al. 2017)."""
    rates = torch.exp(torch.arange(0, channels, 2) * (-math.log(10000.0) / channels))
    angles = torch.arange(frames)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :channels]


class TemporalLayer(nn.Module):
    """y = x + Wo Attention(Wq x', Wk x', Wv x'), x' = x + positions, over the frames of each place; Wo = 0 at the start.

    The formula has one head and no normalisation; several heads and `pre_norm` (on x, before the positions) are ours. It states no bias
    of the projections either: there is none but Wo's.
    """

    def __init__(self, channels: int, heads: int = 8, max_frames: int = 32, *, pre_norm: bool = True) -> None:
        super().__init__()
        self.heads, self.max_frames = heads, max_frames
        self.norm = nn.LayerNorm(channels) if pre_norm else nn.Identity()
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels, bias=False) for _ in range(3))
        self.to_out = nn.Linear(channels, channels)
        nn.init.zeros_(self.to_out.weight)
        nn.init.zeros_(self.to_out.bias)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """[B * T, C, h, w] -> the same; ValueError when T is more than `max_frames` or does not divide the rows."""
        if frames > self.max_frames or len(x) % frames:
            raise ValueError(
                f"{len(x)} rows in clips of {frames} frames; a clip has at most {self.max_frames} and all have the same length"
            )
        height, width = x.shape[-2:]
        tokens = x.unflatten(0, (-1, frames)).permute(0, 3, 4, 1, 2).flatten(0, 2)  # [B * h * w, T, C]
        moved = self.attend(self.norm(tokens) + frame_positions(frames, x.shape[1]).to(tokens))
        return x + moved.unflatten(0, (-1, height, width)).permute(0, 3, 4, 1, 2).flatten(0, 1)

    def attend(self, tokens: Tensor) -> Tensor:
        """Multi-head self-attention, [.., T, C]."""

        def heads(t: Tensor) -> Tensor:
            return t.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        out = F.scaled_dot_product_attention(heads(self.to_q(tokens)), heads(self.to_k(tokens)), heads(self.to_v(tokens)))
        return self.to_out(out.transpose(1, 2).flatten(2))


class DownsamplingTemporal(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """One TemporalLayer behind each entry of `unet.down_blocks`: "only after the downsampling blocks, avoiding cross-attention layers".

    channels: of each block's output, SD 1.5's are 320, 640, 1280, 1280. update_skip: the skip connection that leaves a block last is the same
    tensor as its output; whether it takes the layer's result, too (the paper does not say).
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        channels: Sequence[int] = (320, 640, 1280, 1280),
        heads: int = 8,
        max_frames: int = 32,
        pre_norm: bool = True,
        update_skip: bool = True,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TemporalLayer(width, heads, max_frames, pre_norm=pre_norm) for width in channels)
        self.update_skip = update_skip
        self.frames = 1
        """Of each clip in the rows of the next call; set it before every call of the UNet."""

    def attach(self, unet: Any) -> list[Any]:
        """Hook the layers in behind the down blocks of a UNet2DConditionModel; returns the handles, whose `remove()` takes them out."""
        if len(unet.down_blocks) != len(self.layers):
            raise ValueError(f"{len(self.layers)} temporal layers for {len(unet.down_blocks)} down blocks")
        return [block.register_forward_hook(self._hook(layer)) for block, layer in zip(unet.down_blocks, self.layers, strict=True)]

    def _hook(self, layer: nn.Module) -> Any:
        def after(_: nn.Module, __: Any, output: tuple[Tensor, tuple[Tensor, ...]]) -> tuple[Tensor, tuple[Tensor, ...]]:
            hidden, skips = output
            mixed = layer(hidden, self.frames)
            return mixed, ((*skips[:-1], mixed) if self.update_skip else skips)

        return after
