"""Style loss over VGG19's Gram matrices (Gatys et al. 2016; HFCA Eq. 2 and 3)."""

# N = images, C h w = channels, height, width of a layer

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.checkpoint import load_strictly
from pipelines.errors import UserError

LAYERS = (3, 8)  # of torchvision's vgg19().features: conv1_2 and conv2_2, each behind its ReLU
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet


class Vgg19(nn.Module):
    """[N, 3, H, W] in [-1, 1] -> features behind conv1_2 and conv2_2: [N, 64, H, W] and [N, 128, H / 2, W / 2].

    The first nine layers of torchvision's vgg19, by its names; frozen. `widths` other than its own are for tests.
    """

    def __init__(self, widths: tuple[int, int] = (64, 128)) -> None:
        super().__init__()
        a, b = widths
        convolutions = [nn.Conv2d(i, o, 3, padding=1) for i, o in ((3, a), (a, a), (a, b), (b, b))]
        first, second, third, fourth = ((layer, nn.ReLU()) for layer in convolutions)
        self.features = nn.Sequential(*first, *second, nn.MaxPool2d(2), *third, *fourth)
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        mean, std = (images.new_tensor(values)[:, None, None] for values in (_MEAN, _STD))
        x, kept = ((images + 1) / 2 - mean) / std, []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in LAYERS:
                kept.append(x)
        return kept

    def load_torchvision(self, weights: Mapping[str, Tensor], source: str) -> Self:
        """The first layers out of a whole vgg19's state dict; UserError where the names are not exactly those of torchvision's vgg19."""
        known = vgg19_names()
        if set(weights) != known:
            missing, other = sorted(known - set(weights))[:5], sorted(set(weights) - known)[:5]
            raise UserError(f"{source} is not torchvision's vgg19: missing {missing}, unexpected {other}; give vgg19-dcbb9e9d.pth")
        wanted = self.state_dict()
        load_strictly(self, {name: weights[name] for name in wanted}, source=source)
        return self


def load_vgg19(path: Path) -> Vgg19:
    """From torchvision's vgg19 file, opened with weights_only."""
    if not path.is_file():
        raise UserError(f"no VGG19 at {path}; give torchvision's vgg19-dcbb9e9d.pth")
    return Vgg19().load_torchvision(torch.load(path, map_location="cpu", weights_only=True), str(path))


def vgg19_names() -> set[str]:
    """Parameter names of torchvision's vgg19."""
    from torchvision.models import vgg19

    with torch.device("meta"):
        return set(vgg19(weights=None).state_dict())


def gram(features: Tensor, mask: Tensor | None = None) -> Tensor:
    """[N, C, C] G_ij = (1 / (C H W)) sum_hw F_i F_j (Eq. 3); with a mask [N, 1, H', W'], only inside it and over C sum(M).

    The equation is over whole images, the text about clothing: a mask keeps the background from washing out colours. At the mask's soft
    rim each place counts by its share, so that the Gram matrix of an even colour does not depend on the mask.
    """
    channels = features.shape[1]
    flat = features.flatten(2)
    if mask is None:
        return flat @ flat.transpose(1, 2) / (channels * flat.shape[-1])
    inside = F.adaptive_avg_pool2d(mask, (features.shape[-2], features.shape[-1])).flatten(2)
    return (flat * inside) @ flat.transpose(1, 2) / (channels * inside.sum(dim=-1, keepdim=True).clamp(min=1e-6))


def style_loss(
    network: Vgg19, reference: Tensor, generated: Tensor, reference_mask: Tensor | None = None, generated_mask: Tensor | None = None
) -> Tensor:
    """[N] sum over layers of |G_ref - G_gen|_F (Eq. 2), images [N, 3, H, W] in [-1, 1], each with its own region [N, 1, H, W]; 0 where one is empty."""
    with torch.no_grad():
        goals = [gram(features, reference_mask) for features in network(reference)]
    found = [gram(features, generated_mask) for features in network(generated)]
    total = torch.stack([torch.linalg.vector_norm((a - b).flatten(1), dim=1) for a, b in zip(goals, found, strict=True)]).sum(dim=0)
    for mask in (reference_mask, generated_mask):
        if mask is not None:
            total = total * (mask.flatten(1).sum(dim=1) > 0)
    return total
