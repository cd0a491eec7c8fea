"""Features for FID-VID: the 3D-ResNet-50 of Hara et al. (2018), trained on Kinetics-400, 2048 values after the last pooling.

As DisCo's code does it: every channel of a frame resized alone by Pillow (bicubic, antialiased, not clipped) to 112x112
whatever its aspect, the mean colour of the training data subtracted, no division.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipelines.clip import Frames
from pipelines.extractors.bicubic import bicubic_windows
from pipelines.extractors.pretrained_folder import fill, load_state
from pipelines.weights import digest_of, find_weights

if TYPE_CHECKING:
    from torch import Tensor, nn

ROLE = "resnet3d_kinetics"
SIZE, SEGMENT = 112, 16  # px, frames: what the published network sees at once
MEAN = (114.7748, 107.7354, 99.4750)  # RGB of Kinetics, 0..255
_EXPANSION = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Widths:
    """How wide and deep a network is; `classes` of the classifier in the file, which no feature uses."""

    stem: int
    stages: tuple[tuple[int, int, int], ...]  # blocks, width, stride of the first
    classes: int


PUBLISHED = Widths(stem=64, stages=((3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2)), classes=400)
TINY_SIZE, TINY_WIDTHS = 64, Widths(stem=12, stages=((1, 12, 1), (1, 24, 2), (2, 32, 2), (1, 48, 2)), classes=35)


@dataclass(frozen=True, kw_only=True, slots=True)
class ResNet3D:
    """uint8 windows [N, S, H, W, 3] RGB -> float32 [N, D], D = 2048 as published. MissingWeightsError without the file of `role`.

    Windows of other lengths than 16: their last frame is repeated up to a multiple of 16, features of the segments averaged.
    """

    path: Path | None = None  # None = where pipelines.weights finds it
    name: str = "resnet3d_50"
    role: str = ROLE
    size: int = SIZE  # px of the network's input
    widths: Widths = PUBLISHED
    version: int = 1

    def weights_digest(self) -> str:
        """sha256 of the checkpoint."""
        return digest_of(find_weights(self.role, self.path))

    def load(self, device: str) -> Callable[[Frames], npt.NDArray[np.float32]]:
        """Open the network; windows go through it one by one. Raises UserError where a tensor is missing, unknown or misshapen."""
        import torch

        network = load_network(find_weights(self.role, self.path), self.widths).to(device)

        def features(windows: Frames) -> npt.NDArray[np.float32]:
            parts = []
            for window in bicubic_windows(windows, self.size):
                with torch.inference_mode():
                    segments = forward(network, network_input(window).to(device)).cpu().numpy()
                parts.append(segments.mean(axis=0))
            return np.asarray(np.stack(parts), dtype=np.float32)

        return features


def load_network(path: Path, widths: Widths = PUBLISHED) -> nn.Module:
    """The network of a checkpoint, whose names begin with `module.`, in evaluation mode."""
    state = {name.removeprefix("module."): tensor for name, tensor in load_state(path).items()}
    network: nn.Module = fill(build_network(widths), state, path)
    return network


def build_network(widths: Widths = PUBLISHED) -> nn.Module:
    """Random weights; names as in the published checkpoint."""
    from torch import nn

    network: nn.Module = type("ResNet3D", (nn.Module,), {})()  # the name is for messages
    network.add_module("conv1", nn.Conv3d(3, widths.stem, 7, (1, 2, 2), 3, bias=False))
    network.add_module("bn1", nn.BatchNorm3d(widths.stem))
    channels = widths.stem
    for index, (blocks, width, stride) in enumerate(widths.stages, 1):
        stage = [_block(channels, width, stride)]
        channels = width * _EXPANSION
        stage += [_block(channels, width, 1) for _ in range(blocks - 1)]
        network.add_module(f"layer{index}", nn.ModuleList(stage))
    network.add_module("fc", nn.Linear(channels, widths.classes))
    return network.eval()


def network_input(window: npt.NDArray[np.float32]) -> Tensor:
    """[S, size, size, 3] -> [segments, 3, 16, size, size]."""
    import torch

    missing = -len(window) % SEGMENT
    whole = np.concatenate([window, np.repeat(window[-1:], missing, axis=0)])
    x = torch.from_numpy((whole - np.array(MEAN)).astype(np.float32))  # the mean is subtracted in float64, as there
    return x.reshape(-1, SEGMENT, *x.shape[1:]).permute(0, 4, 1, 2, 3).contiguous()


def forward(network: Any, x: Tensor) -> Tensor:
    """[N, 3, 16, size, size] -> [N, D]."""
    from torch.nn.functional import avg_pool3d, max_pool3d

    x = max_pool3d(network.bn1(network.conv1(x)).relu_(), 3, stride=2, padding=1)
    for stage in (child for name, child in network.named_children() if name.startswith("layer")):
        for block in stage:
            x = _residual(block, x)
    return avg_pool3d(x, (1, *x.shape[-2:]), stride=1).flatten(1)  # (1, 4, 4) for 112 px


def _block(inputs: int, width: int, stride: int) -> nn.ModuleDict:
    """1x1x1, 3x3x3, 1x1x1; where the shape changes, a 1x1x1 convolution on the shortcut (type B)."""
    from torch import nn

    outputs = width * _EXPANSION
    layers: dict[str, nn.Module] = {
        "conv1": nn.Conv3d(inputs, width, 1, bias=False),
        "bn1": nn.BatchNorm3d(width),
        "conv2": nn.Conv3d(width, width, 3, stride, 1, bias=False),
        "bn2": nn.BatchNorm3d(width),
        "conv3": nn.Conv3d(width, outputs, 1, bias=False),
        "bn3": nn.BatchNorm3d(outputs),
    }
    if stride != 1 or inputs != outputs:
        layers["downsample"] = nn.Sequential(nn.Conv3d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm3d(outputs))
    return nn.ModuleDict(layers)


def _residual(block: Any, x: Tensor) -> Tensor:
    y = block["bn1"](block["conv1"](x)).relu_()
    y = block["bn2"](block["conv2"](y)).relu_()
    y = block["bn3"](block["conv3"](y))
    activated: Tensor = (y + (block["downsample"](x) if "downsample" in block else x)).relu_()
    return activated


RESNET3D_TINY = ResNet3D(name="resnet3d_tiny", role="resnet3d_tiny", size=TINY_SIZE, widths=TINY_WIDTHS)  # knows performers only
