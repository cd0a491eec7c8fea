"""Decoupled cross-attention (IP-Adapter, Ye et al. 2023, Eq. 5): image tokens beside text tokens, with keys and values of their own."""

# N = rows, L = places, S = text tokens, K = image tokens, D = their width, C = channels of the layer

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ImagePromptAttention(nn.Module):
    """out = softmax(Q K^T / sqrt(d)) V + scale softmax(Q K'^T / sqrt(d)) V', K' and V' from the last `image_tokens` of the context.

    A processor for an `attn2` layer of diffusers, called with the context [N, S + K, D]. Zero image tokens add nothing (V' = 0), which is
    the null condition; so does a zero `to_v_ip`, with which training may begin.
    """

    def __init__(self, channels: int, token_dim: int, image_tokens: int = 4, scale: float = 1.0) -> None:
        super().__init__()
        self.image_tokens, self.scale = image_tokens, scale
        self.to_k_ip = nn.Linear(token_dim, channels, bias=False)
        self.to_v_ip = nn.Linear(token_dim, channels, bias=False)

    def forward(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: Any) -> Tensor:
        text, image = encoder_hidden_states[:, : -self.image_tokens], encoder_hidden_states[:, -self.image_tokens :]
        query = attn.to_q(hidden_states)
        out = _attended(query, attn.to_k(text), attn.to_v(text), attn.heads)
        out = out + self.scale * _attended(query, self.to_k_ip(image), self.to_v_ip(image), attn.heads)
        return attn.to_out[1](attn.to_out[0](out))


def _attended(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    split = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (query, key, value))
    return F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)


def cross_sites(unet: Any) -> list[str]:
    """Names of the spatial cross-attention processors (`attn2` outside motion modules), in the order in which diffusers lists them."""
    return [name for name in unet.attn_processors if name.endswith("attn2.processor") and "motion_modules" not in name]


def add_image_prompts(unet: Any, image_tokens: int = 4, scale: float = 1.0) -> dict[str, ImagePromptAttention]:
    """Give every spatial cross-attention image keys and values that begin as the text's keys and zero values; returns them by name."""
    made = {}
    for name in cross_sites(unet):
        layer = unet.get_submodule(name.removesuffix(".processor"))
        made[name] = ImagePromptAttention(layer.to_k.out_features, layer.to_k.in_features, image_tokens, scale).to(layer.to_k.weight)
        with torch.no_grad():
            made[name].to_k_ip.weight.copy_(layer.to_k.weight)
            nn.init.zeros_(made[name].to_v_ip.weight)
    unet.set_attn_processor({**unet.attn_processors, **made})
    return made
