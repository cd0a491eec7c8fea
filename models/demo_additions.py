"""What the demo's networks have and no paper has: three additions that learn much faster at a small size. Off in every `paper` variant."""

# R = references, K = targets or frames per reference, C h w = latent channels, height, width

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from models.guidance import Condition
from models.noise import Objective, alpha_bar, linear_estimate


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoAdditions:
    """hint: a zero-initialised 1x1 convolution of the reference latent at the stem. residual: the difference to the reference latent is diffused.

    skip_std: the network learns what the best linear estimate from the noisy latent does not explain, so that a still background is right
    from the start; the standard deviation of what is diffused, None = the network predicts all of it.
    """

    hint: bool = False
    residual: bool = False
    residual_scale: float = 1.0  # standard deviation of those differences, so that what is diffused has unit variance
    skip_std: float | None = None

    def check(self, objective: Objective) -> None:
        """ValueError for an objective that an addition is not worked out for."""
        if self.skip_std is not None and objective != "v":
            raise ValueError("skip_std is worked out for v-prediction; use objective='v' or skip_std=None")

    def said(self) -> list[str]:
        """The additions in words, for manifests and reports."""
        named = {
            "reference hint at the stem": self.hint,
            "residual diffusion": self.residual,
            "skip of the linear estimate": self.skip_std is not None,
        }
        return [name for name, used in named.items() if used]

    def diffused(self, latents: Tensor, reference: Tensor) -> Tensor:
        """x0 of the diffusion, [R, K, C, h, w]: the latents or, with `residual`, their scaled difference to the reference's [R, C, h, w]."""
        return (latents - reference[:, None]) / self.residual_scale if self.residual else latents

    def restored(self, diffused: Tensor, reference: Tensor) -> Tensor:
        """Latents [..., C, h, w] from x0; reference broadcasts."""
        return diffused * self.residual_scale + reference if self.residual else diffused

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


def hinted(features: Tensor | None, hint: ReferenceHint | None, condition: Condition, each: int) -> Tensor | None:
    """Stem features [R * K, C, h, w] with the hint of each reference that is not dropped; each: K. None where there is neither."""
    if hint is None:
        return features
    keep = (~condition.dropped).to(condition.reference_latent)[:, None, None, None]
    added = (hint(condition.reference_latent) * keep).repeat_interleave(each, dim=0)
    return added if features is None else features + added
