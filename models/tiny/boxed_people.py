"""Batches of crops round one person each, as the extractors cut them, changed at random: what networks of boxed people learn from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.tiny.augmentation import chance, change_looks, cut_out, mirrored, paste_behind, region, uniform, warp, warp_points
from models.tiny.people import TRAINING_IDENTITIES, UNSEEN_IDENTITIES, Casting, People, cast, draw

# N = frames, B = pictures of a batch, K = keypoints (133), h w = height, width of the network's input
Floats = npt.NDArray[np.float32]

# One casting for all networks of people, so that they are drawn once.
LEARNT_FROM = cast(TRAINING_IDENTITIES, clips=3, truth=("keypoints", "scores", "iuv"))
MEASURED_ON = cast(UNSEEN_IDENTITIES, clips=2, truth=("keypoints", "scores", "iuv"))


@dataclass(frozen=True, slots=True)
class BoxedPeople:
    """Frames [N, H, W, 3], their truth, and the box [N, 4] (x1, y1, x2, y2 px) of what is seen of the person."""

    people: People
    boxes: Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class Variety:
    """How boxes are moved and what happens to the pictures; lengths are shares of the box."""

    shift: float = 0.06
    scale: float = 0.18
    angle: float = 0.25  # radians
    flip_share: float = 0.5
    cut_share: float = 0.35  # of people cut off below, as in framings of the upper body
    behind_share: float = 0.15
    cut_out_share: float = 0.1
    padding: float = 1.25  # of the box before cropping: pipelines.extractors.simcc.PADDING


@dataclass(frozen=True, slots=True)
class Crops:
    """images [B, 3, h, w] RGB in 0..1; maps [B, 2, 3] crop px to frame px; flip [B] bool: mirrored; chosen [B]: which frames."""

    chosen: npt.NDArray[np.int64]
    images: Tensor
    maps: Tensor
    flip: Tensor
    inside: Tensor  # [B, 1, h, w] 1 where the crop shows the frame


def learnt_from(cache: Path) -> BoxedPeople:
    """The people of the training jobs."""
    return boxed(draw(LEARNT_FROM, cache))


def measured_on(cache: Path, casting: Casting = MEASURED_ON) -> BoxedPeople:
    """People that no job learns from."""
    return boxed(draw(casting, cache))


def boxed(people: People) -> BoxedPeople:
    """With the boxes of the persons' pixels; frames that show nobody are left out."""
    boxes = np.stack([box_of(iuv[..., 0] > 0) for iuv in people.truth["iuv"]])
    seen = np.flatnonzero(boxes[:, 2] > boxes[:, 0])
    if len(seen) < len(boxes):
        people = People(people.frames[seen], {n: v[seen] for n, v in people.truth.items()}, people.identity[seen], people.clip[seen])
    return BoxedPeople(people, boxes[seen])


def box_of(mask: npt.NDArray[np.bool_]) -> Floats:
    """x1, y1, x2, y2 of the pixels that are set, the last ones counted whole; zeros where none is."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return np.zeros(4, np.float32)
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)


def crops(data: BoxedPeople, count: int, size: tuple[int, int], variety: Variety, generator: torch.Generator, device: Any) -> Crops:
    """A random batch. `size` (h, w) of the input."""
    chosen = torch.randint(len(data.boxes), (count,), generator=generator).numpy()
    boxes = torch.from_numpy(data.boxes[chosen])
    frames, masks = (values.to(device) for values in pictures(data, chosen))
    frames = paste_behind(frames, masks, generator, variety.behind_share)
    boxes = _cut_off(boxes, generator, variety.cut_share)
    rows = torch.arange(frames.shape[-2]).view(1, 1, -1, 1)
    shown = (rows < boxes[:, 3].ceil().view(-1, 1, 1, 1)) | (boxes[:, 3] == torch.from_numpy(data.boxes[chosen, 3])).view(-1, 1, 1, 1)
    shown = shown.float().expand(-1, 1, -1, frames.shape[-1]).to(device)
    maps, flip = _moved(boxes, size, variety, generator)
    images = cut_out(change_looks(warp(frames, maps, size), generator), generator, variety.cut_out_share)
    inside = (warp(shown, maps, size) > 0.5).float()
    return Crops(chosen, images * inside, maps, flip, inside)


def pictures(data: BoxedPeople, chosen: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Frames [B, 3, H, W] RGB in 0..1 and masks [B, 1, H, W] of their persons, 0 or 1."""
    frames = torch.from_numpy(np.ascontiguousarray(data.people.frames[chosen])).permute(0, 3, 1, 2).float() / 255
    return frames, torch.from_numpy((data.people.truth["iuv"][chosen][..., 0] > 0).astype(np.float32))[:, None]


def keypoints_in(data: BoxedPeople, batch: Crops) -> tuple[Tensor, Tensor]:
    """Points [B, K, 2] in px of the crops and visibilities [B, K]; 0 for what a crop does not show."""
    points = torch.from_numpy(data.people.truth["keypoints"][batch.chosen])
    scores = torch.from_numpy(data.people.truth["scores"][batch.chosen])
    points, scores = mirrored(warp_points(points, batch.maps), batch.flip), mirrored(scores, batch.flip)
    height, width = batch.images.shape[-2:]
    limits = torch.tensor([width - 1, height - 1])
    cells = points.round().long().clamp(torch.zeros(2, dtype=torch.long), limits)
    shown = batch.inside.cpu()[torch.arange(len(points))[:, None], 0, cells[..., 1], cells[..., 0]] > 0.5
    return points, scores * (shown & ((points >= -0.5) & (points <= limits + 0.5)).all(-1))


def _cut_off(boxes: Tensor, generator: torch.Generator, share: float) -> Tensor:
    """Some boxes [B, 4] lose their lower part."""
    kept = torch.where(chance(generator, len(boxes), share), uniform(generator, (len(boxes),), 0.4, 1.0), torch.ones(len(boxes)))
    return torch.cat([boxes[:, :3], (boxes[:, 1] + (boxes[:, 3] - boxes[:, 1]) * kept)[:, None]], dim=1)


def _moved(boxes: Tensor, size: tuple[int, int], variety: Variety, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Maps and mirrorings of the padded boxes in the input's aspect, moved, scaled and turned at random."""
    count, aspect = len(boxes), size[1] / size[0]
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp_min(2)
    wide = torch.maximum(sides[:, 0] * variety.padding, sides[:, 1] * variety.padding * aspect)
    wide = wide * (1 + uniform(generator, (count,), -variety.scale, variety.scale))
    extent = torch.stack([wide, wide / aspect], dim=1)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2 + sides * uniform(generator, (count, 2), -variety.shift, variety.shift)
    angle = uniform(generator, (count,), -variety.angle, variety.angle) * chance(generator, count, 0.6)
    flip = chance(generator, count, variety.flip_share)
    return region(centre, extent, size, angle, flip), flip
