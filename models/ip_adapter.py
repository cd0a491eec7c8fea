"""IP-Adapter (Ye et al. 2023): pictures as prompts. Its files, its projection, and its attention set into a UNet.

embedding [R, D] of a picture -> 4 tokens [R, K, T] -> keys and values beside the text's (models/image_prompt_attention.py)
"""

# R = pictures, D = numbers of an embedding, K = tokens of a picture, T = width of a token

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from models.checkpoint import load_strictly
from models.image_prompt_attention import ImagePromptAttention, add_image_prompts
from pipelines.errors import UserError
from pipelines.extractors.pretrained_folder import load_state

Parts = Mapping[str, Mapping[str, Tensor]]
"""image_proj: the projection by name; ip_adapter: `<odd number>.to_{k,v}_ip.weight`, numbered in the order of `unet.attn_processors`."""


class ImagePrompts(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Linear D -> K * T, then LayerNorm. No picture is the embedding 0 (and not the token 0): its tokens are the LayerNorm of the bias."""

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, dim: int = 1024, token_dim: int = 768, tokens: int = 4) -> None:
        super().__init__()
        self.tokens = tokens
        self.proj = nn.Linear(dim, tokens * token_dim)
        self.norm = nn.LayerNorm(token_dim)

    def forward(self, embeddings: Tensor) -> Tensor:
        """[R, D] -> [R, K, T]."""
        return self.norm(self.proj(embeddings).unflatten(-1, (self.tokens, -1)))

    def null(self, pictures: int) -> Tensor:
        """[R, K, T]: the tokens of no picture."""
        return self(self.proj.weight.new_zeros(pictures, self.proj.in_features))


def read_ip_adapter(path: Path) -> Parts:
    """The parts of a safetensors file as it is published. Raises UserError where it is none, or one of the `plus` kind (a resampler)."""
    state, parts = load_state(path), dict[str, dict[str, Tensor]]()
    for name, value in state.items():
        part, _, rest = name.partition(".")
        parts.setdefault(part, {})[rest] = value.float()
    if set(parts) != {"image_proj", "ip_adapter"} or "proj.weight" not in parts["image_proj"]:
        raise UserError(
            f"{path} is no plain IP-Adapter: it must hold image_proj.proj, image_proj.norm and ip_adapter; take ip-adapter_sd15"
        )
    return parts


def load_ip_adapter(unet: Any, parts: Parts, scale: float = 1.0) -> ImagePrompts:
    """Set the attention of an adapter into `unet` and give its projection. Raises UserError where it is another UNet's."""
    weight = parts["image_proj"]["proj.weight"]
    width = parts["image_proj"]["norm.weight"].shape[0]
    prompts = ImagePrompts(dim=weight.shape[1], token_dim=width, tokens=weight.shape[0] // width)
    load_strictly(prompts, parts["image_proj"], source="image_proj")
    named = numbered(add_image_prompts(unet, prompts.tokens, scale))
    wanted = {f"{number}.{name}": value for number, layer in named.items() for name, value in layer.state_dict().items()}
    given = parts["ip_adapter"]
    if {k: v.shape for k, v in wanted.items()} != {k: v.shape for k, v in given.items()}:
        raise UserError(f"the IP-Adapter is another UNet's: it has {len(given)} matrices, this UNet takes {len(wanted)} of its own shapes")
    with torch.no_grad():
        for name, value in wanted.items():
            value.copy_(given[name])
    return prompts


def fresh_ip_adapter(unet: Any, dim: int, tokens: int = 4, scale: float = 1.0) -> ImagePrompts:
    """An untrained adapter that changes nothing yet: its values are zero."""
    made = add_image_prompts(unet, tokens, scale)
    width = next(iter(made.values())).to_k_ip.in_features
    return ImagePrompts(dim=dim, token_dim=width, tokens=tokens)


def numbered(layers: Mapping[str, ImagePromptAttention]) -> dict[int, ImagePromptAttention]:
    """Attention layers by their number in the published files: 1, 3, 5, …"""
    return {2 * place + 1: layer for place, layer in enumerate(layers.values())}


def parts_of(prompts: ImagePrompts, layers: Mapping[str, ImagePromptAttention]) -> dict[str, dict[str, Tensor]]:
    """The published layout of an adapter; layers as `add_image_prompts` names them."""
    named = numbered(layers)
    attention = {f"{number}.{name}": value for number, layer in named.items() for name, value in layer.state_dict().items()}
    return {"image_proj": dict(prompts.state_dict()), "ip_adapter": attention}
