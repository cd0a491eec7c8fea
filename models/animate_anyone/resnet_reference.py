"""Table 5's other encoder: a ResNet-50 of the reference picture instead of ReferenceNet's UNet."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Self

import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from models.animate_anyone.config import NetworkConfig
from models.reference_attention import spatial_sites
from pipelines.errors import MissingWeightsError

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet
_WIDTHS = (256, 512, 1024, 2048)  # of layer1 to layer4


class ResnetReference(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Features of layer1 to layer4 as the bank's tokens: a 1x1 convolution to each attention's channels, resized to its grid.

    The paper only says that the encoder is an ImageNet-pretrained ResNet. levels[i]: of the site i, 0 = the latents' own size.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, sites: list[str], channels: list[int], levels: list[int], blocks: Sequence[int] = (3, 4, 6, 3)) -> None:
        super().__init__()
        from torchvision.models.resnet import Bottleneck, ResNet

        self.sites, self.levels = list(sites), list(levels)
        resnet = ResNet(Bottleneck, list(blocks))
        for name in ("fc", *(f"layer{number}" for number in range(max(levels) + 2, 5))):  # nobody reads what they give
            setattr(resnet, name, nn.Identity())
        self.resnet = resnet
        self.heads = nn.ModuleList(nn.Conv2d(_WIDTHS[min(level, 3)], width, 1) for width, level in zip(channels, levels, strict=True))
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Batch normalisation keeps its running statistics: those of a few references would be noise."""
        super().train(mode)
        self.resnet.eval()
        return self

    def forward(self, images: Tensor, latent_size: Sequence[int]) -> dict[str, Tensor]:
        """[R, 3, H, W] in [-1, 1] -> tokens [R, L, C] by site, for latents of (h, w)."""
        features = self.features(images)
        tokens = {}
        for site, level, head in zip(self.sites, self.levels, self.heads, strict=True):
            grid = [-(-side // 2**level) for side in latent_size]
            fitted = F.interpolate(head(features[min(level, 3)]), grid, mode="bilinear", align_corners=False)
            tokens[site] = fitted.flatten(2).transpose(1, 2)
        return tokens

    def features(self, images: Tensor) -> list[Tensor]:
        """Outputs of layer1 to layer4, 1/4 to 1/32 of the picture."""
        mean, std = (images.new_tensor(values)[:, None, None] for values in (_MEAN, _STD))
        net = self.resnet
        x, kept = net.maxpool(net.relu(net.bn1(net.conv1(((images + 1) / 2 - mean) / std)))), []
        for layer in (net.layer1, net.layer2, net.layer3, net.layer4):
            x = layer(x)
            kept.append(x)
        return kept


def resnet_for(unet: Any, shape: NetworkConfig) -> ResnetReference:
    """A fresh one for the sites of `unet`: torchvision's ImageNet weights, or random ones and one block a level at demo size."""
    sites = spatial_sites(unet)
    channels = [unet.get_submodule(site.removesuffix(".processor")).to_q.in_features for site in sites]
    blocks = (1, 1, 1, 1) if shape.resnet_weights is None else (3, 4, 6, 3)
    made = ResnetReference(sites, channels, [level_of(site, len(unet.config.block_out_channels)) for site in sites], blocks)
    if shape.resnet_weights is not None:
        made.resnet.load_state_dict(_imagenet(shape.resnet_weights, made.resnet.state_dict()))
    return made


def _imagenet(name: str, wanted: Collection[str]) -> dict[str, Tensor]:
    """torchvision's weights of that name, from its cache or downloaded. Raises MissingWeightsError."""
    from torchvision.models import get_model_weights

    try:
        weights = get_model_weights("resnet50")[name.split(".")[-1]].get_state_dict(check_hash=True)
    except OSError as error:
        raise MissingWeightsError(
            f"no {name} in torch's cache, and not to be downloaded ({error}); run once with a network: "
            "python -c 'import torchvision; torchvision.models.resnet50(weights=\"IMAGENET1K_V2\")'"
        ) from None
    return {key: value for key, value in weights.items() if key in wanted}


def level_of(site: str, levels: int) -> int:
    """How often the latents were halved at a site of a UNet with that many levels."""
    block, _, rest = site.partition(".")
    if block == "mid_block":
        return levels - 1
    index = int(rest.split(".")[0])
    return index if block == "down_blocks" else levels - 1 - index
