"""DensePose as a pose image (HFCA Sec. 3.1): part labels and surface coordinates, fitted to the network's size."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from models.fitting import Box
from pipelines.clip import Frames

LABELS = 24  # body parts of DensePose; 0 is the background


def densepose_images(iuv: Frames, box: Box, size: tuple[int, int]) -> Tensor:
    """uint8 [T, H, W, 3] (I, 255 U, 255 V) -> [T, 3, h, w] in [0, 1]: I / 24, U, V of the crop `box` at `size` (height, width).

    Nearest pixels: a mean of two part labels would be a third part.
    """
    x, y, w, h = (round(v) for v in box)
    rows = (y + (np.arange(size[0]) + 0.5) * h / size[0]).astype(int).clip(0, iuv.shape[1] - 1)
    columns = (x + (np.arange(size[1]) + 0.5) * w / size[1]).astype(int).clip(0, iuv.shape[2] - 1)
    fitted = torch.from_numpy(steady_labels(iuv[:, rows][:, :, columns])).permute(0, 3, 1, 2).float()
    return fitted / torch.tensor([LABELS, 255.0, 255.0])[:, None, None]


def steady_labels(iuv: Frames) -> Frames:
    """The same with each pixel's label the median of three frames, for DensePose flickers; U and V come from a frame that has the label.

    The first and the last frame keep theirs.
    """
    if len(iuv) < 3:
        return iuv
    steady = iuv.copy()
    before, now, after = iuv[:-2], iuv[1:-1], iuv[2:]
    label = np.median(np.stack([before[..., 0], now[..., 0], after[..., 0]]), axis=0).astype(np.uint8)
    for other in (after, before):
        steady[1:-1] = np.where((other[..., 0] == label)[..., None], other, steady[1:-1])
    steady[1:-1] = np.where((now[..., 0] == label)[..., None], now, steady[1:-1])
    return steady
