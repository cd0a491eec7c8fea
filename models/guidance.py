"""Classifier-free guidance (Ho & Salimans 2022); one null condition for training and sampling."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import ClassVar, Literal, Self, TypeVar

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """What steers the denoiser. R references, each for N / R consecutive pose images.

    A subclass with more fields says in `per_reference` which of them have one row for each reference; the others have one for each frame.
    """

    per_reference: ClassVar[tuple[str, ...]] = ("reference_latent", "image_tokens", "dropped")

    reference_latent: Tensor  # [R, C, h, w] clean latents
    image_tokens: Tensor  # [R, S, D] tokens of the image encoder
    pose: Tensor  # [N, 3, H, W] pose images in [0, 1]
    dropped: Tensor  # [R] bool: True where the reference is the null condition
    warped: Tensor | None = None  # [N, C, h, w] latents of the reference carried to each pose (DemoAdditions.warp)

    def of_reference(self, index: int, each: int) -> Self:
        """The condition of one reference and its `each` = N / R frames."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self) if isinstance(getattr(self, field.name), Tensor)}
        one, frames = slice(index, index + 1), slice(index * each, (index + 1) * each)
        return replace(self, **{name: value[one if name in self.per_reference else frames] for name, value in tensors.items()})


AnyCondition = TypeVar("AnyCondition", bound=Condition)
"""A method with more conditions adds fields in a subclass; what `dropped` means for them, its network says."""


def null_conditions(condition: AnyCondition, dropped: Tensor) -> AnyCondition:
    """The same condition with the references of `dropped` rows [R] replaced by nothing: zero tokens and no reference attention.

    The pose is never dropped, so guidance does not amplify it; a network that drops it, too (HIA), reads `dropped` itself.
    """
    keep = (~dropped).to(condition.image_tokens)[:, None, None]
    return replace(condition, image_tokens=condition.image_tokens * keep, dropped=condition.dropped | dropped.to(condition.dropped.device))


def draw_dropped(references: int, probability: float, generator: torch.Generator) -> Tensor:
    """[R] bool, drawn per reference (never per batch, or workers would disagree on what runs)."""
    return torch.rand(references, generator=generator) < probability


GuidanceForm = Literal["usual", "from_conditional", "printed"]
"""HIA Eq. 4: (a) the usual rule, (b) the equivalent one that starts at e_c, (c) the equation as it is printed."""


def animation_guide(unconditional: Tensor, conditional: Tensor, scale: float, form: GuidanceForm = "usual") -> Tensor:
    """HIA's animation guidance (Eq. 4) in its three readings; equal for w of `usual`, w - 1 of `from_conditional` and -w of `printed`.

    usual:            e_u + w (e_c - e_u)
    from_conditional: e_c + w (e_c - e_u)
    printed:          e_u + w (e_u - e_c), which leads away from the condition for every w > 0
    """
    if form == "from_conditional":
        return guide(unconditional, conditional, 1 + scale)
    return guide(unconditional, conditional, -scale if form == "printed" else scale)


def guide(unconditional: Tensor, conditional: Tensor, scale: float) -> Tensor:
    """e = e_u + w (e_c - e_u)."""
    return unconditional + scale * (conditional - unconditional)
