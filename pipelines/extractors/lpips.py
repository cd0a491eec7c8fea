"""LPIPS networks (Zhang et al. 2018): the real one through torchmetrics, and the demo's stand-in of the same form.

d(x, y) = sum_l mean_hw  w_l . (f_l(x) - f_l(y))^2,   f_l = features of level l, unit length over channels
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipelines.clip import Frames
from pipelines.errors import UserError
from pipelines.extractors.standin import TINY, convolutions, load_strictly, one_thread
from pipelines.weights import digest_of, find_weights

if TYPE_CHECKING:
    from torch import Tensor, nn

ROLE = "lpips_vgg16"
_BATCH = 4
_SLICE_ENDS = (4, 9, 16, 23, 30)  # torchvision's VGG16 features, cut after relu1_2, 2_2, 3_3, 4_3, 5_3

PairDistance = Callable[[Frames, Frames], npt.NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True, slots=True)
class LpipsVgg:
    """torchmetrics' LPIPS with VGG16; its linear heads come with torchmetrics, the backbone is the file of role `lpips_vgg16`."""

    path: Path | None = None  # None = where pipelines.weights finds it
    name: str = "lpips_vgg"
    version: int = 1

    def weights_digest(self) -> str:
        """sha256 over the digests of backbone and heads."""
        return hashlib.sha256(f"{digest_of(find_weights(ROLE, self.path))}|{digest_of(_heads_file())}".encode()).hexdigest()

    def load(self, device: str, value_range: tuple[float, float]) -> PairDistance:
        """Open the network; `value_range` is what 0 and 255 become before it."""
        from torchmetrics.functional.image.lpips import _NoTrainLpips

        backbone = _read_backbone(find_weights(ROLE, self.path))
        network = _NoTrainLpips(net="vgg", pretrained=True, pnet_rand=True)  # heads from torchmetrics, backbone still random
        network.net.load_state_dict(backbone, strict=True)
        network = network.to(device)
        return _in_batches(lambda x, y: network(x, y).flatten(), value_range, device)


def _heads_file() -> Path:
    import torchmetrics.functional.image.lpips as package

    return Path(package.__file__).parent / "lpips_models" / "vgg.pth"


def _read_backbone(path: Path) -> dict[str, Any]:
    """torchvision's keys `features.<i>.*` under the names of torchmetrics' five slices; the classifier is not used."""
    import torch

    state = torch.load(path, map_location="cpu", weights_only=True)
    renamed = {}
    for key, tensor in state.items():
        if key.startswith("classifier."):
            continue
        parts = key.split(".")
        if parts[0] != "features" or len(parts) != 3:
            raise UserError(f"{path}: unexpected tensor {key!r}; role {ROLE} needs torchvision's vgg16-397923af.pth")
        renamed[f"slice{1 + sum(int(parts[1]) >= end for end in _SLICE_ENDS)}.{parts[1]}.{parts[2]}"] = tensor
    return renamed


@dataclass(frozen=True, kw_only=True, slots=True)
class StandinLpips:
    """Three levels of seeded random convolutions (pipelines/tiny/standin_lpips), equal weight for every channel."""

    name: str = "standin_lpips"
    version: int = 1

    @property
    def path(self) -> Path:
        """The shipped weights."""
        return TINY / self.name / "weights.safetensors"

    def weights_digest(self) -> str:
        """sha256 of the shipped file."""
        return digest_of(self.path)

    def build(self) -> nn.Sequential:
        """The network with weights drawn from its seed."""
        return convolutions(2, (3, 16, 32, 64), (1, 2, 2), seed=10)

    def load(self, device: str, value_range: tuple[float, float]) -> PairDistance:
        """Open the shipped weights strictly."""
        network = load_strictly(self.build(), self.path).to(device)

        def distance(x: Tensor, y: Tensor) -> Tensor:
            with one_thread():
                return perceptual_distance(_levels(network, x), _levels(network, y))

        return _in_batches(distance, value_range, device)


def _levels(network: nn.Sequential, x: Tensor) -> list[Tensor]:
    """Features after each ReLU."""
    levels = []
    for index, layer in enumerate(network):
        x = layer(x)
        if index % 2:
            levels.append(x)
    return levels


def perceptual_distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """[N] distance of features [N, C_l, H_l, W_l] per level (equation above), w_l = 1 / C_l."""
    import torch

    total = torch.zeros(len(a[0]), device=a[0].device)
    for x, y in zip(a, b, strict=True):
        x, y = (
            x / torch.sqrt(1e-8 + x.square().sum(1, keepdim=True)),
            y / torch.sqrt(1e-8 + y.square().sum(1, keepdim=True)),
        )
        total = total + (x - y).square().mean(dim=(1, 2, 3))
    return total


def _in_batches(distance: Callable[[Tensor, Tensor], Tensor], value_range: tuple[float, float], device: str) -> PairDistance:
    """Feed uint8 frame pairs to `distance`, scaled to `value_range`, a few at a time."""
    import torch

    low, high = value_range

    def scaled(frames: Frames) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(frames)).to(device).permute(0, 3, 1, 2).float() * ((high - low) / 255) + low

    def run(prediction: Frames, truth: Frames) -> npt.NDArray[np.float64]:
        values = []
        for start in range(0, len(truth), _BATCH):
            with torch.inference_mode():
                pair = scaled(prediction[start : start + _BATCH]), scaled(truth[start : start + _BATCH])
                values.append(distance(*pair).double().cpu().numpy())
        return np.concatenate(values)

    return run
