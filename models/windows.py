"""Windows over long clips (as Moore-AnimateAnyone's uniform context, without its wrap-around): which frames are denoised together, and how their predictions are fused."""

from __future__ import annotations

import torch
from torch import Tensor

Windows = list[list[int]]
"""Frame indices of each window; all windows have the same length."""


def uniform_windows(num_frames: int, length: int, overlap: int, *, closed_loop: bool = False) -> Windows:
    """Windows of `length` frames that share `overlap` frames with their neighbour and together cover every frame.

    A clip shorter than a window is one window of its own length. The last window is right-aligned, so that no index
    wraps round; `closed_loop=True` wraps instead (as the public reproduction does), which mixes the last and first frames.
    """
    if not 0 <= overlap < length:
        raise ValueError(f"overlap={overlap} must be at least 0 and smaller than length={length}")
    if num_frames <= length:
        return [list(range(num_frames))]
    step = length - overlap
    if closed_loop:
        return [[(start + i) % num_frames for i in range(length)] for start in range(0, num_frames, step)]
    starts = [*range(0, num_frames - length, step), num_frames - length]
    return [list(range(start, start + length)) for start in starts]


def flat_weights(length: int) -> Tensor:
    """[S] equal weights: the mean over windows."""
    return torch.ones(length)


def fuse_windows(predictions: Tensor, frames: Tensor, weights: Tensor, num_frames: int) -> Tensor:
    """Fuse overlapping window predictions into one prediction per frame.

        x[f] = sum_w g(f - start_w) x_w[f] / sum_w g(f - start_w)

    predictions: [W, S, ...] one prediction per window and slot
    frames:      [W, S]      clip frame that each slot holds
    weights:     [S]         g, from `flat_weights`
    returns      [F, ...]; ValueError when a frame is in no window.
    """
    slot_weights = weights.to(predictions).expand_as(frames)
    total = predictions.new_zeros(num_frames).index_put_((frames,), slot_weights, accumulate=True)
    if (total == 0).any():
        raise ValueError(f"frames {(total == 0).nonzero().flatten().tolist()} are in no window; increase the overlap")
    shape = (...,) + (None,) * (predictions.ndim - 2)
    fused = predictions.new_zeros(num_frames, *predictions.shape[2:])
    fused.index_put_((frames,), predictions * slot_weights[shape], accumulate=True)
    return fused / total[(slice(None),) + (None,) * (predictions.ndim - 2)]
