"""Adaptation to clothing (Sec. 3.2, Eq. 4): the reference's features meet the mean features of its kind of clothing."""

# R = references, L = tokens, C = channels of a site, P = clothing categories (12)

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

_GATE_STD = 0.02  # of v at the start


class SiteFusion(nn.Module):
    """Eq. 4 at one self-attention site:

        alpha = sigmoid(v^T [f_main; f_cloth]),   f_fusion = f_main + alpha (W_a f_cloth)

    f_main are the site's tokens; their mean enters the gate, so that alpha is one number for each reference. (The paper's "f_main
    represents the clothing feature vector" is a slip: it is the backbone's feature.) W_a = 0 at the start: nothing changes.
    """

    prototypes: Tensor  # [P, C]

    def __init__(self, channels: int, categories: int) -> None:
        super().__init__()
        self.gate = nn.Linear(2 * channels, 1, bias=False)  # v
        self.project = nn.Linear(channels, channels, bias=False)  # W_a
        nn.init.normal_(self.gate.weight, std=_GATE_STD)
        nn.init.zeros_(self.project.weight)
        self.register_buffer("prototypes", torch.zeros(categories, channels))

    def forward(self, main: Tensor, shares: Tensor) -> Tensor:
        """main [R, L, C], shares [R, P] -> [R, L, C]."""
        cloth = shares @ self.prototypes  # f_cloth [R, C]
        alpha = torch.sigmoid(self.gate(torch.cat([main.mean(dim=1), cloth], dim=-1)))  # [R, 1]
        return main + (alpha * self.project(cloth))[:, None]


class ClothingPrototypes(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Eq. 4 at every site of the Reference ProcessingNet, whose tokens it changes before the denoiser looks at them.

    channels: of the sites, in the order in which they run. The prototypes are made once, by `learn`, from the network of stage 1.
    """

    counts: Tensor  # [P] samples behind each category's prototype

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, channels: Sequence[int], categories: int = 12, assign: Literal["soft", "hard"] = "soft") -> None:
        super().__init__()
        self.sites = nn.ModuleList(SiteFusion(width, categories) for width in channels)
        self.register_buffer("counts", torch.zeros(categories))
        self.assign = assign

    def forward(self, tokens: Sequence[Tensor], probabilities: Tensor) -> list[Tensor]:
        """Tokens of every site, [R, L, C] each, for references whose clothing has these probabilities [R, P]."""
        shares = self.shares(probabilities)
        return [site(main, shares) for site, main in zip(self.sites, tokens, strict=True)]

    def shares(self, probabilities: Tensor) -> Tensor:
        """[R, P] share of each category's prototype: soft or the likeliest alone, over the categories that have one; 0 where none has."""
        known = probabilities * (self.counts > 0)
        if self.assign == "hard":
            known = F.one_hot(known.argmax(dim=-1), known.shape[-1]) * known
        return known / known.sum(dim=-1, keepdim=True).clamp(min=1e-8)

    @torch.no_grad()
    def learn(self, samples: Iterable[tuple[Sequence[Tensor], int]]) -> None:
        """Set the prototypes: for each category and site the mean over samples and tokens. A sample: tokens of every site [L, C], category.

        A category without a sample has none and takes no part.
        """
        banks = [site.get_buffer("prototypes") for site in self.sites]
        sums = [torch.zeros_like(bank) for bank in banks]
        self.counts.zero_()
        for tokens, category in samples:
            self.counts[category] += 1
            for total, sites_tokens in zip(sums, tokens, strict=True):
                total[category] += sites_tokens.mean(dim=0)
        for bank, total in zip(banks, sums, strict=True):
            bank.copy_(total / self.counts.clamp(min=1)[:, None])
