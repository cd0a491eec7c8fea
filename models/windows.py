"""Windows over long clips: which frames are denoised together, and how their predictions are fused.

uniform:    AnimateAnyone (as Moore-AnimateAnyone's uniform context, without its wrap-around); HFCA's 0, 20, 40, … with `gaussian_weights`
travelling: HIA's prompt travelling, other borders at every denoising step
anchored:   StableAnimator and MimicMotion, frame 0 in every window
"""

# F = frames of the clip, W = windows, S = slots (frames) of a window

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

Windows = list[list[int]]
"""Frame indices of each window; all windows have the same length."""


def uniform_windows(num_frames: int, length: int, overlap: int, *, closed_loop: bool = False) -> Windows:
    """Windows of `length` frames that share `overlap` frames with their neighbour and together cover every frame.

    A clip shorter than a window is one window of its own length. The last window is right-aligned, so that no index
    wraps round; `closed_loop=True` wraps instead (as the public reproduction does), which mixes the last and first frames.
    """
    _check_overlap(length, overlap)
    if num_frames <= length:
        return [list(range(num_frames))]
    step = length - overlap
    if closed_loop:
        return [[(start + i) % num_frames for i in range(length)] for start in range(0, num_frames, step)]
    starts = [*range(0, num_frames - length, step), num_frames - length]
    return [list(range(start, start + length)) for start in starts]


def travelling_windows(num_frames: int, length: int, overlap: int, offset: int) -> Windows:
    """Prompt travelling (HIA Sec. 3.5): uniform windows shifted by `offset`, drawn anew for each denoising step by `draw_offset`.

    Windows start at d - (L - o), d, d + (L - o), …; the first and the last are moved inside the clip and keep their length L.
    A border that lies elsewhere at every step leaves no seam. A clip shorter than a window is one window of its own length.
    """
    _check_overlap(length, overlap)
    step, last = length - overlap, max(0, num_frames - length)
    if not 0 <= offset < step:
        raise ValueError(f"offset={offset} must be at least 0 and smaller than length - overlap = {step}")
    starts = sorted({min(max(start, 0), last) for start in range(offset - step, last + step, step)})
    return [list(range(start, min(start + length, num_frames))) for start in starts]


def draw_offset(length: int, overlap: int, generator: torch.Generator) -> int:
    """d ~ U{0 … L - o - 1} of one denoising step."""
    _check_overlap(length, overlap)
    return int(torch.randint(length - overlap, (), generator=generator))


def anchored_windows(num_frames: int, length: int, overlap: int) -> Windows:
    """[0, i + 1 … i + L - 1] for i = 0, L - o, …: frame 0 is in every window (StableAnimator, MimicMotion), weighted by `triangular_weights`.

    In MimicMotion frame 0 is the reference's own pose, put before the driving ones and taken out afterwards; then no real
    frame sits at the lowest weight. The public code has no window for a clip shorter than L: here that is one of its own length.
    Neighbours share the anchor and o - 1 other frames.
    """
    _check_overlap(length, overlap)
    if num_frames <= length:
        return [list(range(num_frames))]
    if overlap == 0 or length == 1:
        raise ValueError(f"length={length}, overlap={overlap}: the anchor takes one of the shared frames; use an overlap of at least 1")
    last = num_frames - length
    starts = sorted({*range(0, last, length - overlap), last})
    return [[0, *range(start + 1, start + length)] for start in starts]


def _check_overlap(length: int, overlap: int) -> None:
    if not 0 <= overlap < length:
        raise ValueError(f"overlap={overlap} must be at least 0 and smaller than length={length}")


def flat_weights(length: int) -> Tensor:
    """[S] equal weights: the mean over windows."""
    return torch.ones(length)


def gaussian_weights(length: int, sigma: float = 4.0) -> Tensor:
    """[S] g(j) = exp(-(j - c)^2 / 2 sigma^2) around the centre c = (L - 1) / 2 (HFCA Sec. 3.4); `fuse_windows` normalises them.

    The paper gives neither sigma nor the normalisation. With L = 24 and sigma = 4 the later window of a 4-frame overlap
    takes over with shares .133, .349, .651, .867.
    """
    if not sigma > 0:
        raise ValueError(f"sigma={sigma} frames must be positive")
    slots = torch.arange(length, dtype=torch.float64) - (length - 1) / 2
    # far slots of a long window would underflow to 0 and leave a frame without any window
    return torch.exp(-slots.square() / (2 * sigma**2)).clamp(min=1e-30).float()


def triangular_weights(length: int) -> Tensor:
    """[S] w_j = min(u_j, 2 - u_j), u_j = 2 (j + 1/2) / L (MimicMotion)."""
    u = 2 * (torch.arange(length) + 0.5) / length
    return torch.minimum(u, 2 - u)


def fuse_windows(predictions: Iterable[tuple[list[int], Tensor]], weights: Tensor, like: Tensor) -> Tensor:
    """Fuse overlapping window predictions into one prediction per frame, as they come: no more than one window's is held.

        x[f] = sum_w g(f - start_w) x_w[f] / sum_w g(f - start_w)

    predictions: (clip frames of the slots, [S, ...]) of each window
    weights:     [S] g, from `flat_weights`, `gaussian_weights` or `triangular_weights`
    like:        [F, ...] of the clip: shape, type and device
    returns      [F, ...]; ValueError when a frame is in no window.
    """
    fused, total = torch.zeros_like(like, memory_format=torch.contiguous_format), like.new_zeros(len(like))
    shape = (slice(None),) + (None,) * (like.ndim - 1)
    for window, prediction in predictions:
        frames, weight = torch.tensor(window, device=like.device), weights.to(like)
        total.index_put_((frames,), weight, accumulate=True)
        fused.index_put_((frames,), prediction.to(like) * weight[shape], accumulate=True)
    if (total == 0).any():
        raise ValueError(f"frames {(total == 0).nonzero().flatten().tolist()} are in no window; increase the overlap")
    return fused.div_(total[shape])
