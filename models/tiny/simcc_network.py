"""A small whole-body keypoint network with the outputs of SimCC (Li et al. 2022), and what it learns by.

Every keypoint has a heat map that says where it is and, per cell, a visibility: its coordinates and its visibility are means
under the heat map (integral regression, Sun et al. 2018). They are then written as SimCC's 1-D maps, Gaussians as high as the point is certain to
be seen. That learns in minutes, where SimCC's fully connected layers need hours; what leaves the network is the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.extractors.simcc import NORMALISED, SPLIT
from pipelines.keypoints import FACE, KEYPOINTS

# B = pictures, K = keypoints, h w = input height, width in px, Y X = rows, columns of cells
CELL = 4  # px
_SPREAD = 2.0  # px, of the Gaussians that are given out
_AIM = 1.0  # cells, of the Gaussians that heat maps are drawn to


@dataclass(frozen=True, kw_only=True, slots=True)
class SimCCConfig:
    """Widths at 1/2, 1/4, 1/8 and 1/16 of the input, residual blocks at the last three."""

    size: tuple[int, int] = (128, 96)  # height, width
    widths: tuple[int, int, int, int] = (16, 48, 64, 96)
    blocks: tuple[int, int, int] = (1, 1, 2)
    head: int = 64


@dataclass(frozen=True, slots=True)
class Found:
    """points [B, K, 2] px of the input; seen [B, K] logits of visibility; heat [B, K, Y, X] logits."""

    points: Tensor
    seen: Tensor
    heat: Tensor


class Residual(nn.Module):
    """x + conv(act(conv(x))), at first x alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.GroupNorm(8, width)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        norm = self.norm  # torch.group_norm: the module's own check of sizes cannot be traced
        normed = torch.group_norm(self.first(x), norm.num_groups, norm.weight, norm.bias, norm.eps)
        return x + self.second(F.relu(normed))


class Pyramid(nn.Module):
    """Pictures [B, 3, h, w] -> features [B, head, h / 4, w / 4] that know the whole picture."""

    def __init__(self, config: SimCCConfig) -> None:
        super().__init__()
        stem, *widths = config.widths
        self.stem = nn.Sequential(nn.Conv2d(3, stem, 3, 2, 1), nn.ReLU(), nn.Conv2d(stem, widths[0], 3, 2, 1), nn.ReLU())
        self.levels = nn.ModuleList(nn.Sequential(*(Residual(w) for _ in range(n))) for w, n in zip(widths, config.blocks, strict=True))
        self.downs = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in pairwise(widths))
        self.sides = nn.ModuleList(nn.Conv2d(w, config.head, 1) for w in widths)
        self.merge = nn.Conv2d(config.head, config.head, 3, padding=1)
        self.refine = Residual(config.head)

    def forward(self, images: Tensor) -> Tensor:
        x, kept = self.stem(images), []
        for number, level in enumerate(self.levels):
            x = level(x if number == 0 else F.relu(self.downs[number - 1](x)))
            kept.append(self.sides[number](x))
        top = kept[-1]
        for side in kept[-2::-1]:
            top = side + F.interpolate(top, scale_factor=2.0, mode="nearest")
        return F.relu(self.refine(F.relu(self.merge(top))))


class SimCCNetwork(nn.Module):
    """[B, 3, h, w], normalised as RTMPose's input -> maps of x [B, K, 2 w] and of y [B, K, 2 h]."""

    cells: Tensor
    bins: Tensor

    def __init__(self, config: SimCCConfig) -> None:
        super().__init__()
        self.config = config
        self.features = Pyramid(config)
        self.heads = nn.Conv2d(config.head, 2 * KEYPOINTS, 1)
        rows, columns = config.size[0] // CELL, config.size[1] // CELL
        y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        middles = torch.stack([x, y], -1).flatten(0, 1) * CELL + (CELL - 1) / 2
        self.register_buffer("cells", middles.float(), persistent=False)  # [Y X, 2] px
        self.register_buffer("bins", torch.arange(max(config.size) * int(SPLIT)) / SPLIT, persistent=False)

    def find(self, images: Tensor) -> Found:
        """Coordinates and visibilities."""
        height, width = self.config.size[0] // CELL, self.config.size[1] // CELL
        heads = self.heads(self.features(images)).float().view(-1, 2, KEYPOINTS, height * width)
        heat, seen = heads.unbind(1)
        weights = heat.softmax(-1)
        return Found(weights @ self.cells, (weights * seen).sum(-1), heat.view(-1, KEYPOINTS, height, width))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        found = self.find(images)
        height, width = self.config.size
        x, y = (self._maps(found, axis, int(SPLIT) * side) for axis, side in ((0, width), (1, height)))
        return x, y

    def _maps(self, found: Found, axis: int, bins: int) -> Tensor:
        distance = (self.bins[:bins] - found.points[..., axis, None]) / _SPREAD
        return found.seen.sigmoid()[..., None] * torch.exp(-0.5 * distance.square())


def normalised(images: Tensor) -> Tensor:
    """Pictures in 0..1 as the network wants them; equal to pipelines.extractors.simcc."""
    low, high = torch.from_numpy(NORMALISED[[0, 255]]).to(images.device)
    return low.view(1, 3, 1, 1) + images * (high - low).view(1, 3, 1, 1)


def keypoint_loss(found: Found, points: Tensor, scores: Tensor, weights: Tensor | None = None) -> Tensor:
    """Distance of the points in cells, heat at the right cells, visibility; [B, K, 2] px and [B, K] are the truth."""
    weight = (scores > 0).float() * torch.where(scores > 0.75, 1.0, 0.5)
    weight = weight * (_weights().to(weight) if weights is None else weights)
    total = weight.sum().clamp_min(1)
    gap = F.smooth_l1_loss(found.points / CELL, points / CELL, reduction="none", beta=0.1).sum(-1)
    heat = found.heat.flatten(2).logsumexp(-1) - _aimed(found.heat, points)  # cross entropy with Gaussians round the points
    seen = F.binary_cross_entropy_with_logits(found.seen, scores)
    return (weight * (gap + 0.1 * heat)).sum() / total + 0.3 * seen


def _weights() -> Tensor:
    """[K] the many points of the face, which move together, count less each."""
    weights = torch.ones(KEYPOINTS)
    weights[FACE] = 0.5
    weights[: FACE.start] = 3.0
    return weights


def _aimed(heat: Tensor, points: Tensor) -> Tensor:
    """[B, K] means of the logits [B, K, Y, X] under Gaussians round the points [B, K, 2]."""
    middle = (points - (CELL - 1) / 2) / CELL
    cells = [torch.arange(n, device=points.device, dtype=points.dtype) for n in heat.shape[-2:]]
    y, x = (torch.softmax(-0.5 * ((c - middle[..., i, None]) / _AIM).square(), -1) for c, i in zip(cells, (1, 0), strict=True))
    rows: Tensor = (heat @ x[..., None])[..., 0]  # [B, K, Y]
    return (rows * y).sum(-1)
