"""Size of a UNet of Stable Diffusion 1.5's structure and of its motion modules; both are built from scratch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class UnetShape:
    """The defaults are Stable Diffusion 1.5 and AnimateDiff v2."""

    channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers: int = 2
    heads: int = 8
    token_dim: int = 768  # CLIP ViT-L/14 image embedding
    norm_groups: int = 32
    latent_channels: int = 4
    motion_heads: int = 8
    motion_frames: int = 32  # the longest window


def make_unet(shape: UnetShape) -> Any:
    """A UNet2DConditionModel with random weights."""
    from diffusers import UNet2DConditionModel

    levels = len(shape.channels)
    return UNet2DConditionModel(
        in_channels=shape.latent_channels,
        out_channels=shape.latent_channels,
        block_out_channels=shape.channels,
        layers_per_block=shape.layers,
        down_block_types=("CrossAttnDownBlock2D",) * (levels - 1) + ("DownBlock2D" if levels > 2 else "CrossAttnDownBlock2D",),
        up_block_types=("UpBlock2D" if levels > 2 else "CrossAttnUpBlock2D",) + ("CrossAttnUpBlock2D",) * (levels - 1),
        cross_attention_dim=shape.token_dim,
        attention_head_dim=shape.heads,
        norm_num_groups=shape.norm_groups,
    )


def make_motion(shape: UnetShape) -> Any:
    """Motion modules (a MotionAdapter) with random weights; see temporal_attention.zero_motion_output."""
    from diffusers import MotionAdapter

    return MotionAdapter(
        block_out_channels=shape.channels,
        motion_layers_per_block=shape.layers,
        motion_mid_block_layers_per_block=1,
        motion_num_attention_heads=shape.motion_heads,
        motion_norm_num_groups=shape.norm_groups,
        motion_max_seq_length=shape.motion_frames,
    )
