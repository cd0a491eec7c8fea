"""IResNet (Duta et al. 2020), ArcFace's recogniser (Deng et al. 2019), in torch, so that gradients go through it to the face.

Names and shapes are those of insightface's arcface_torch, so that its files load strictly by name. Frozen and in eval mode always.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from models.checkpoint import load_strictly
from pipelines.errors import UserError

R18, R50, R100 = (2, 2, 2, 2), (3, 4, 14, 3), (3, 13, 30, 3)  # blocks per level; R100 is glintr100's
WIDTHS = (64, 64, 128, 256, 512)  # of the stem and the four levels


class Block(nn.Module):
    """norm, 3x3, norm, PReLU, 3x3 with the stride, norm, and the shortcut."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.prelu = nn.PReLU(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.downsample = None
        if stride != 1 or before != width:
            self.downsample = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(self.bn1(x))
        out = self.bn3(self.conv2(self.prelu(self.bn2(out))))
        return out + (x if self.downsample is None else self.downsample(x))


class IResNet(nn.Module):
    """[N, 3, side, side] aligned faces, RGB in [-1, 1] -> raw embeddings [N, size] (not normalised). side: a multiple of 16, 112 in every published file."""

    def __init__(self, blocks: Sequence[int] = R100, widths: Sequence[int] = WIDTHS, size: int = 512, side: int = 112) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.prelu = nn.PReLU(widths[0])
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            _level(before, width, count) for before, width, count in zip(widths[:-1], widths[1:], blocks, strict=True)
        )
        self.bn2 = nn.BatchNorm2d(widths[-1])
        self.fc = nn.Linear(widths[-1] * (side // 16) ** 2, size)
        self.features = nn.BatchNorm1d(size)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Stays in eval mode whatever is asked: batch statistics of generated faces must not enter the embedding."""
        return super().train(False)

    def forward(self, faces: Tensor) -> Tensor:
        x = self.prelu(self.bn1(self.conv1(faces)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.features(self.fc(self.bn2(x).flatten(1)))


def _level(before: int, width: int, count: int) -> nn.Sequential:
    """`count` blocks; the first one halves the side."""
    return nn.Sequential(Block(before, width, 2), *(Block(width, width, 1) for _ in range(count - 1)))


def load_recogniser(path: Path) -> IResNet:
    """The recogniser of a .safetensors or .pth file (opened with weights_only), strictly; its size is read from the weights.

    Raises UserError where the file is no IResNet by name and shape.
    """
    weights = _read(path)
    try:
        blocks = [1 + max(int(name.split(".")[1]) for name in weights if name.startswith(f"layer{level}.")) for level in range(1, 5)]
        stem, last = weights["conv1.weight"].shape[0], weights["fc.weight"]
        widths = [stem, *(weights[f"layer{level}.0.conv1.weight"].shape[0] for level in range(1, 5))]
    except (KeyError, ValueError, IndexError) as error:
        raise UserError(
            f"{path} is no IResNet (ArcFace): {error}; give insightface's arcface_torch backbone as .pth or .safetensors"
        ) from None
    side = 16 * round((last.shape[1] / widths[-1]) ** 0.5)
    network = IResNet(blocks, widths, last.shape[0], side)
    load_strictly(network, weights, source=str(path))
    return network


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"no recogniser at {path}; give insightface's arcface_torch backbone as .pth or .safetensors")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    held: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return held
