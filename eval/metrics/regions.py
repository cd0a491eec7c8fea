"""L1, PSNR, SSIM and LPIPS of a part of the frame: face, hands, background. What a mean over the whole frame hides.

Where the parts are is said by the true clip's rows in the lake (`faces`, `hands`, `body_masks`). A frame without the part has no value.
    L1, PSNR: over the pixels of the part.  SSIM: mean of the map's windows whose centre lies in the part.  LPIPS: pipelines/extractors/lpips.py
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from eval.metrics.l1 import L1
from eval.metrics.lpips import LPIPS
from eval.metrics.metric import Metric, PerFrame
from eval.metrics.psnr import PSNR, decibels
from eval.metrics.ssim import SSIM

if TYPE_CHECKING:
    from eval.sides import Sides

Region = Literal["face", "hands", "background"]
_WORDS = {"face": "the face", "hands": "the hands", "background": "the background"}


def _l1(sides: Sides, region: Region) -> PerFrame:
    absolute, _, pixels = sides.errors[region].T
    return np.divide(absolute, 255 * 3 * pixels, out=np.full(len(pixels), np.nan), where=pixels > 0)


def _psnr(sides: Sides, region: Region) -> PerFrame:
    _, squared, pixels = sides.errors[region].T
    there = np.flatnonzero(pixels)
    values = [float(decibels(squared[t : t + 1].astype(np.float64), 3 * int(pixels[t]))[0]) for t in there]
    return sides.scattered(values, there.tolist())


def _ssim(sides: Sides, region: Region) -> PerFrame:
    return sides.ssim[region]


def _lpips(sides: Sides, region: Region) -> PerFrame:
    return sides.lpips[region]


def _regional(metric: Metric, measure: Callable[[Sides, Region], PerFrame], region: Region) -> Metric:
    return replace(
        metric,
        id=f"{metric.id}_{region}",
        title=f"{metric.title} {region}",
        kind="clip",
        group="regions",
        region=region,
        per_frame=None,
        measure=lambda sides: measure(sides, region),
        summary=f"{metric.title} of {_WORDS[region]} only",
    )


_REGIONS: tuple[Region, ...] = ("face", "hands", "background")
REGIONAL = tuple(
    _regional(metric, measure, region)
    for region in _REGIONS
    for metric, measure in ((L1, _l1), (PSNR, _psnr), (SSIM, _ssim), (LPIPS, _lpips))
)
