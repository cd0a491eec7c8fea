"""Whole pictures with one or two people or nobody, changed at random: what networks that look for people learn from."""

from __future__ import annotations

import torch
from torch import Tensor

from models.tiny.augmentation import chance, change_looks, cut_out, region, shifted, uniform, warp
from models.tiny.boxed_people import BoxedPeople, pictures

# B = pictures, G = people per picture (2: their own and one behind)
GREY = 114 / 255  # of what lies outside the frame, as detectors pad
_LEAST = 60  # px; of whom less is seen is nobody
_SECOND = 0.35  # share of pictures with another person


def scenes(data: BoxedPeople, count: int, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Pictures [B, 3, size, size] RGB in 0..1 and masks [B, 2, size, size] of what is seen of their people."""
    chosen = torch.randint(len(data.boxes), (count,), generator=generator).numpy()
    frames, own = pictures(data, chosen)
    width = frames.shape[-1]
    shift = int(uniform(generator, (1,), 0.25, 0.6) * width) * (1 if float(torch.rand(1, generator=generator)) < 0.5 else -1)
    second = chance(generator, count, _SECOND).view(-1, 1, 1, 1)
    other = shifted(own.roll(1, 0), shift) * second * (1 - own)
    frames = frames + other * (shifted(frames.roll(1, 0), shift) - frames)
    maps = _views(count, size, width, generator)
    masks = warp(torch.cat([own, other], 1), maps, (size, size))
    images = cut_out(warp(frames, maps, (size, size), outside=GREY), generator, 0.1)
    return change_looks(images, generator), masks


def _views(count: int, size: int, width: int, generator: torch.Generator) -> Tensor:
    """Windows of the frame from a close-up to one with a margin; half of them are near the whole frame."""
    near = chance(generator, count, 0.5)
    side = torch.where(near, uniform(generator, (count,), 0.9, 1.1), uniform(generator, (count,), 0.45, 1.8)) * width
    room = (width - side).abs()[:, None] / 2 + 0.05 * width
    centre = width / 2 + uniform(generator, (count, 2), -1, 1) * room
    angle = uniform(generator, (count,), -0.15, 0.15) * chance(generator, count, 0.4)
    return region(centre, side[:, None].expand(-1, 2), (size, size), angle, chance(generator, count, 0.5))


def boxes_of(masks: Tensor) -> Tensor:
    """Masks [B, G, h, w] in 0..1 -> boxes [B, G, 4] px; zeros for people of whom next to nothing is seen."""
    seen = masks > 0.5
    (top, bottom), (left, right) = _ends(seen.any(3)), _ends(seen.any(2))
    return torch.stack([left, top, right, bottom], -1).float() * (seen.sum((2, 3)) >= _LEAST)[..., None]


def _ends(line: Tensor) -> tuple[Tensor, Tensor]:
    """First set place and one after the last of [..., n] bool."""
    at = line.float()
    return at.argmax(-1), line.shape[-1] - at.flip(-1).argmax(-1)
