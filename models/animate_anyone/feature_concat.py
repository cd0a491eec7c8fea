"""Table 5's other fusion: reference features joined to the denoiser's by channels, where ReferenceNet's are attended to."""

from __future__ import annotations

from typing import Any, Self

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from models.reference_attention import ReferenceBank, attend, spatial_sites


class FeatureConcat(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """A 1x1 convolution 2C -> C for each self-attention, which begins as [I, 0]: the reference changes nothing yet.

    The paper names "feature concatenation" and no place; here it is the input of every spatial self-attention, where the bank's features come from.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, sites: list[str], channels: list[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({self.key(site): _joining(width) for site, width in zip(sites, channels, strict=True)})

    @classmethod
    def of(cls, unet: Any) -> Self:
        """Fresh layers for every self-attention of `unet`."""
        sites = spatial_sites(unet)
        return cls(sites, [unet.get_submodule(site.removesuffix(".processor")).to_q.in_features for site in sites])

    @staticmethod
    def key(site: str) -> str:
        """A site's name without dots, which ModuleDict does not take."""
        return site.replace(".", "-")


def _joining(channels: int) -> nn.Linear:
    layer = nn.Linear(2 * channels, channels, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.cat([torch.eye(channels), torch.zeros(channels, channels)], dim=1))
    return layer


class JoinReference:
    """Plain self-attention over joined features; a dropped reference, or an empty bank, leaves the denoiser's own."""

    def __init__(self, bank: ReferenceBank, name: str, layer: nn.Module) -> None:
        self.bank, self.name, self.layer = bank, name, layer

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: Any) -> Tensor:
        if not self.bank.tokens:
            return attend(attn, hidden_states, hidden_states)
        reference, dropped = self.bank.for_rows(self.name, hidden_states.shape[0])
        joined = self.layer(torch.cat([hidden_states, reference], dim=-1))
        if dropped is not None:
            joined = torch.where(dropped.to(joined.device)[:, None, None], hidden_states, joined)
        return attend(attn, joined, joined)


def concat_reference(unet: Any, bank: ReferenceBank, layers: FeatureConcat) -> list[str]:
    """Make `unet` the reader; returns the names of its sites."""
    sites = spatial_sites(unet)
    joining = {site: JoinReference(bank, site, layers.layers[FeatureConcat.key(site)]) for site in sites}
    unet.set_attn_processor({**unet.attn_processors, **joining})
    return sites
