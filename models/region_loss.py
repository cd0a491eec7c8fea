"""Regions of an image and losses inside them (HIA Sec. 3.3)."""

# N = images

from __future__ import annotations

import torch
from torch import Tensor


def box_masks(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """[N, K, 4] x1 y1 x2 y2 in pixels of the image -> [N, 1, H, W] in {0, 1}: the union of K filled boxes; an empty box fills nothing."""
    y, x = (torch.arange(side, device=boxes.device) + 0.5 for side in size)
    x1, y1, x2, y2 = (value[..., None] for value in boxes.unbind(-1))  # [N, K, 1]
    across, down = (x > x1) & (x < x2), (y > y1) & (y < y2)
    return (down[..., :, None] & across[..., None, :]).any(dim=1, keepdim=True).float()


def clothing_region(body: Tensor, face: Tensor, hands: Tensor) -> Tensor:
    """[N, 1, H, W] the body without face and hands, where HFCA's style is compared (Sec. 3.2)."""
    return body * (1 - face) * (1 - hands)


def masked_mse(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """[N] sum |(I_tgt - I_pre) M|^2 / sum M (HIA Eq. 1), images [N, C, H, W], mask [N, 1, H, W]; 0 where the mask is empty.

    sum M counts channels as well, so that a difference of d everywhere is d^2.
    """
    spread = mask.expand_as(prediction)
    error = ((target - prediction) * spread).square().sum(dim=(1, 2, 3))
    return error / spread.sum(dim=(1, 2, 3)).clamp(min=1)
