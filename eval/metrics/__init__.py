"""METRICS: every column that a table can have, in the order of the tables."""

from __future__ import annotations

from eval.metrics.fid import FID
from eval.metrics.fvd import FVD
from eval.metrics.l1 import L1
from eval.metrics.lpips import LPIPS
from eval.metrics.metric import Metric
from eval.metrics.psnr import PSNR
from eval.metrics.psnr_overflow import PSNR_OVERFLOW
from eval.metrics.ssim import SSIM

METRICS: dict[str, Metric] = {metric.id: metric for metric in (L1, PSNR, PSNR_OVERFLOW, SSIM, LPIPS, FID, FVD)}
