"""MagicVideo's temporal layers (Zhou et al. 2022), as the baseline IPC has them: causal attention over frames, and an adaptor for each frame.

Written from the field's knowledge of that paper (methods that cite it give no more): a frame attends to itself and to earlier ones, and behind
every 2-D convolution each frame has its own scale and shift per channel. Both change nothing at the start.
"""

# B = clips, T = frames of a clip, C = channels

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from models.downsampling_temporal import TemporalLayer


class CausalTemporalLayer(TemporalLayer):
    """y = x + Wo Attention(...) over the frames of each place, where frame t sees frames up to t; Wo = 0 at the start."""

    def attend(self, tokens: Tensor) -> Tensor:
        """Multi-head self-attention, [.., T, C], each frame over itself and those before it."""

        def heads(t: Tensor) -> Tensor:
            return t.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        query, key, value = (heads(project(tokens)) for project in (self.to_q, self.to_k, self.to_v))
        return self.to_out(F.scaled_dot_product_attention(query, key, value, is_causal=True).transpose(1, 2).flatten(2))


class FrameAdaptor(nn.Module):
    """z_t <- s_t z_t + b_t, with a scale (1 at the start) and a shift (0) for each frame index of a window and each channel."""

    def __init__(self, channels: int, max_frames: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(max_frames, channels))
        self.shift = nn.Parameter(torch.zeros(max_frames, channels))

    def forward(self, x: Tensor, frames: int) -> Tensor:
        """[B * T, C, h, w] -> the same; ValueError when T is more than there are frame indices or does not divide the rows."""
        if frames > len(self.scale) or len(x) % frames:
            raise ValueError(
                f"{len(x)} rows in clips of {frames} frames; a clip has at most {len(self.scale)} and all have the same length"
            )
        clips = len(x) // frames
        scale, shift = (value[:frames].repeat(clips, 1)[..., None, None] for value in (self.scale, self.shift))
        return scale * x + shift


class CausalTemporal(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """A temporal layer behind every spatial transformer and an adaptor behind both convolutions of every resnet of a UNet2DConditionModel.

    transformers, convolutions: the modules behind which they stand, and their channels (`causal_temporal_of` lists them); in the names of
    parameters dots are written as "__".
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self, transformers: Mapping[str, int], convolutions: Mapping[str, int], heads: int = 8, max_frames: int = 24, causal: bool = True
    ) -> None:
        super().__init__()
        kind = CausalTemporalLayer if causal else TemporalLayer
        self.layers = nn.ModuleDict({_key(name): kind(width, heads, max_frames) for name, width in transformers.items()})
        self.adaptors = nn.ModuleDict({_key(name): FrameAdaptor(width, max_frames) for name, width in convolutions.items()})
        self.frames = 1
        """Of each clip in the rows of the next call; set it before every call of the UNet."""

    def attach(self, unet: Any) -> list[Any]:
        """Hook the layers into that UNet; returns the handles, whose `remove()` takes them out."""
        after = [unet.get_submodule(_name(key)).register_forward_hook(self._after_transformer(layer)) for key, layer in self.layers.items()]
        return after + [
            unet.get_submodule(_name(key)).register_forward_hook(self._after_convolution(adaptor)) for key, adaptor in self.adaptors.items()
        ]

    def _after_transformer(self, layer: nn.Module) -> Any:
        def after(_: nn.Module, __: Any, output: Sequence[Tensor]) -> tuple[Tensor]:
            return (layer(output[0], self.frames),)

        return after

    def _after_convolution(self, adaptor: nn.Module) -> Any:
        def after(_: nn.Module, __: Any, output: Tensor) -> Tensor:
            adapted: Tensor = adaptor(output, self.frames)
            return adapted

        return after


def causal_temporal_of(unet: Any, heads: int = 8, max_frames: int = 24, *, causal: bool = True, adaptor: bool = True) -> CausalTemporal:
    """Fresh temporal layers for every transformer block of `unet` and, with `adaptor`, for every resnet's two convolutions."""
    from diffusers.models.resnet import ResnetBlock2D
    from diffusers.models.transformers.transformer_2d import Transformer2DModel

    named = list(unet.named_modules())
    transformers = {name: module.in_channels for name, module in named if isinstance(module, Transformer2DModel)}
    resnets = [(name, module) for name, module in named if isinstance(module, ResnetBlock2D)]
    convolutions = {f"{name}.{conv}": getattr(module, conv).out_channels for name, module in resnets for conv in ("conv1", "conv2")}
    return CausalTemporal(transformers, convolutions if adaptor else {}, heads, max_frames, causal)


def _key(name: str) -> str:
    """A module's name as a key of a ModuleDict, which takes no dots."""
    return name.replace(".", "__")


def _name(key: str) -> str:
    return key.replace("__", ".")
