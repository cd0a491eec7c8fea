"""Motion-blur map (HIA Sec. 3.2): how fast and how sharp each hand is, as an image beside the pose."""

# F = frames, 2 = hands, the person's left one first

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.face_warp import fit_boxes
from models.fitting import Box

Floats = npt.NDArray[np.float32]

GAIN = 20.0  # of the movement, in shares of the frame: a hand that crosses 5 % of it between two frames reaches the limit


@dataclass(frozen=True, kw_only=True, slots=True)
class HandSignals:
    """Rows of the table `hands`, stacked over F frames."""

    boxes: Floats  # [F, 2, 4] x1 y1 x2 y2 in source pixels
    valid: npt.NDArray[np.bool_]  # [F, 2] whether there is a box
    movement: Floats  # [F, 2, 2] px per native frame (Eq. 3's v); 0 where it is not known
    sharpness: Floats  # [F, 2] s_128: variance of the Laplacian (Eq. 3) of the crop resized to 128 x 128


def blur_values(signals: HandSignals, box: Box, fps: float, s99: float) -> Floats:
    """[F, 2, 3] in 0..1: movement along x and y (.5 is still) and sharpness, what is painted into a hand's box.

    box: the crop of the source that the network sees, x y w h. s99: 99th percentile of s_128 over the training set.
    The paper only says that v and s are averaged over the hand and overlaid. Movement is per native frame of a 30 fps video
    and in shares of the crop, times GAIN; sharpness is log-scaled, s_128 rather than the raw s, which grows with the hand's size.
    """
    size = np.array([box[2], box[3]], np.float32)
    movement = np.clip(signals.movement / size * (fps / 30) * GAIN, -1, 1)
    sharpness = np.clip(np.log1p(signals.sharpness) / np.log1p(s99), 0, 1)
    return np.concatenate([(movement + 1) / 2, sharpness[..., None]], axis=-1).astype(np.float32)


def blur_map(signals: HandSignals, box: Box, size: tuple[int, int], fps: float, s99: float) -> Tensor:
    """[F, 3, H, W] in [0, 1] at the network's size (height, width): constants inside each hand's box, 0 elsewhere (= no hand).

    Where the boxes of both hands overlap, the right hand is painted over the left.
    """
    values = torch.from_numpy(blur_values(signals, box, fps, s99))
    corners = fit_boxes(signals.boxes, box, size)
    image = torch.zeros(len(values), 3, *size)
    for frame, hand in np.argwhere(signals.valid):
        x1, y1, x2, y2 = corners[frame, hand]
        rows, columns = slice(max(0, round(float(y1))), max(0, round(float(y2)))), slice(max(0, round(float(x1))), max(0, round(float(x2))))
        image[frame, :, rows, columns] = values[frame, hand][:, None, None]
    return image


def overlaid(pose: Tensor, blur: Tensor, alpha: float = 0.5) -> Tensor:
    """[F, 3, H, W] the paper's wording, "overlay on the hand regions": the map painted into the pose image where there is a hand."""
    hand = (blur > 0).any(dim=1, keepdim=True).to(pose)
    return pose + alpha * hand * (blur - pose)


def without_blur(condition: Tensor, dropped: Tensor) -> Tensor:
    """[N, 6, H, W] pose and map with the map set to 0 in the rows of `dropped` [N] bool, so that it can be left out when sampling."""
    keep = torch.ones(len(condition), condition.shape[1], 1, 1, dtype=condition.dtype, device=condition.device)
    keep[:, 3:] = (~dropped).to(condition)[:, None, None, None]
    return condition * keep
