"""METRICS: every column that a table can have, in the order of the tables."""

from __future__ import annotations

from eval.metrics.fid import FID
from eval.metrics.fid_vid import FID_VID
from eval.metrics.flicker import FLICKER, FLICKER_BACKGROUND, FLICKER_OWN, FLICKER_STILL
from eval.metrics.fvd import FVD
from eval.metrics.hand_sharpness import BLUR_AGREEMENT, HAND_SHARPNESS
from eval.metrics.l1 import L1
from eval.metrics.lpips import LPIPS
from eval.metrics.metric import Metric
from eval.metrics.pose import AED, AKD, MKR, POSE_ERROR
from eval.metrics.psnr import PSNR
from eval.metrics.psnr_overflow import PSNR_OVERFLOW
from eval.metrics.regions import REGIONAL
from eval.metrics.similarity import CLIP_I, CSIM, CSIM_SECOND, FRAME_CONSISTENCY
from eval.metrics.ssim import SSIM
from eval.metrics.warping_error import WARPING_ERROR

METRICS: dict[str, Metric] = {
    metric.id: metric
    for metric in (
        L1, PSNR, PSNR_OVERFLOW, SSIM, LPIPS, FID, FID_VID, FVD, CSIM, CSIM_SECOND, CLIP_I, POSE_ERROR, AKD, MKR, AED, *REGIONAL,
        FRAME_CONSISTENCY, WARPING_ERROR, FLICKER, FLICKER_BACKGROUND, FLICKER_STILL, FLICKER_OWN, HAND_SHARPNESS, BLUR_AGREEMENT,
    )
}  # fmt: skip
