"""What the demo's networks have and no paper has: four additions that learn much faster at a small size. Off in every `paper` variant."""

# R = references, K = targets or frames per reference, C h w = latent channels, height, width

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from models.guidance import Condition
from models.noise import Objective, alpha_bar, linear_estimate


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoAdditions:
    """hint: a zero-initialised 1x1 convolution of the reference latent at the stem. residual: the difference to the reference latent is diffused.

    warp: hint and residual take, for the reference latent, that of the reference carried to the target's pose (models/limb_warp.py): what is left
    to learn is what limbs look like where they meet, turn and hide each other. The reference network reads the reference as it is.

    skip_std: the network learns what the best linear estimate from the noisy latent does not explain, so that a still background is right
    from the start; the standard deviation of what is diffused, None = the network predicts all of it.
    """

    hint: bool = False
    residual: bool = False
    warp: bool = False
    residual_scale: float = 1.0  # standard deviation of those differences, so that what is diffused has unit variance
    skip_std: float | None = None

    def check(self, objective: Objective) -> None:
        """ValueError for an objective that an addition is not worked out for."""
        if self.warp and not self.hint and not self.residual:
            raise ValueError("warp changes what hint and residual take: switch one of them on, or warp off")
        if self.skip_std is not None and objective != "v":
            raise ValueError("skip_std is worked out for v-prediction; use objective='v' or skip_std=None")

    def said(self) -> list[str]:
        """The additions in words, for manifests and reports."""
        named = {
            "reference hint at the stem": self.hint,
            "residual diffusion": self.residual,
            "reference warped limb by limb": self.warp,
            "skip of the linear estimate": self.skip_std is not None,
        }
        return [name for name, used in named.items() if used]

    def diffused(self, latents: Tensor, anchor: Tensor) -> Tensor:
        """x0 of the diffusion, [R, K, C, h, w]: the latents or, with `residual`, their scaled difference to the anchor (`anchor_of`)."""
        return (latents - anchor) / self.residual_scale if self.residual else latents

    def restored(self, diffused: Tensor, anchor: Tensor) -> Tensor:
        """Latents [R, K, C, h, w] from x0."""
        return diffused * self.residual_scale + anchor if self.residual else diffused

    def with_skip(self, output: Tensor, noisy: Tensor, timesteps: Tensor, scheduler: Any) -> Tensor:
        """The prediction [R, K, C, h, w] from the network's output; timesteps [R] or [R * K]."""
        if self.skip_std is None:
            return output
        alpha = alpha_bar(scheduler, timesteps, noisy).unflatten(0, (len(noisy), -1)).squeeze(2)
        return output + linear_estimate(noisy, alpha, self.skip_std)

    def begin(self, denoiser: Any) -> None:
        """A fresh denoiser that begins with the linear estimate itself: its last layer is zeroed where there is a skip."""
        if self.skip_std is not None:
            for parameter in denoiser.conv_out.parameters():
                nn.init.zeros_(parameter)

    def make_hint(self, denoiser: Any) -> ReferenceHint | None:
        """A fresh hint for that denoiser, or None."""
        return ReferenceHint(denoiser.config.in_channels, denoiser.config.block_out_channels[0]) if self.hint else None


class ReferenceHint(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Zero-initialised 1x1 convolution of the reference latent, added at the stem."""

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, latent_channels: int = 16, out_channels: int = 64) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(latent_channels, out_channels, 1)
        nn.init.zeros_(self.convolution.weight)
        nn.init.zeros_(self.convolution.bias if self.convolution.bias is not None else torch.empty(0))

    def forward(self, latents: Tensor) -> Tensor:
        return self.convolution(latents)


class Anchored(Protocol):
    """A batch or a condition."""

    @property
    def reference_latent(self) -> Tensor: ...
    @property
    def warped(self) -> Tensor | None: ...


def anchor_of(held: Anchored) -> Tensor:
    """What targets are compared with: [R, K, C, h, w] latents of the warped reference where there are some, else the reference's [R, 1, C, h, w]."""
    references = held.reference_latent
    return references[:, None] if held.warped is None else held.warped.unflatten(0, (len(references), -1))


def hinted(features: Tensor | None, hint: ReferenceHint | None, condition: Condition, each: int) -> Tensor | None:
    """Stem features [R * K, C, h, w] with the hint of each reference that is not dropped; each: K. None where there is neither."""
    if hint is None:
        return features
    keep = (~condition.dropped).to(condition.reference_latent)[:, None, None, None, None]
    anchor = anchor_of(condition)
    added = (hint(anchor.flatten(0, 1)).unflatten(0, anchor.shape[:2]) * keep).expand(-1, each, -1, -1, -1).flatten(0, 1)
    return added if features is None else features + added
