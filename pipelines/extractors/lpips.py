"""LPIPS networks (Zhang et al. 2018): the real one through torchmetrics, a narrow one of the same form, and the demo's stand-in.

d(x, y) = sum_l mean_hw  w_l . (f_l(x) - f_l(y))^2,   f_l = features of level l, unit length over channels
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from pipelines.clip import Frames
from pipelines.errors import UserError
from pipelines.extractors.pretrained_folder import fill, load_state
from pipelines.extractors.standin import TINY, convolutions, load_strictly, one_thread
from pipelines.weights import digest_of, find_weights

if TYPE_CHECKING:
    from torch import Tensor, nn

_BATCH = 4
HEADS = "heads.safetensors"  # beside the backbone of a narrow network: lin0.model.1.weight [1, C, 1, 1] ... as torchmetrics names them

Values = npt.NDArray[np.float64]
Masks = npt.NDArray[np.bool_]
Levels = Callable[["Tensor", "Tensor"], tuple["Tensor", list["Tensor"]]]
"""Two [N, 3, H, W] -> ([N] distance, its maps [N, 1, h_l, w_l]); the distance is the sum of the maps' means."""


class PairDistance:
    """LPIPS of uint8 frame pairs [T, H, W, 3], `batch` at a time."""

    def __init__(self, levels: Levels, value_range: tuple[float, float], device: str, batch: int = _BATCH) -> None:
        self._levels, self._range, self._device, self._batch = levels, value_range, device, batch

    def __call__(self, prediction: Frames, truth: Frames) -> Values:
        """[T] distances."""
        return self.by_region(prediction, truth, {})["frame"]

    def by_region(self, prediction: Frames, truth: Frames, masks: Mapping[str, Masks]) -> dict[str, Values]:
        """ "frame" and each name of `masks` ([T, H, W]) -> [T] distances, from one pass; NaN where a mask is empty.

        A region's distance is the sum over levels of the mean of the level's map, weighted by how much of each position lies in
        the mask: with a full mask it is the plain distance.
        """
        import torch

        found: dict[str, list[Values]] = {name: [] for name in ("frame", *masks)}
        for start in range(0, len(truth), self._batch):
            part = slice(start, start + self._batch)
            with torch.inference_mode():
                whole, maps = self._levels(self._scaled(prediction[part]), self._scaled(truth[part]))
                found["frame"].append(whole.double().cpu().numpy())
                for name, mask in masks.items():
                    found[name].append(_weighted(maps, torch.from_numpy(mask[part]).to(self._device)))
        return {name: np.concatenate(parts) if parts else np.zeros(0) for name, parts in found.items()}

    def _scaled(self, frames: Frames) -> Tensor:
        import torch

        low, high = self._range
        return torch.from_numpy(np.ascontiguousarray(frames)).to(self._device).permute(0, 3, 1, 2).float() * ((high - low) / 255) + low


def _weighted(maps: Sequence[Tensor], mask: Tensor) -> Values:
    import torch

    total = torch.zeros(len(mask), dtype=torch.float64, device=mask.device)
    for level in maps:
        weight = torch.nn.functional.adaptive_avg_pool2d(mask[:, None].double(), (level.shape[-2], level.shape[-1]))
        total += (level.double() * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3))  # 0 / 0 is NaN: nothing of the region is there
    return np.asarray(total.cpu().numpy())


@dataclass(frozen=True, kw_only=True, slots=True)
class Lpips:
    """torchmetrics' LPIPS; the backbone is torchvision's file of `role`. The linear heads come with torchmetrics, those of a narrow network beside it."""

    name: str
    role: str
    net: Literal["vgg", "alex"]
    ends: tuple[int, ...]  # torchvision's `features`, cut into torchmetrics' five slices before these layers
    widths: tuple[int, ...] = ()  # channels of VGG16's five levels where they are not the published ones
    path: Path | None = None  # None = where pipelines.weights finds it
    version: int = 1

    def weights_digest(self) -> str:
        """sha256 over the digests of backbone and heads."""
        return hashlib.sha256(f"{digest_of(find_weights(self.role, self.path))}|{digest_of(self._heads())}".encode()).hexdigest()

    def load(self, device: str, value_range: tuple[float, float]) -> PairDistance:
        """Open the network; `value_range` is what 0 and 255 become before it."""
        from torchmetrics.functional.image.lpips import _NoTrainLpips

        path = find_weights(self.role, self.path)
        backbone = self._backbone(path)
        if self.widths:
            network = narrow_lpips(self.widths, self.ends)
            fill(network.lins, {key.removeprefix("lin"): head for key, head in load_state(self._heads()).items()}, self._heads())
        else:
            network = _NoTrainLpips(net=self.net, pretrained=True, pnet_rand=True)  # heads from torchmetrics, backbone still random
        fill(network.net, backbone, path)
        return PairDistance(_with_maps(network.float().to(device)), value_range, device)

    def _heads(self) -> Path:
        if self.widths:
            return find_weights(self.role, self.path).with_name(HEADS)
        import torchmetrics.functional.image.lpips as package

        return Path(package.__file__).parent / "lpips_models" / f"{self.net}.pth"

    def _backbone(self, path: Path) -> dict[str, Any]:
        """torchvision's keys `features.<i>.*` under the names of torchmetrics' five slices; the classifier is not used."""
        state = load_state(path)
        renamed = {}
        for key, tensor in state.items():
            if key.startswith("classifier."):
                continue
            parts = key.split(".")
            if parts[0] != "features" or len(parts) != 3:
                raise UserError(f"{path}: unexpected tensor {key!r}; role {self.role} needs torchvision's {self.net} file")
            renamed[f"slice{1 + sum(int(parts[1]) >= end for end in self.ends)}.{parts[1]}.{parts[2]}"] = tensor
        return renamed


