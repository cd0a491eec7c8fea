"""PoseNet (Fig. 2): pose images to features that are added to the noisy latents behind the UNet's first convolution."""

# N = frames, H W = pixels, h w = an eighth of them

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn


class PoseNet(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """[N, 3, H, W] pose images in [-1, 1] -> [N, out_channels, h, w], times a learnt scale that begins at 2 (released code).

    3x3 convolutions, each of the first three widths entered by a 4x4 one of stride 2. The last layer begins at zero: a fresh one changes nothing.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, out_channels: int = 320, widths: Sequence[int] = (16, 32, 64, 128)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for narrow, wide in itertools.pairwise((3, *widths[:-1])):
            layers += [nn.Conv2d(narrow, narrow, 3, padding=1), nn.SiLU(), nn.Conv2d(narrow, wide, 4, stride=2, padding=1), nn.SiLU()]
        layers += [nn.Conv2d(widths[-2], widths[-2], 3, padding=1), nn.SiLU(), nn.Conv2d(widths[-2], widths[-1], 3, padding=1), nn.SiLU()]
        self.layers = nn.Sequential(*layers)
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                nn.init.kaiming_normal_(layer.weight)  # He et al. 2015
                nn.init.zeros_(layer.bias)
        self.final = nn.Conv2d(widths[-1], out_channels, 1)
        nn.init.zeros_(self.final.weight)
        nn.init.zeros_(self.final.bias if self.final.bias is not None else torch.empty(0))
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, pose: Tensor) -> Tensor:
        return self.final(self.layers(pose)) * self.scale
