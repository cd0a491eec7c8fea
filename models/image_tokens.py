"""Image tokens: what the cross-attention of both UNets sees of the reference image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class PooledImageTokens(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Demo-size stand-in for CLIP: a fixed random projection of the 8x8 pooled image to one token.

    It carries colours and coarse layout, no semantics; nothing of it is trained.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, dim: int = 64, seed: int = 0) -> None:
        super().__init__()
        self.projection = nn.Linear(3 * 8 * 8, dim, bias=False)
        with torch.no_grad():
            weight = torch.randn(dim, 192, generator=torch.Generator().manual_seed(seed)) / 192**0.5
            self.projection.weight.copy_(weight)
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """[R, 3, H, W] in [-1, 1] -> [R, 1, dim]."""
        return self.projection(F.adaptive_avg_pool2d(images, 8).flatten(1))[:, None]


class ClipImageTokens(nn.Module):
    """CLIP ViT-L/14 with projection: [R, 3, H, W] in [-1, 1] -> [R, 1, 768]; direct resize to 224x224, in training as in sampling."""

    def __init__(self, source: str, subfolder: str | None = None) -> None:
        super().__init__()
        from transformers import CLIPVisionModelWithProjection

        options: dict[str, Any] = {"subfolder": subfolder} if subfolder and not Path(source).is_dir() else {}
        self.encoder = CLIPVisionModelWithProjection.from_pretrained(source, **options).requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        side = self.encoder.config.image_size
        pixels = F.interpolate((images + 1) / 2, (side, side), mode="bicubic", antialias=True, align_corners=False)
        mean, std = images.new_tensor(_CLIP_MEAN)[:, None, None], images.new_tensor(_CLIP_STD)[:, None, None]
        return self.encoder((pixels - mean) / std).image_embeds[:, None]


def image_tokens_of(encoder: str | None, width: int) -> nn.Module:
    """CLIP's tokens (`encoder`: a folder or a hub id with image_encoder/), or at demo size the pooled stand-in of that width."""
    return PooledImageTokens(width) if encoder is None else ClipImageTokens(encoder, subfolder="image_encoder")
