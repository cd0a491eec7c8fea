"""Reference attention (AnimateAnyone Sec. 3.2.1): the denoiser's spatial self-attention also looks at a reference image.

The reference UNet (writer) runs once on the clean reference latent. At every spatial self-attention it leaves that
layer's input N_r in a bank; the denoiser (reader) projects the concatenation of its own and the reference's tokens:

    out = softmax(Q K^T / sqrt(d)) V,   Q = Wq N,   K = Wk [N; N_r],   V = Wv [N; N_r]

Both sides are attention processors set by name, so that no module is patched and layers cannot be mispaired.
"""

# R = references, B = rows of the denoiser (R * targets * frames), L = tokens, C = channels

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from models.guidance import AnyCondition

Fusion = Literal["full", "midup"]
"""All sites (AnimateAnyone, HFCA, HIA), or those of the middle and up blocks (MagicAnimate)."""


Seen = tuple[Tensor | None, ...]
"""What a writer saw of the references."""


class ReferenceBank:
    """N_r of each layer, [R, L, C], by the name of its processor; and which references are dropped (unconditional rows).

    Whoever wants other tokens than the writer's own (an adapter's, another encoder's) puts them into `tokens` after the writer has run.
    """

    def __init__(self) -> None:
        self.tokens: dict[str, Tensor] = {}
        self.dropped: Tensor | None = None  # [R] bool
        self._holders = 0
        self._remembered: list[tuple[Seen, dict[str, Tensor]]] | None = None  # None: nothing is to be remembered

    def clear(self) -> None:
        """Forget everything; call after every forward and backward pass, or the next sample sees this one's reference."""
        self.tokens.clear()
        self.dropped = None

    @contextmanager
    def held(self) -> Iterator[ReferenceBank]:
        """The bank for one forward pass or, with gradient checkpointing, for forward and backward: recomputed layers look into it again.

        Empty at the beginning and cleared at the end, also after an error; within another one, the outermost clears.
        """
        self.clear()
        self._holders += 1
        try:
            yield self
        finally:
            self._holders -= 1
            if not self._holders:
                self.clear()

    @contextmanager
    def remembering(self) -> Iterator[None]:
        """Within, `fill` runs the writer once for a reference: for the sampling of a clip, whose windows and steps all have the same one.

        No weight of the writer may change within.
        """
        self._remembered = []
        try:
            yield
        finally:
            self._remembered = None

    def fill(self, condition: AnyCondition, write: Callable[[AnyCondition], None]) -> None:
        """The tokens that `write` leaves for the references of `condition`, or left for these very tensors before; and which are dropped."""
        self.dropped = condition.dropped
        if self._remembered is None:
            write(condition)
            return
        seen = tuple(getattr(condition, name) for name in condition.per_reference if name != "dropped")
        known = next((tokens for before, tokens in self._remembered if all(map(operator.is_, before, seen))), None)
        if known is None:
            write(condition)
            known = dict(self.tokens)
        else:
            self.tokens.update(known)
        others = [entry for entry in self._remembered if entry[1] is not known]
        self._remembered = [*others[-1:], (seen, known)]  # two: guidance asks for the reference and for nothing in turns

    def for_rows(self, name: str, rows: int) -> tuple[Tensor, Tensor | None]:
        """(tokens [B, L, C], dropped [B] or None): each reference serves B / R consecutive rows. KeyError names a missing layer."""
        if name not in self.tokens:
            raise KeyError(f"reference bank holds no layer {name}; it has {sorted(self.tokens)[:3]}…")
        tokens = self.tokens[name]
        each, rest = divmod(rows, tokens.shape[0])
        if rest:
            raise ValueError(f"{rows} rows cannot share {tokens.shape[0]} references evenly")
        dropped = None if self.dropped is None else self.dropped.repeat_interleave(each)
        return tokens.repeat_interleave(each, dim=0), dropped


