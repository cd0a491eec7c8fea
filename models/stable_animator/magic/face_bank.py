"""ID adapters for a denoiser whose context belongs to others too: face tokens wait in a bank, and the adapters fetch them."""

# R = references, N = rows of the denoiser, K = face tokens, D = their width

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from models.stable_animator.config import NetworkConfig
from models.stable_animator.id_adapter import IdAdapter, spatial_sites


class FaceBank:
    """Face tokens [R, K, D] of one pass."""

    def __init__(self) -> None:
        self._tokens: Tensor | None = None

    @contextmanager
    def held(self, tokens: Tensor | None) -> Iterator[None]:
        """These tokens inside; nothing afterwards."""
        self._tokens = tokens
        try:
            yield
        finally:
            self._tokens = None

    def rows(self, count: int) -> Tensor:
        """[N, K, D]: each reference serves N / R consecutive rows. Raises ValueError outside of `held` (a recomputed block would be)."""
        if self._tokens is None:
            raise ValueError("no face tokens are held: run the network, not its denoiser, and without gradient checkpointing")
        return self._tokens.repeat_interleave(count // len(self._tokens), dim=0)


class IdAdapters(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """One IdAdapter for each spatial cross-attention, in the order of their sorted names: a checkpoint's part beside the UNet's."""

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        channels: Sequence[int],
        token_dim: int,
        face_tokens: int = 4,
        align: str = "adain",
        stat_dims: str = "token_channel",
        zero_passthrough: bool = True,
    ) -> None:
        super().__init__()
        options: dict[str, Any] = {"align": align, "stat_dims": stat_dims, "zero_passthrough": zero_passthrough}
        self.each = nn.ModuleList(IdAdapter(width, token_dim, face_tokens, **options) for width in channels)


class BankedAdapter:
    """A processor for `attn2`: the adapter, with the bank's face tokens behind the context."""

    def __init__(self, adapter: IdAdapter, bank: FaceBank) -> None:
        self._adapter, self._bank = adapter, bank

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: Any) -> Tensor:
        face = self._bank.rows(len(hidden_states)).to(encoder_hidden_states)
        return self._adapter(attn, hidden_states, torch.cat([encoder_hidden_states, face], dim=1))


def fresh_adapters(unet: Any, shape: NetworkConfig) -> IdAdapters:
    """Adapters whose keys and values begin as the UNet's own."""
    layers = [unet.get_submodule(name.removesuffix(".processor")) for name in sorted(spatial_sites(unet))]
    made = IdAdapters(
        [layer.to_k.out_features for layer in layers], layers[0].to_k.in_features, shape.face_tokens, shape.align, shape.stat_dims,
        shape.zero_face_passthrough,
    )  # fmt: skip
    with torch.no_grad():
        for layer, adapter in zip(layers, made.each, strict=True):
            assert isinstance(adapter, IdAdapter)
            adapter.id_to_k.weight.copy_(layer.to_k.weight)
            adapter.id_to_v.weight.copy_(layer.to_v.weight)
    return made


def read_faces(unet: Any, adapters: IdAdapters, bank: FaceBank) -> None:
    """Give every spatial cross-attention of the denoiser its adapter; the adapters' weights stay their own."""
    pairs = zip(sorted(spatial_sites(unet)), adapters.each, strict=True)
    banked = {name: BankedAdapter(adapter, bank) for name, adapter in pairs if isinstance(adapter, IdAdapter)}
    unet.set_attn_processor({**unet.attn_processors, **banked})
