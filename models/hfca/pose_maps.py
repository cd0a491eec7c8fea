"""Pose maps (Sec. 3 and 4): skeleton and DensePose of each frame, as PoseNet takes them."""

# F = frames of a clip, S = those of a window

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.animator import Driving
from models.clip_dataset import to_unit
from models.clip_sampling import DrawnPoses
from models.hfca.config import HandDetail
from models.hfca.hand_morphology import enhance_hands
from pipelines.errors import UserError
from pipelines.keypoints import BODY, VISIBLE, Points, Scores

Channels = Literal["skeleton", "densepose", "both"]


def pose_map(channels: Channels, skeleton: Tensor, densepose: Tensor | None) -> Tensor:
    """[N, 3 or 6, H, W] in [0, 1] of skeletons and IUV images [N, 3, H, W]. Raises UserError where the IUV images are asked for and missing."""
    if channels == "skeleton":
        return skeleton
    if densepose is None:
        raise UserError("hfca looks at DensePose, and there is none: extract `densepose`, or use a variant with `skeleton_only`")
    return densepose if channels == "densepose" else torch.cat([skeleton, densepose], dim=1)


class ClipPoseMaps:
    """Pose maps [S, C, H, W] of a driving clip for the window that asks.

    moved: the driving motion on the reference's skeleton; driving: as it was seen. DensePose follows by the one scaling and shift that
    explain how the body's joints moved ([D]: the paper retargets nothing; the surface's shape stays the driving person's).
    """

    def __init__(self, channels: Channels, driving: Driving, moved: Driving, size: tuple[int, int], hand: HandDetail) -> None:
        self._channels, self._moved, self._size = channels, moved, size
        self._hand = hand if hand.apply_to in ("pose", "both") else None
        self._skeletons = DrawnPoses(moved.points, moved.scores, size)
        self._iuv = None if channels == "skeleton" else driving.signals.densepose
        self._fit = scale_and_shift(driving.points, moved.points, driving.scores)

    def __len__(self) -> int:
        return len(self._moved.points)

    def __getitem__(self, frames: list[int]) -> Tensor:
        iuv = None if self._iuv is None else moved_images(self._iuv[frames], *self._fit)
        return pose_map(self._channels, self._skeleton(frames), iuv)

    def _skeleton(self, frames: list[int]) -> Tensor:
        drawn = self._skeletons[frames]
        if self._hand is None:
            return drawn
        images = (drawn * 255).round().byte().permute(0, 2, 3, 1).numpy()
        return to_unit(enhance_hands(images, self._moved.points[frames], self._moved.scores[frames], self._hand))


def scale_and_shift(before: Points, after: Points, scores: Scores) -> tuple[Tensor, Tensor]:
    """(scale [2], shift [2]) of x and y, least squares over the visible joints of all frames: after = scale * before + shift.

    The identity where nothing moved, or too little is seen.
    """
    seen = scores[:, BODY] > VISIBLE
    p, q = before[:, BODY][seen].astype(np.float64), after[:, BODY][seen].astype(np.float64)
    if len(p) < 2 or np.array_equal(p, q):
        return torch.ones(2), torch.zeros(2)
    centred = p - p.mean(axis=0)
    scale = (centred * q).sum(axis=0) / np.maximum((centred**2).sum(axis=0), 1e-6)
    return torch.from_numpy(scale).float(), torch.from_numpy(q.mean(axis=0) - scale * p.mean(axis=0)).float()


def moved_images(images: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """[N, C, H, W] with pixel p at scale * p + shift; nearest pixels, 0 from outside. Part labels have no mean."""
    if bool((scale == 1).all()) and bool((shift == 0).all()):
        return images
    height, width = images.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
    source = (torch.stack([x, y], dim=-1) - shift) / scale.clamp(min=1e-3)
    grid = (2 * source + 1) / torch.tensor([width, height]) - 1
    return F.grid_sample(images, grid.expand(len(images), -1, -1, -1), mode="nearest", padding_mode="zeros", align_corners=False)
