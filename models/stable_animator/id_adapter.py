"""The distribution-aware ID Adapter (Eq. 1 and 2): face tokens join a spatial cross-attention with the statistics of the image's answer."""

# N = rows (clip frames), L = places, S = image or text tokens, K = face tokens, D = their width, C = channels of the layer

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Align = Literal["adain", "add", "norm"]
StatDims = Literal["token_channel", "token"]

_AXES: dict[str, tuple[int, ...]] = {"token_channel": (1, 2), "token": (1,)}
_EPSILON = 1e-5  # on the face's deviation alone (released code)


def aligned(face: Tensor, image: Tensor, align: Align = "adain", stat_dims: StatDims = "token_channel") -> Tensor:
    """Eq. 2's z_face with the mean and deviation of z_img, both [N, L, C]: (z_face - mu_face) / sigma_face * sigma_img + mu_img.

    stat_dims: one mean and deviation per row, over places and channels (released code), or one per row and channel. Deviations are unbiased.
    align: "norm" leaves out sigma_img and mu_img (Table 4), "add" changes nothing.
    """
    if align == "add":
        return face
    axes = _AXES[stat_dims]
    unit = (face - face.mean(axes, keepdim=True)) / (_std(face, axes) + _EPSILON)
    return unit if align == "norm" else unit * _std(image, axes) + image.mean(axes, keepdim=True)


def _std(value: Tensor, axes: tuple[int, ...]) -> Tensor:
    # one place has no unbiased deviation along places
    return value.std(axes, keepdim=True, correction=min(1, value[0].numel() - 1) if axes == (1, 2) else min(1, value.shape[1] - 1))


class IdAdapter(nn.Module):
    """A processor for a spatial `attn2` layer of diffusers, called with the context [N, S + K, D]: z = z_img + aligned z_face (Eq. 2).

    z_img uses the layer's own keys and values, z_face new ones that begin as copies; the output projection is shared.
    zero_passthrough: rows whose face tokens are all zero (the null condition, a fresh face encoder) get z_img alone. Read literally
    Eq. 2 would add the constant mu_img there. Gradients still reach the tokens, past the alignment, which cannot be differentiated at zero.
    """

    def __init__(
        self,
        channels: int,
        token_dim: int,
        face_tokens: int = 4,
        align: Align = "adain",
        stat_dims: StatDims = "token_channel",
        zero_passthrough: bool = True,
    ) -> None:
        super().__init__()
        self.face_tokens, self.align, self.stat_dims, self.zero_passthrough = face_tokens, align, stat_dims, zero_passthrough
        self.id_to_k = nn.Linear(token_dim, channels, bias=False)
        self.id_to_v = nn.Linear(token_dim, channels, bias=False)

    def forward(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: Any) -> Tensor:
        image, face = encoder_hidden_states[:, : -self.face_tokens], encoder_hidden_states[:, -self.face_tokens :]
        query = attn.to_q(hidden_states)
        z_image = _attended(query, attn.to_k(image), attn.to_v(image), attn.heads)
        z_face = _attended(query, self.id_to_k(face), self.id_to_v(face), attn.heads)
        return attn.to_out[1](attn.to_out[0](z_image + self._joined(z_face, z_image, face)))

    def _joined(self, z_face: Tensor, z_image: Tensor, face: Tensor) -> Tensor:
        joined = aligned(z_face, z_image, self.align, self.stat_dims)
        if not self.zero_passthrough:
            return joined
        empty = (face == 0).flatten(1).all(dim=1)[:, None, None]
        return torch.where(empty, z_face, joined)


class ImageTokenOnly:
    """A processor for a temporal `attn2` layer: it sees the first token, the image's, as SVD's did; the face's are for the spatial layers."""

    def __init__(self, face_tokens: int) -> None:
        self.face_tokens = face_tokens

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: Any) -> Tensor:
        seen = encoder_hidden_states[:, : -self.face_tokens]
        out = _attended(attn.to_q(hidden_states), attn.to_k(seen), attn.to_v(seen), attn.heads)
        return attn.to_out[1](attn.to_out[0](out))


def _attended(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    split = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (query, key, value))
    return F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)


def spatial_sites(unet: Any) -> list[str]:
    """Names of the cross-attention processors that see one frame: of SVD's UNet, of SD 1.5's, and of AnimateDiff's."""
    return [name for name in _cross_sites(unet) if not _is_temporal(name)]


def temporal_sites(unet: Any) -> list[str]:
    """Names of the cross-attention processors that see a place over all frames (SVD alone has them)."""
    return [name for name in _cross_sites(unet) if _is_temporal(name)]


def _cross_sites(unet: Any) -> list[str]:
    return [name for name in unet.attn_processors if name.endswith("attn2.processor") and "motion_modules" not in name]


def _is_temporal(name: str) -> bool:
    return "temporal_transformer_blocks" in name


def add_id_adapter(unet: Any, face_tokens: int = 4, **options: Any) -> dict[str, IdAdapter]:
    """Give every spatial cross-attention an adapter whose keys and values begin as the layer's own, and keep the face from temporal ones.

    options: those of IdAdapter. Returns the adapters by name; their weights are the UNet's from now on.
    """
    adapters = {}
    for name in spatial_sites(unet):
        layer = unet.get_submodule(name.removesuffix(".processor"))
        adapters[name] = IdAdapter(layer.to_k.out_features, layer.to_k.in_features, face_tokens, **options).to(layer.to_k.weight)
        with torch.no_grad():
            adapters[name].id_to_k.weight.copy_(layer.to_k.weight)
            adapters[name].id_to_v.weight.copy_(layer.to_v.weight)
    blind = {name: ImageTokenOnly(face_tokens) for name in temporal_sites(unet)}
    unet.set_attn_processor({**unet.attn_processors, **adapters, **blind})
    return adapters