def attend(attn: Any, queries: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
    """Multi-head attention with the layer's own projections; queries [B, L, C], context [B, M, C], mask [B, 1, 1, M] bool."""

    def heads(x: Tensor) -> Tensor:
        return x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)

    out = F.scaled_dot_product_attention(heads(attn.to_q(queries)), heads(attn.to_k(context)), heads(attn.to_v(context)), attn_mask=mask)
    return attn.to_out[1](attn.to_out[0](out.transpose(1, 2).flatten(2)))


class WriteReference:
    """Plain self-attention that leaves its input in the bank."""

    def __init__(self, bank: ReferenceBank, name: str) -> None:
        self.bank, self.name = bank, name

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: Any) -> Tensor:
        self.bank.tokens[self.name] = hidden_states
        return attend(attn, hidden_states, hidden_states)


class ReadReference:
    """Self-attention over own and reference tokens; an empty bank, or a dropped reference, gives plain self-attention."""

    def __init__(self, bank: ReferenceBank, name: str) -> None:
        self.bank, self.name = bank, name

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: Any) -> Tensor:
        if not self.bank.tokens:
            return attend(attn, hidden_states, hidden_states)
        reference, dropped = self.bank.for_rows(self.name, hidden_states.shape[0])
        context = torch.cat([hidden_states, reference], dim=1)
        return attend(attn, hidden_states, context, _mask(hidden_states, reference, dropped))


def _mask(own: Tensor, reference: Tensor, dropped: Tensor | None) -> Tensor | None:
    """True where a key may be looked at: own tokens always, reference tokens unless the row's reference is dropped."""
    if dropped is None or not dropped.any():
        return None
    seen_own = torch.ones(own.shape[0], own.shape[1], dtype=torch.bool, device=own.device)
    seen_reference = (~dropped.to(own.device))[:, None].expand(-1, reference.shape[1])
    return torch.cat([seen_own, seen_reference], dim=1)[:, None, None]


def spatial_sites(unet: Any, fusion: Fusion = "full") -> list[str]:
    """Names of the spatial self-attention processors (`attn1` outside motion modules), in the order in which they run."""
    sites = [name for name in unet.attn_processors if name.endswith("attn1.processor") and "motion_modules" not in name]
    order = ("down_blocks", "mid_block", "up_blocks")  # diffusers registers the middle block last
    chosen = [name for name in sites if fusion == "full" or not name.startswith("down_blocks")]
    return sorted(chosen, key=lambda name: order.index(name.split(".")[0]))


def _set(unet: Any, bank: ReferenceBank, processor: type[WriteReference] | type[ReadReference], fusion: Fusion) -> list[str]:
    sites = spatial_sites(unet, fusion)
    unet.set_attn_processor({**unet.attn_processors, **{name: processor(bank, name) for name in sites}})
    return sites


def write_reference(unet: Any, bank: ReferenceBank, fusion: Fusion = "full") -> list[str]:
    """Make `unet` the writer; returns the names of its sites."""
    return _set(unet, bank, WriteReference, fusion)


def read_reference(unet: Any, bank: ReferenceBank, fusion: Fusion = "full") -> list[str]:
    """Make `unet` the reader; returns the names of its sites."""
    return _set(unet, bank, ReadReference, fusion)


def freeze_unused_tail(unet: Any) -> list[str]:
    """Freeze the writer's parameters behind its last bank, which never get a gradient; returns their names."""
    last_block = spatial_sites(unet)[-1].removesuffix(".attn1.processor")
    transformer = last_block.rsplit(".transformer_blocks", 1)[0]
    dead = (
        f"{last_block}.attn1.",
        f"{last_block}.norm2.",
        f"{last_block}.attn2.",
        f"{last_block}.norm3.",
        f"{last_block}.ff.",
        f"{transformer}.proj_out.",
        "conv_norm_out.",
        "conv_out.",
    )
    frozen = [name for name, _ in unet.named_parameters() if name.startswith(dead)]
    for name, parameter in unet.named_parameters():
        if name in set(frozen):
            parameter.requires_grad_(False)
    return frozen
