"""Sparse-causal attention (Tune-A-Video, Wu et al. 2023, Eq. 5 and 6): self-attention looks at the first frame and at the one before.

    out_i = softmax(Q K^T / sqrt(d)) V,   Q = Wq z_i,   K = Wk [z_0; z_{i-1}],   V = Wv [z_0; z_{i-1}]

Without training, with the layer's own projections. Frame 0 sees itself twice, which is plain self-attention.
"""

# B = branches of guidance in a batch, F = frames, L = places, C = channels

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from models.reference_attention import attend, spatial_sites


class SparseCausal:
    """Which frames the rows are; shared by the processors. Outside of `over` they are plain self-attention."""

    def __init__(self) -> None:
        self.frames = 0

    @contextmanager
    def over(self, frames: int) -> Iterator[None]:
        """Rows are frames 0 … F - 1 of one clip, once per branch."""
        self.frames = frames
        try:
            yield
        finally:
            self.frames = 0


class SparseCausalAttention:
    """Processor of one self-attention layer; hidden states [B * F, L, C]."""

    def __init__(self, shared: SparseCausal) -> None:
        self.shared = shared

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: Any) -> Tensor:
        if not self.shared.frames:
            return attend(attn, hidden_states, hidden_states)
        own = torch.arange(len(hidden_states), device=hidden_states.device)
        first = own // self.shared.frames * self.shared.frames
        before = torch.maximum(own - 1, first)
        return attend(attn, hidden_states, torch.cat([hidden_states[first], hidden_states[before]], dim=1))


def use_sparse_causal(unet: Any) -> SparseCausal:
    """Set the processors at every spatial self-attention; returns their switch."""
    shared = SparseCausal()
    unet.set_attn_processor({**unet.attn_processors, **{name: SparseCausalAttention(shared) for name in spatial_sites(unet)}})
    return shared
