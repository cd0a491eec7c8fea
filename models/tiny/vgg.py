"""The tiny VGG16 (Simonyan and Zisserman 2015) with LPIPS heads (Zhang et al. 2018): distances that order damage, learnt on performers.

Two tasks at once: the pictures' classes, and triplets (reference, less damaged, more damaged), whose distances shall be ordered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from models.tiny.damage import PICTURE_DAMAGES, damaged
from models.tiny.damaged_windows import moved
from models.tiny.degradation import rng_of
from models.tiny.face_crops import MANY_IDENTITIES
from models.tiny.footage import Scenes
from models.tiny.inception import learnt_from, measured_on
from models.tiny.job import TinyJob
from models.tiny.labels import COUNT, class_loss, labels_of
from models.training_loop import LoopConfig, LossAt
from pipelines.clip import Frames
from pipelines.extractors.lpips import HEADS, LPIPS_TINY, narrow_lpips

# N = triplets, S = side in px
KINDS = (*PICTURE_DAMAGES, "recode", "move", "patch")
STACKED, HARDLY_SEEN = "stacked", "hardly_seen"  # further kinds of triplets
SPOILING = ("blur", "recode", "patch")
_BATCH, _CROP = 6, 96  # triplets, px
_SHARPNESS = 4.0  # of the order: a distance twice as large should have odds of 2 ** 4
_CLASS_WEIGHT = 0.3
_MOVE_PX, _PATCH = 6.0, 0.5  # at strength 1; the second a share of the side
Triplet = tuple[Frames, Frames, Frames]


class VggNetwork(nn.Module):
    """`lpips`: torchmetrics' LPIPS over narrow layers; `classes`: a classifier over the mean of its last level, for training only."""

    def __init__(self) -> None:
        super().__init__()
        self.lpips = narrow_lpips(LPIPS_TINY.widths, LPIPS_TINY.ends).requires_grad_(True)
        self.classes = nn.Linear(LPIPS_TINY.widths[-1], COUNT)
        for module in self.lpips.net.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)
        for head in self.lpips.lins:
            nn.init.constant_(head.model[1].weight, 0.2)

    def levels(self, images: Tensor) -> list[Tensor]:
        """[N, 3, S, S] in -1..1 -> features of the five levels."""
        found: list[Tensor] = self.lpips.net(self.lpips.scaling_layer(images))
        return found

    def head(self, level: int) -> Tensor:
        """[1, C, 1, 1] the weight of each channel's difference, never negative."""
        weight: Tensor = self.lpips.lins[level].model[1].weight
        return weight.abs()

    def distance(self, x: list[Tensor], y: list[Tensor]) -> Tensor:
        """[N] LPIPS of two pictures' levels."""
        total = x[0].new_zeros(len(x[0]))
        for level, pair in enumerate(zip(x, y, strict=True)):
            a, b = (z / torch.sqrt(1e-8 + z.square().sum(1, keepdim=True)) for z in pair)
            total = total + ((a - b).square() * self.head(level)).sum(1).mean(dim=(1, 2))
        return total


