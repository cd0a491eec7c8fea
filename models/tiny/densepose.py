"""The demo's IUV network, as a TorchScript file with the inputs and outputs of the published DensePose export.

The published one finds boxes and then looks into each; this one looks at the whole picture at once, and its one box is that
of the cells where it sees a person. What leaves it is the same: boxes, and coarse, fine, u and v charts inside them.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.tiny.augmentation import warp
from models.tiny.boxed_people import BoxedPeople, Variety, crops, learnt_from, measured_on
from models.tiny.job import TinyJob
from models.tiny.simcc_network import Pyramid, SimCCConfig
from models.training_loop import LoopConfig, LossAt
from pipelines import accuracy
from pipelines.extractors.densepose import GREY, PARTS, TINY_SIDES, iuv_of
from pipelines.extractors.torchscript import load_torchscript

# B = pictures, h w = their height, width, P = parts (25 with the background)
CELL = 2  # px of the picture per cell of the charts
SIZE = 128
BATCH = 8
_WIDTHS = SimCCConfig(size=(SIZE, SIZE), widths=(16, 32, 48, 72), head=48)
_FINE = 32
VARIETY = Variety(shift=0.1, scale=0.25, cut_share=0.25, behind_share=0.1, padding=1.3, flip_share=0.0)


class DensePoseNetwork(nn.Module):
    """Pictures [B, 3, h, w] -> charts of all of them: coarse, fine, u, v."""

    def __init__(self) -> None:
        super().__init__()
        self.pyramid = Pyramid(_WIDTHS)
        self.early = nn.Conv2d(3, _FINE, 5, 2, 2)
        self.lift = nn.Conv2d(_WIDTHS.head, _FINE, 1)
        self.mix = nn.Conv2d(_FINE, _FINE, 3, padding=1)
        self.charts = nn.Conv2d(_FINE, 2 + 3 * PARTS, 1)

    def predict(self, images: Tensor) -> Tensor:
        """[B, 3, h, w] BGR in -1..1, sides multiples of 16 -> charts [B, 2 + 3 P, h / 2, w / 2]."""
        coarse = F.interpolate(self.lift(self.pyramid(images)), scale_factor=2.0, mode="nearest")
        return self.charts(F.relu(self.mix(F.relu(coarse + self.early(images)))))

    def forward(self, images: Tensor) -> Tensor:
        return self.predict(images)


class Export(nn.Module):
    """A BGR picture [3, h, w], 0..255 -> boxes [n, 4] px, coarse [n, 2, y, x], fine, u, v [n, 25, y, x]; n is 0 or 1."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        height, width = image.shape[1], image.shape[2]
        padded = F.pad(image.float() / 127.5 - 1, [0, (16 - width % 16) % 16, 0, (16 - height % 16) % 16])
        charts = self.network(padded[None])[:, :, : (height + 1) // 2, : (width + 1) // 2]
        coarse, fine, u, v = charts[:, :2], charts[:, 2:27], charts[:, 27:52], charts[:, 52:77]
        person = (coarse[0, 1] > coarse[0, 0]) & (fine[0].argmax(0) > 0)
        cells = person.nonzero()
        if cells.shape[0] < 12:  # nobody
            return image.new_zeros([0, 4], dtype=torch.float32), coarse[:0], fine[:0], u[:0], v[:0]
        top, left = int(cells[:, 0].min()), int(cells[:, 1].min())
        bottom, right = int(cells[:, 0].max()) + 1, int(cells[:, 1].max()) + 1
        box = torch.tensor([[2.0 * left, 2.0 * top, 2.0 * right, 2.0 * bottom]], device=image.device)
        return box, coarse[:, :, top:bottom, left:right], fine[:, :, top:bottom, left:right], u[:, :, top:bottom, left:right], v[:, :, top:bottom, left:right]  # fmt: skip


def build() -> nn.Module:
    """Untrained."""
    return DensePoseNetwork().to(memory_format=torch.channels_last)


def iuv_loss(charts: Tensor, iuv: Tensor) -> Tensor:
    """charts [B, 2 + 3 P, y, x]; iuv [B, 3, y, x], part 0..24, U and V in 0..1."""
    part = iuv[:, 0].round().long()
    coarse, fine = charts[:, :2], charts[:, 2 : 2 + PARTS]
    u, v = (charts[:, 2 + PARTS * k : 2 + PARTS * (k + 1)].gather(1, part[:, None])[:, 0] for k in (1, 2))
    person = (part > 0).float()
    off = (u - iuv[:, 1]).abs() + (v - iuv[:, 2]).abs()
    parts = F.cross_entropy(fine, part, reduction="none") * (0.3 + person)
    return parts.mean() + F.cross_entropy(coarse, (part > 0).long()) + 3 * (off * person).sum() / person.sum().clamp_min(1)


def loss_of(network: nn.Module, data: BoxedPeople) -> LossAt:
    """Crops changed at random, never mirrored: U and V of a mirrored part are other numbers."""
    assert isinstance(network, DensePoseNetwork)
    device = next(network.parameters()).device

    def loss_at(micro: int, generator: torch.Generator) -> Tensor:
        batch = crops(data, BATCH, (SIZE, SIZE), VARIETY, generator, device)
        images = torch.where(batch.inside > 0, batch.images, GREY / 255).flip(1) * 2 - 1
        return iuv_loss(
            network.predict(images.contiguous(memory_format=torch.channels_last)), _cells_of(data, batch.chosen, batch.maps, batch.inside)
        )

    return loss_at


def _cells_of(data: BoxedPeople, chosen: np.ndarray[tuple[int], np.dtype[np.int64]], maps: Tensor, inside: Tensor) -> Tensor:
    """IUV of the charts' cells [B, 3, h / 2, w / 2], background where the crop shows nothing."""
    iuv = torch.from_numpy(data.people.truth["iuv"][chosen]).permute(0, 3, 1, 2).float() / torch.tensor([1.0, 255.0, 255.0]).view(3, 1, 1)
    linear = maps[:, :, :2]
    middles = torch.cat([linear * CELL, maps[:, :, 2:] + linear @ torch.full((2, 1), (CELL - 1) / 2)], 2)
    side = SIZE // CELL
    return warp(iuv.to(inside.device), middles, (side, side), "nearest") * F.max_pool2d(inside, CELL)


def export(network: nn.Module, folder: Path) -> None:
    """model.torchscript, weights in half precision; the adapter computes in float32."""
    network = network.eval().to(memory_format=torch.contiguous_format)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.*")  # torch 2.15 announces torch.export; the published file is TorchScript
        traced = torch.jit.trace(network, torch.zeros(1, 3, SIZE, SIZE))
        scripted = torch.jit.script(Export(traced))
        scripted.half().save(str(folder / "model.torchscript"))


def measure(folder: Path, cache: Path) -> Mapping[str, float]:
    """As `scores_of` over people never seen."""
    path = folder / "model.torchscript"
    return scores_of(load_torchscript(path, "cpu").float(), measured_on(cache), path)


def scores_of(network: nn.Module, data: BoxedPeople, path: Path) -> dict[str, float]:
    """Share of the body's pixels with the right part, mean error of U and V in 0..1 where it is right, IoU of the body."""
    found = np.stack([iuv_of(network, frame, "cpu", str(path), TINY_SIDES) for frame in data.people.frames])
    true = np.asarray(data.people.truth["iuv"])
    values = {
        "part_accuracy": accuracy.part_accuracy(found, true),
        "uv_error": accuracy.uv_error(found, true),
        "body_iou": accuracy.mask_iou(found[..., 0] > 0, true[..., 0] > 0),
    }
    return {name: float(np.nanmean(value)) for name, value in values.items()}


JOB = TinyJob(
    name="densepose",
    title="IUV of the demo",
    purpose="Part, U and V of every pixel of the person, with the outputs of the public DensePose export, for Rotoscope's demo on performers.",
    loop=LoopConfig(steps=3000, learning_rate=2e-3, warmup_steps=20, decay="cosine", pictures=0),
    draw=learnt_from,
    build=build,
    loss_of=loss_of,
    export=export,
    measure=measure,
)
