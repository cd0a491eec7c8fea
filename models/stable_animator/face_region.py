"""Where faces are: boxes of landmarks, crops for a recogniser, and masks in latent pixels."""

# F = frames, N = boxes; boxes are x1 y1 x2 y2 (edges) in pixels of the network's image, all zero where there is no face

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from models.face_warp import CROP
from pipelines.extractors.face_embedding import similarity_warp
from pipelines.keypoints import FACE, VISIBLE, Points, Scores

Crop = Literal["box", "aligned"]

_FOREHEAD, _MARGIN = 0.3, 0.05  # of the landmarks' height and width: they end at the brows and at the jaw's line, a detector's boxes do not
_LEAST_SEEN = 0.5  # share of the landmarks that must be visible
_LEAST_PX = 4.0
_EYES, _NOSE, _MOUTH = (slice(36, 42), slice(42, 48)), 30, (48, 54)  # of the 68 iBUG points: the eye at the left of the image first


def landmark_boxes(points: Points, scores: Scores, size: tuple[int, int]) -> Tensor:
    """[F, 4] boxes of the face landmarks of [F, 133, 2] points, inside the image [height, width]; zeros where half of a face is not seen."""
    face, seen = points[:, FACE], scores[:, FACE] > VISIBLE
    boxes = np.zeros((len(points), 4), np.float32)
    for frame in np.flatnonzero(seen.mean(axis=1) >= _LEAST_SEEN):
        low, high = face[frame][seen[frame]].min(axis=0), face[frame][seen[frame]].max(axis=0)
        width, height = high - low
        edges = [low[0] - _MARGIN * width, low[1] - _FOREHEAD * height, high[0] + _MARGIN * width, high[1] + _MARGIN * height]
        box = np.clip(edges, 0, [size[1], size[0], size[1], size[0]])
        if min(box[2] - box[0], box[3] - box[1]) >= _LEAST_PX:
            boxes[frame] = box
    return torch.from_numpy(boxes)


def found(boxes: Tensor) -> Tensor:
    """[N] bool: boxes with an area."""
    return (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])


def box_warps(boxes: Tensor, side: int = CROP) -> Tensor:
    """[N, 2, 3] warps from pixels of the image to a crop that is the box alone, stretched to side x side; identity where there is none.

    Pixel centres: q = (p + 1/2 - corner) side / length - 1/2, which is a bilinear resize of the cropped box (without alignment, as the
    released code crops).
    """
    warps = torch.tensor([[1.0, 0, 0], [0, 1, 0]], dtype=boxes.dtype, device=boxes.device).repeat(len(boxes), 1, 1)
    there = found(boxes)
    scale = side / (boxes[there, 2:] - boxes[there, :2])
    offset = (0.5 - boxes[there, :2]) * scale - 0.5
    warps[there] = torch.cat([torch.diag_embed(scale), offset[..., None]], dim=-1)
    return warps


def landmark_warps(points: Points, boxes: Tensor) -> Tensor:
    """[F, 2, 3] warps that align the faces of [F, 133, 2] points by eyes, nose and mouth, as recognisers were trained; identity without a face.

    A face whose five points coincide falls back to its box.
    """
    warps = box_warps(boxes)
    for frame in found(boxes).nonzero().flatten().tolist():
        five = _five_points(points[frame, FACE])
        try:
            warps[frame] = torch.from_numpy(similarity_warp(five))
        except ValueError:
            continue
    return warps


def _five_points(face: Points) -> Points:
    """[5, 2] eyes, nose and corners of the mouth of 68 landmarks."""
    return np.stack([face[_EYES[0]].mean(axis=0), face[_EYES[1]].mean(axis=0), face[_NOSE], face[_MOUTH[0]], face[_MOUTH[1]]]).astype(
        np.float32
    )


def latent_masks(boxes: Tensor, latent_size: tuple[int, int], scale: int, dilation: int = 0) -> Tensor:
    """[N, 1, h, w] in {0, 1}: latent pixels inside of [N, 4] boxes; scale: image pixels per latent pixel.

    A full-size mask resized by "nearest": latent pixel i asks image pixel i * scale. With a dilation every latent pixel that the box touches
    belongs, and so many more around; no box, no mask.
    """
    x1, y1, x2, y2 = (boxes[:, i, None] / scale for i in range(4))
    columns, rows = (torch.arange(side, dtype=boxes.dtype, device=boxes.device) for side in (latent_size[1], latent_size[0]))
    if dilation:
        across = (columns >= x1.floor() - dilation) & (columns < x2.ceil() + dilation)
        down = (rows >= y1.floor() - dilation) & (rows < y2.ceil() + dilation)
    else:
        across, down = _inside(columns, x1, x2, scale), _inside(rows, y1, y2, scale)
    inside = down[:, :, None] & across[:, None, :] & found(boxes)[:, None, None]
    return inside[:, None].to(boxes)


def _inside(places: Tensor, low: Tensor, high: Tensor, scale: int) -> Tensor:
    """[N, side] whether the centre of the image pixel that each latent pixel asks lies in low..high (in latent pixels)."""
    centres = places + 0.5 / scale
    return (centres >= low) & (centres < high)
