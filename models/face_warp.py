"""Source pixels to the network's image to an aligned face: boxes and fixed 2x3 warps, differentiable in the image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from models.fitting import Box

Floats = npt.NDArray[np.float32]

CROP = 112  # px; side of an aligned face


def _fit(box: Box, size: tuple[int, int]) -> tuple[Floats, Floats]:
    """(scale, corner) of clip_dataset.fit_frames, which rounds the box (x, y, width, height) to whole pixels."""
    x, y, w, h = (round(v) for v in box)
    return np.array([size[1] / w, size[0] / h], np.float32), np.array([x, y], np.float32)


def fit_boxes(boxes: Floats, box: Box, size: tuple[int, int]) -> Floats:
    """[..., 4] x1 y1 x2 y2 (edges) in source pixels -> pixels of the fitted image [height, width]; may lie outside of it."""
    scale, corner = _fit(box, size)
    return ((boxes.reshape(*boxes.shape[:-1], 2, 2) - corner) * scale).reshape(boxes.shape).astype(np.float32)


def fit_warps(warps: Floats, box: Box, size: tuple[int, int]) -> Floats:
    """[N, 2, 3] warps from source pixels to the crop -> warps from pixels of the fitted image to the same crop.

    The fitted image has q = (p - corner + 1/2) scale - 1/2 (clip_dataset.fit_points), so p = (q + 1/2) / scale - 1/2 + corner.
    Scales of x and y may differ: then the warp is no similarity, and the crop still shows the face upright as in the source.
    """
    scale, corner = _fit(box, size)
    shift = 0.5 / scale - 0.5 + corner
    linear = warps[..., :2] / scale
    offset = warps[..., 2] + warps[..., :2] @ shift
    return np.concatenate([linear, offset[..., None]], axis=-1).astype(np.float32)


def aligned_faces(images: Tensor, warps: Tensor, side: int = CROP) -> Tensor:
    """[N, 3, H, W] in [-1, 1] -> [N, 3, side, side] aligned faces, black outside the image; gradients reach the image.

    warps [N, 2, 3]: pixel (x, y) of the image -> pixel of the crop (table `faces`, brought to the image's size by `fit_warps`). They are
    fixed: the crop does not move to where the generated face is better. The same bilinear sampling as the extractor's (align, cv2.warpAffine).
    """
    height, width = images.shape[-2:]
    inverse = torch.linalg.inv(warps[:, :, :2].double())
    steps = torch.arange(side, dtype=torch.float64, device=warps.device)
    crop = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1)  # (x, y) of each crop pixel, [side, side, 2]
    source = torch.einsum("nij,hwnj->nhwi", inverse, crop[:, :, None] - warps[:, :, 2].double())
    extent = source.new_tensor([width - 1, height - 1]).clamp(min=1)
    grid = (2 * source / extent - 1).to(images)
    # black is -1 and outside is 0 to grid_sample
    return F.grid_sample(images + 1, grid, mode="bilinear", padding_mode="zeros", align_corners=True) - 1
