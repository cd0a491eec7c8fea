"""The global content-aware Face Encoder (Sec. 3.1): face tokens that have looked at the reference image's."""

# B = clips, D = width of a token, K = face tokens, E = numbers of the recogniser's embedding

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn


class FaceProjection(nn.Module):
    """[B, E] raw embeddings -> [B, K, D] tokens: two linear layers and a norm."""

    def __init__(self, face_dim: int, token_dim: int, tokens: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.layers = nn.Sequential(nn.Linear(face_dim, token_dim), nn.GELU(), nn.Linear(token_dim, tokens * token_dim))
        self.norm = nn.LayerNorm(token_dim)

    def forward(self, embeddings: Tensor) -> Tensor:
        return self.norm(self.layers(embeddings).unflatten(-1, (self.tokens, -1)))


class PerceiverLayer(nn.Module):
    """Face tokens attend to the image tokens and themselves (Jaegle et al. 2021), then a feed-forward; no biases but the norms'."""

    def __init__(self, dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        inner, self.heads = heads * head_dim, heads
        self.norm_image, self.norm_face = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.to_q = nn.Linear(dim, inner, bias=False)
        self.to_kv = nn.Linear(dim, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, dim, bias=False)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, 4 * dim, bias=False), nn.GELU(), nn.Linear(4 * dim, dim, bias=False)
        )

    def forward(self, face: Tensor, image: Tensor) -> Tensor:
        face = face + self._attended(self.norm_face(face), self.norm_image(image))
        return face + self.feed_forward(face)

    def _attended(self, face: Tensor, image: Tensor) -> Tensor:
        key, value = self.to_kv(torch.cat([image, face], dim=1)).chunk(2, dim=-1)
        query, key, value = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (self.to_q(face), key, value))
        return self.to_out(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class FaceEncoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """[B, E] raw face embeddings and [B, S, D] image tokens -> [B, K, D] face tokens.

    refine: off, the projected embedding is the answer (Table 2, "w/o Face Encoder"). A fresh encoder that refines answers zeros.
    zero_init: "linear" zeroes the last layer before the norm (released code). The norm divides by its deviation, which is 0: behind it the
    layer's gradient is 1 / sqrt(1e-5) = 316 times as large, so warm up and clip. "post_norm_gain" zeroes the norm's gain instead.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        face_dim: int = 512,
        token_dim: int = 1024,
        tokens: int = 4,
        layers: int = 4,
        heads: int = 16,
        head_dim: int = 64,
        refine: bool = True,
        zero_init: Literal["linear", "post_norm_gain"] = "linear",
    ) -> None:
        super().__init__()
        self.projection = FaceProjection(face_dim, token_dim, tokens)
        self.refine = refine
        if not refine:
            return
        self.image = nn.Linear(token_dim, token_dim)
        self.blocks = nn.ModuleList(PerceiverLayer(token_dim, heads, head_dim) for _ in range(layers))
        self.out, self.norm = nn.Linear(token_dim, token_dim), nn.LayerNorm(token_dim)
        for parameter in (self.out.weight, self.out.bias) if zero_init == "linear" else (self.norm.weight,):
            nn.init.zeros_(parameter)

    def forward(self, embeddings: Tensor, image_tokens: Tensor) -> Tensor:
        face = self.projection(embeddings)
        if not self.refine:
            return face
        image = self.image(image_tokens)
        for block in self.blocks:
            face = block(face, image)
        return self.norm(self.out(face))