def worse(picture: Frames, other: Frames, kind: str, strength: float, seed: int) -> Frames:
    """[S, S, 3] with one kind of damage; `other` is what a patch shows. Equal seeds give the same damage at any strength."""
    rng, side = np.random.default_rng(seed), picture.shape[0]
    if kind in PICTURE_DAMAGES:
        return damaged(picture[None], kind, strength, rng)[0]
    if kind == "recode":
        _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, int(50 - 45 * strength)])
        return cv2.imdecode(encoded, cv2.IMREAD_COLOR).astype(np.uint8, copy=False)
    if kind == "move":
        angle = rng.uniform(0, 2 * np.pi)
        dx, dy = _MOVE_PX * strength * np.array([np.cos(angle), np.sin(angle)])
        matrix = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
        return cv2.warpAffine(picture, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE).astype(np.uint8, copy=False)
    half = max(int(_PATCH * strength * side / 2), 1)
    x, y = rng.integers(side // 4, 3 * side // 4, 2)
    rows, columns = slice(max(y - half, 0), y + half), slice(max(x - half, 0), x + half)
    patched = picture.copy()
    patched[rows, columns] = other[rows, columns]
    return patched


def triplet(picture: Frames, other: Frames, rng: np.random.Generator, kind: str | None = None) -> Triplet:
    """A picture, the same less damaged, and more damaged.

    kind: one of KINDS, stronger;  STACKED: a second kind on top;  HARDLY_SEEN: against a shift of at most 1.5 px in a little other
    light, which people hardly notice, something that spoils the picture.  None: any of these.
    """
    kind = kind or str(rng.choice([*KINDS, *[STACKED, HARDLY_SEEN] * (len(KINDS) // 2)]))
    seed, weak = int(rng.integers(1 << 30)), rng.uniform(0.1, 0.6)
    if kind == HARDLY_SEEN:
        less = worse(worse(picture, other, "move", rng.uniform(0.05, 0.25), seed), other, "colour", rng.uniform(0.02, 0.15), seed)
        return picture, less, worse(picture, other, str(rng.choice(SPOILING)), rng.uniform(0.5, 0.9), seed)
    if kind == STACKED:
        first, second = rng.choice(KINDS, 2, replace=False)
        less = worse(picture, other, first, weak, seed)
        return picture, less, worse(less, other, second, rng.uniform(0.15, 0.6), seed + 1)
    return picture, worse(picture, other, kind, weak, seed), worse(picture, other, kind, weak + rng.uniform(0.08, 0.3), seed)


def loss_of(network: Any, scenes: Scenes) -> LossAt:
    """Random crops of random frames: order of their triplets, and classes of the references."""
    labels, device = labels_of(scenes), network.classes.weight.device

    def loss_at(step: int, generator: torch.Generator) -> Tensor:
        rng = rng_of(generator)
        clips = rng.integers(len(scenes.frames), size=_BATCH)
        triplets = [triplet(cropped(scenes, clip, rng), cropped(scenes, clip - 1, rng), rng) for clip in clips]
        reference, less, more = (network.levels(scaled(np.stack(part)).to(device)) for part in zip(*triplets, strict=True))
        near, far = (network.distance(reference, levels) for levels in (less, more))
        order = functional.softplus(-_SHARPNESS * ((far + 1e-6) / (near + 1e-6)).log()).mean()
        return order + _CLASS_WEIGHT * class_loss(network.classes(reference[-1].mean(dim=(2, 3))), labels, clips)

    return loss_at


def cropped(scenes: Scenes, clip: int, rng: np.random.Generator) -> Frames:
    """[96, 96, 3] of a frame, moved and perhaps mirrored."""
    frame = moved(scenes.frames[clip, rng.integers(scenes.frames.shape[1])][None], rng)[0]
    top, left = rng.integers(frame.shape[0] - _CROP + 1, size=2)
    return np.ascontiguousarray(frame[top : top + _CROP, left : left + _CROP])


def scaled(pictures: Frames) -> Tensor:
    """[N, S, S, 3] -> [N, 3, S, S] in -1..1."""
    images = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    return images.contiguous(memory_format=torch.channels_last)


def export(network: Any, folder: Path) -> None:
    """model.safetensors with torchvision's names, heads.safetensors with torchmetrics', both float16."""
    backbone = {f"features.{name.split('.', 1)[1]}": value for name, value in network.lpips.net.state_dict().items()}
    heads = {f"lin{level}.model.1.weight": network.head(level).detach() for level in range(len(LPIPS_TINY.widths))}
    for name, state in (("model.safetensors", backbone), (HEADS, heads)):
        save_file({key: value.half().contiguous() for key, value in state.items()}, folder / name)


def measure(folder: Path, cache: Path) -> Mapping[str, float]:
    """Through the adapter, on people never seen."""
    return scores(folder, measured_on(cache))


def scores(folder: Path, scenes: Scenes) -> dict[str, float]:
    """Share of rightly ordered triplets of whole frames, one of each kind per frame, altogether and by kind."""
    distance = replace(LPIPS_TINY, path=folder / "model.safetensors").load("cpu", (-1.0, 1.0))
    frames, rng, right = np.array(scenes.frames[:, 0]), np.random.default_rng(0), {}
    for kind in (*KINDS, STACKED, HARDLY_SEEN):
        triplets = [triplet(frame, frames[number - 1], rng, kind) for number, frame in enumerate(frames)]
        reference, less, more = (np.stack(part) for part in zip(*triplets, strict=True))
        right[kind] = float((distance(less, reference) < distance(more, reference)).mean())
    return {"ordered_triplets": float(np.mean(list(right.values()))), **{f"ordered_{kind}": share for kind, share in right.items()}}


JOB = TinyJob(
    name="vgg",
    title="LPIPS network of the demo",
    purpose="VGG16 with narrow layers and its linear heads for LPIPS under the protocol demo: distances that order damage to performers.",
    loop=LoopConfig(steps=2150, learning_rate=1e-3, warmup_steps=40, decay="cosine", pictures=0),
    draw=learnt_from,
    build=VggNetwork,
    loss_of=loss_of,
    export=export,
    measure=measure,
    trained_on=f"performers {MANY_IDENTITIES.start}..{MANY_IDENTITIES.stop - 1}",
)
