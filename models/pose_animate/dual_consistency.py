"""DCAM, the Dual Consistency Attention Module (Eq. 7 and 8), with MGDM's decoupled form (Eq. 9 and 10), as attention processors.

    CFA_ij = softmax(Q_i K_j^T / sqrt(d)) V_j,   DCA_i = l1 CFA_i0 + l2 CFA_i,i-1 + l3 CFA_ii

They take the place of self-attention in the UNet's up blocks alone, and have no weights. Frame 0 looks at itself only.
"""

# B = branches of guidance in a batch, F = frames, N = B * F rows, L = places, C = channels, d = channels of a head

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from models.reference_attention import attend, spatial_sites

Weights = tuple[float, float, float]
KeyMask = Literal["neg_inf", "zero"]
MasksAt = Callable[[int], Tensor]
"""L -> [F, L] bool: where each frame's character is, at a layer of L places."""


class DualConsistency:
    """What the processors share: which frames the rows are, and their masks. Outside of `over` they are plain self-attention."""

    def __init__(self, weights: Weights, rule: KeyMask = "neg_inf") -> None:
        self.weights, self.rule = weights, rule
        self.frames = 0
        self.masks_at: MasksAt | None = None

    @contextmanager
    def over(self, frames: int, masks_at: MasksAt | None = None) -> Iterator[None]:
        """Rows are frames 0 … F - 1 of one clip, once per branch; with masks, character and background are kept apart."""
        self.frames, self.masks_at = frames, masks_at
        try:
            yield
        finally:
            self.frames, self.masks_at = 0, None


class DualConsistencyAttention:
    """Processor of one self-attention layer; the layer's own projections."""

    def __init__(self, shared: DualConsistency) -> None:
        self.shared = shared

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: Any) -> Tensor:
        shared = self.shared
        if not shared.frames:
            return attend(attn, hidden_states, hidden_states)
        query, key, value = (
            project(hidden_states).unflatten(-1, (attn.heads, -1)).transpose(1, 2) for project in (attn.to_q, attn.to_k, attn.to_v)
        )
        if shared.masks_at is None:
            out = dual_consistency(query, key, value, shared.frames, shared.weights)
        else:
            masks = shared.masks_at(hidden_states.shape[1])
            out = decoupled_consistency(query, key, value, masks, shared.weights, shared.rule)
        return attn.to_out[1](attn.to_out[0](out.transpose(1, 2).flatten(2)))


def dual_consistency(
    query: Tensor, key: Tensor, value: Tensor, frames: int, weights: Weights, keep: Tensor | None = None, rule: KeyMask = "neg_inf"
) -> Tensor:
    """DCA_i of Eq. 8 for every frame; query, key, value [N, heads, L, d].

    keep [F, L] bool: the keys of each frame that count (Eq. 9). Frame 0, whose predecessor is itself, gets plain self-attention.
    """
    own = torch.arange(len(query), device=query.device)
    first = own // frames * frames
    before = torch.maximum(own - 1, first)
    if keep is not None:
        keep = keep.to(query.device).repeat(len(query) // frames, 1)
    looks = [
        cross_frame(query, key, value, frame, keep, rule) * weight for frame, weight in zip((first, before, own), weights, strict=True)
    ]
    return looks[0] + looks[1] + looks[2]


def cross_frame(query: Tensor, key: Tensor, value: Tensor, frame: Tensor, keep: Tensor | None = None, rule: KeyMask = "neg_inf") -> Tensor:
    """CFA (Eq. 7): row i of the queries [N, heads, L, d] looks at row frame[i] of keys and values; keep [N, L] bool goes with the keys.

    neg_inf: only kept keys are looked at. zero: Eq. 9 as printed, K and V times the mask, where masked keys have a logit of 0 and share
    the attention with zero values.
    """
    if keep is None:
        return F.scaled_dot_product_attention(query, key[frame], value[frame])
    seen = keep[frame][:, None]
    if rule == "neg_inf":
        return F.scaled_dot_product_attention(query, key[frame], value[frame], attn_mask=seen[:, :, None])
    shown = seen[..., None].to(key)
    return F.scaled_dot_product_attention(query, key[frame] * shown, value[frame] * shown)


def decoupled_consistency(query: Tensor, key: Tensor, value: Tensor, masks: Tensor, weights: Weights, rule: KeyMask = "neg_inf") -> Tensor:
    """DCA_i = M_i DCA_i^c + (1 - M_i) DCA_i^b (Eq. 10); masks [F, L] bool. Frame 0 keeps plain self-attention (i = 1 … N)."""
    frames = len(masks)
    character, background = (dual_consistency(query, key, value, frames, weights, not_empty(side), rule) for side in (masks, ~masks))
    inside = masks.to(query.device).repeat(len(query) // frames, 1)[:, None, :, None]
    out = torch.where(inside, character, background)
    plain = F.scaled_dot_product_attention(query[::frames], key[::frames], value[::frames])
    is_first = (torch.arange(len(query), device=query.device) % frames == 0)[:, None, None, None]
    return torch.where(is_first, plain.repeat_interleave(frames, dim=0), out)


def not_empty(masks: Tensor) -> Tensor:
    """[F, L] bool; a frame with nothing to look at looks at everything."""
    return masks | ~masks.any(dim=1, keepdim=True)


def consistency_sites(unet: Any) -> list[str]:
    """Names of the self-attention processors of the up blocks: 9 in Stable Diffusion 1.5."""
    return [name for name in spatial_sites(unet) if name.startswith("up_blocks")]


def use_dual_consistency(unet: Any, shared: DualConsistency) -> list[str]:
    """Set the processors; returns their names."""
    sites = consistency_sites(unet)
    unet.set_attn_processor({**unet.attn_processors, **{name: DualConsistencyAttention(shared) for name in sites}})
    return sites
