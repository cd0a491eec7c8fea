"""SSIM as DisCo computes it (Wang et al. 2004, Eq. 13; scikit-image's defaults on 8-bit gray).

7x7 uniform window, sample covariance (49/48), K1 = 0.01, K2 = 0.03, data range 255, mean over the map without its 3-pixel border.
All window sums are exact 32-bit integers, so the only rounding is in the final quotient.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from eval.metrics.metric import Metric, PerFrame, check_pair
from pipelines.clip import Frames

_WINDOW = 7
EDGE = _WINDOW // 2  # px that the map leaves out on each side
_N = _WINDOW * _WINDOW
_C1 = (0.01 * 255) ** 2
_C2 = (0.03 * 255) ** 2

Gray = npt.NDArray[np.uint8]
Sums = npt.NDArray[np.int32]


def gray(frame: npt.NDArray[np.uint8]) -> Gray:
    """[H, W] 8-bit gray of an RGB frame with OpenCV's 15-bit constants, independent of OpenCV's version."""
    r, g, b = (frame[..., channel].astype(np.int32) for channel in range(3))
    return np.asarray((9798 * r + 19235 * g + 3735 * b + 16384) >> 15, dtype=np.uint8)


def ssim(prediction: Frames, truth: Frames) -> PerFrame:
    """[T] SSIM; uint8 [T, H, W, 3] pairs of at least 7x7; -1 to 1, 1 when equal."""
    check_pair(prediction, truth)
    if min(truth.shape[1:3]) < _WINDOW:
        raise ValueError(f"SSIM needs frames of at least {_WINDOW}x{_WINDOW} pixels, got {truth.shape[1]}x{truth.shape[2]}")
    return np.array([float(np.mean(ssim_map(gray(p), gray(t)))) for p, t in zip(prediction, truth, strict=True)])


def _box_sums(values: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> Sums:
    """Sums over every window that lies inside the frame: [H - 6, W - 6], exact."""
    sums = cv2.boxFilter(values, cv2.CV_32S, (_WINDOW, _WINDOW), normalize=False)
    return np.asarray(sums[EDGE:-EDGE, EDGE:-EDGE], dtype=np.int32)


def ssim_map(x: Gray, y: Gray) -> npt.NDArray[np.float64]:
    """[H - 6, W - 6] SSIM of every window that lies inside two gray frames; its mean is the frame's SSIM."""
    x16, y16 = x.astype(np.uint16), y.astype(np.uint16)  # 255^2 fits in 16 bits
    sx, sy = _box_sums(x), _box_sums(y)
    squares, product = _box_sums(x16 * x16) + _box_sums(y16 * y16), _box_sums(x16 * y16)
    means, cross = sx * sx + sy * sy, sx * sy  # at most 312,250,050: fits in 31 bits
    luminance = (2 * cross + _C1 * _N**2) / (means + _C1 * _N**2)
    # Variances times 49 * 48 are integers too: 49 sum(x^2) - (sum x)^2.
    structure = (2 * (_N * product - cross) + _C2 * _N * (_N - 1)) / (_N * squares - means + _C2 * _N * (_N - 1))
    return np.asarray(luminance * structure)


SSIM = Metric(
    id="ssim",
    title="SSIM",
    better="up",
    low=-1.0,
    high=1.0,
    unit="",
    kind="paired",
    digits=4,
    tolerance=0.0,
    per_frame=ssim,
    measure=lambda sides: sides.ssim["frame"],
    summary="structural similarity of the gray images; 1 means equal",
)