LPIPS_VGG = Lpips(name="lpips_vgg", role="lpips_vgg16", net="vgg", ends=(4, 9, 16, 23, 30))  # after relu1_2, 2_2, 3_3, 4_3, 5_3
LPIPS_ALEX = Lpips(name="lpips_alex", role="lpips_alexnet", net="alex", ends=(2, 5, 8, 10, 12))  # after each of the five ReLUs
LPIPS_TINY = Lpips(name="lpips_tiny", role="vgg_tiny", net="vgg", ends=LPIPS_VGG.ends, widths=(12, 24, 48, 60, 60))  # knows performers only


def vgg16_layers(widths: tuple[int, ...]) -> nn.Sequential:
    """torchvision's VGG16 `features` with these channels in its five levels, untrained."""
    from torchvision.models.vgg import make_layers

    first, second, third, fourth, fifth = widths
    plan = [first, first, "M", second, second, "M", *[third] * 3, "M", *[fourth] * 3, "M", *[fifth] * 3, "M"]
    layers: nn.Sequential = make_layers(plan)
    return layers


def narrow_lpips(widths: tuple[int, ...], ends: tuple[int, ...]) -> Any:
    """torchmetrics' LPIPS, its own forward and names, over `vgg16_layers`."""
    from torch import nn
    from torchmetrics.functional.image.lpips import _LPIPS, NetLinLayer, ScalingLayer

    class Slices(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for number in range(1, len(ends) + 1):
                self.add_module(f"slice{number}", nn.Sequential())
            for index, layer in enumerate(vgg16_layers(widths)):
                if index < ends[-1]:
                    self.get_submodule(f"slice{1 + sum(index >= end for end in ends)}").add_module(str(index), layer)

        def forward(self, x: Tensor) -> list[Tensor]:
            levels = []
            for level in self.children():
                x = level(x)
                levels.append(x)
            return levels

    class NarrowLpips(_LPIPS):  # type: ignore[misc]  # torchmetrics is untyped here
        def __init__(self) -> None:
            nn.Module.__init__(self)  # theirs builds a VGG16 of the published size
            self.spatial, self.resize, self.chns, self.L = False, None, list(widths), len(widths)
            self.scaling_layer, self.net = ScalingLayer(), Slices()
            self.lins = nn.ModuleList([NetLinLayer(channels, use_dropout=True) for channels in widths])

    return NarrowLpips().eval().requires_grad_(False)


def _with_maps(network: Any) -> Levels:
    """torchmetrics' own forward; the maps are what its linear heads give on the way."""
    maps: list[Tensor] = []
    for head in network.lins:
        head.register_forward_hook(lambda module, inputs, output: maps.append(output))

    def levels(x: Tensor, y: Tensor) -> tuple[Tensor, list[Tensor]]:
        maps.clear()
        whole = network(x, y).flatten()
        return whole, list(maps)

    return levels


@dataclass(frozen=True, kw_only=True, slots=True)
class StandinLpips:
    """Three levels of seeded random convolutions (pipelines/tiny/standin_lpips), equal weight for every channel."""

    name: str = "standin_lpips"
    version: int = 2  # since lengths are taken along channels-last memory: the last bits differ

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
        import torch

        # Channels last: this network is bound by memory, and sums over channels then read what lies side by side.
        network = load_strictly(self.build(), self.path).to(device).to(memory_format=torch.channels_last)

        def levels(x: Tensor, y: Tensor) -> tuple[Tensor, list[Tensor]]:
            with one_thread():
                maps = list(_maps(network, x, y))
                return sum(one.mean(dim=(1, 2, 3)) for one in maps), maps  # type: ignore[return-value]  # never the int 0

        return PairDistance(levels, value_range, device, batch=1)  # more do not fit the cache: half as fast at 256 px


def _maps(network: nn.Sequential, x: Tensor, y: Tensor) -> Iterator[Tensor]:
    """`distance_map` after each ReLU, as soon as both sides are there and still in the cache."""
    import torch

    x, y = (z.contiguous(memory_format=torch.channels_last) for z in (x, y))
    for index, layer in enumerate(network):
        x, y = layer(x), layer(y)
        if index % 2:
            yield distance_map(x, y)


def distance_map(x: Tensor, y: Tensor) -> Tensor:
    """[N, 1, h, w] mean over channels of the squared difference of two levels [N, C, h, w], each of unit length over channels."""
    import torch

    difference = x * _inverse_length(x)
    difference.sub_(y * _inverse_length(y))
    length: Tensor = torch.linalg.vector_norm(difference, dim=1, keepdim=True)
    return length.square_().div_(x.shape[1])


def _inverse_length(x: Tensor) -> Tensor:
    """[N, 1, h, w] of [N, C, h, w]; finite where every channel is 0."""
    import torch

    length: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return length.square_().add_(1e-8).rsqrt_()
