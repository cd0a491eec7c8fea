"""The demo's person detector: YOLOX's outputs and anchors (Ge et al. 2021) from a few convolutions; pipelines.extractors.person_box opens it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.tiny.boxed_people import BoxedPeople, learnt_from, measured_on
from models.tiny.job import TinyJob
from models.tiny.onnx_export import export_onnx
from models.tiny.scenes import boxes_of, scenes
from models.training_loop import LoopConfig, LossAt
from pipelines.boxes import iou
from pipelines.extractors.person_box import Yolox

# B = pictures, A = anchors (one per cell of strides 8, 16, 32), G = people per picture at most
STRIDES = (8, 16, 32)


@dataclass(frozen=True, kw_only=True, slots=True)
class PersonBoxConfig:
    """Widths at 1/2 ... 1/32 of the input."""

    size: int = 128
    widths: tuple[int, ...] = (12, 24, 32, 48, 64)
    batch: int = 16
    largest: tuple[float, ...] = (32.0, 64.0)  # px; longer boxes are left to the next stride


CONFIG = PersonBoxConfig()


class PersonBoxNetwork(nn.Module):
    """[B, 3, h, w] BGR 0..255 -> [B, A, 6]: offset x, y in cells, log width, height in strides, objectness, person."""

    def __init__(self, config: PersonBoxConfig = CONFIG) -> None:
        super().__init__()
        widths = (3, *config.widths)
        self.downs = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in pairwise(widths))
        self.mixes = nn.ModuleList(nn.Conv2d(w, w, 3, padding=1) for w in config.widths[2:])
        self.lifts = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in zip(config.widths[2:], config.widths[3:], strict=False))
        self.heads = nn.ModuleList(nn.Conv2d(w, 6, 3, padding=1) for w in config.widths[2:])
        for head in self.heads:
            assert isinstance(head, nn.Conv2d)
            assert head.bias is not None
            nn.init.constant_(head.bias[4:5], -3.0)  # most cells hold nobody

    def logits(self, images: Tensor) -> Tensor:
        """The same with logits for the last two."""
        x, levels = images / 127.5 - 1, list[Tensor]()
        for number, down in enumerate(self.downs):
            x = F.relu(down(x))
            if number >= 2:
                x = x + F.relu(self.mixes[number - 2](x))
                levels.append(x)
        for number in (1, 0):
            levels[number] = levels[number] + F.interpolate(self.lifts[number](levels[number + 1]), scale_factor=2.0, mode="nearest")
        return torch.cat([head(level).flatten(2) for head, level in zip(self.heads, levels, strict=True)], 2).transpose(1, 2)

    def forward(self, images: Tensor) -> Tensor:
        raw = self.logits(images)
        return torch.cat([raw[..., :4], raw[..., 4:].sigmoid()], dim=2)


def anchors(size: int) -> tuple[Tensor, Tensor]:
    """Cells (x, y) [A, 2] and strides [A, 1]."""
    cells, strides = [], []
    for stride in STRIDES:
        y, x = torch.meshgrid(torch.arange(size // stride), torch.arange(size // stride), indexing="ij")
        cells.append(torch.stack([x, y], -1).flatten(0, 1).float())
        strides.append(torch.full((x.numel(), 1), float(stride)))
    return torch.cat(cells), torch.cat(strides)


def detection_loss(raw: Tensor, boxes: Tensor, config: PersonBoxConfig = CONFIG) -> Tensor:
    """raw [B, A, 6] logits; boxes [B, G, 4] px, zeros where there is nobody.

    A person belongs to the cells of one stride whose middle is within 1.5 cells of the person's, inside the box. Boxes learn by
    1 - IoU and by distance, the objectness by cross entropy over all anchors.
    """
    cells, strides = (values.to(raw) for values in anchors(config.size))
    owner, taken = _owners(boxes, cells, strides, config)
    truth = boxes.gather(1, owner[..., None].expand(-1, -1, 4))
    middle, size = (truth[..., :2] + truth[..., 2:]) / 2, (truth[..., 2:] - truth[..., :2]).clamp_min(1)
    aim = torch.cat([middle / strides - cells, (size / strides).log()], -1)
    distance = F.smooth_l1_loss(raw[..., :4], aim, reduction="none", beta=0.1).sum(-1)
    overlap = _overlap(
        torch.cat([middle, size], -1), torch.cat([(raw[..., :2] + cells) * strides, raw[..., 2:4].clamp(max=4).exp() * strides], -1)
    )
    count = taken.sum().clamp_min(1)
    there = F.binary_cross_entropy_with_logits(raw[..., 4], taken.float(), reduction="sum") / count
    person = F.binary_cross_entropy_with_logits(raw[..., 5], torch.ones_like(raw[..., 5]), reduction="none")
    return ((distance + 2 * (1 - overlap) + 0.2 * person) * taken).sum() / count + there


def _owners(boxes: Tensor, cells: Tensor, strides: Tensor, config: PersonBoxConfig) -> tuple[Tensor, Tensor]:
    """Which person each anchor belongs to [B, A] and whether to any."""
    side = (boxes[..., 2:] - boxes[..., :2]).amax(-1)  # [B, G]
    fitting = torch.bucketize(side, torch.tensor(config.largest, device=side.device))
    right = torch.tensor(STRIDES, device=side.device)[fitting][:, None] == strides  # [B, A, G]
    middle, place = (boxes[..., :2] + boxes[..., 2:])[:, None] / 2, ((cells + 0.5) * strides)[None, :, None]
    near = (place - middle).abs().amax(-1) < 0.8 * strides
    gap = torch.where(right & near & (side > 0)[:, None], (place - middle).square().sum(-1), torch.inf)
    return gap.argmin(-1), gap.amin(-1) < torch.inf


def _overlap(a: Tensor, b: Tensor) -> Tensor:
    """IoU of boxes given as middle and size [..., 4]."""
    low = torch.maximum(a[..., :2] - a[..., 2:] / 2, b[..., :2] - b[..., 2:] / 2)
    high = torch.minimum(a[..., :2] + a[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2)
    both = (high - low).clamp_min(0).prod(-1)
    return both / (a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - both)


def build() -> nn.Module:
    """Untrained."""
    return PersonBoxNetwork().to(memory_format=torch.channels_last)


def loss_of(network: nn.Module, data: BoxedPeople) -> LossAt:
    """Scenes drawn at random."""
    assert isinstance(network, PersonBoxNetwork)

    def loss_at(micro: int, generator: torch.Generator) -> Tensor:
        device = next(network.parameters()).device
        images, masks = scenes(data, CONFIG.batch, CONFIG.size, generator)
        images, boxes = images.to(device), boxes_of(masks).to(device)
        bgr = (images.flip(1) * 255).contiguous(memory_format=torch.channels_last)
        return detection_loss(network.logits(bgr), boxes)

    return loss_at


def export(network: nn.Module, folder: Path) -> None:
    """model.onnx, [N, 3, 128, 128] -> [N, 336, 6]."""
    export_onnx(network, torch.zeros(1, 3, CONFIG.size, CONFIG.size), folder / "model.onnx", ("output",))


def measure(folder: Path, cache: Path) -> Mapping[str, float]:
    """As `scores_of` over people never seen."""
    return scores_of(Yolox(folder / "model.onnx"), measured_on(cache))


def scores_of(network: Yolox, data: BoxedPeople) -> dict[str, float]:
    """Recall and precision at IoU 0.5 with the box of the person's pixels, mean IoU of the best box of each frame."""
    frames = data.people.frames
    found = [each for start in range(0, len(frames), 32) for each in network(frames[start : start + 32])]
    best = [float(iou(boxes, true[None]).max()) if len(boxes) else 0.0 for (boxes, _), true in zip(found, data.boxes, strict=True)]
    hits, count = float(np.sum(np.array(best) >= 0.5)), sum(len(boxes) for boxes, _ in found)
    return {"recall": hits / len(frames), "precision": hits / max(count, 1), "mean_iou": float(np.mean(best))}


JOB = TinyJob(
    name="person_box",
    title="Person detector of the demo",
    purpose="Boxes of people in 128 x 128 px as YOLOX gives them, for Rotoscope's demo on performers.",
    loop=LoopConfig(steps=4000, learning_rate=2e-3, warmup_steps=20, decay="cosine", pictures=0),
    draw=learnt_from,
    build=build,
    loss_of=loss_of,
    export=export,
    measure=measure,
)
