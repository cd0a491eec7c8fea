"""LPIPS (Zhang et al. 2018, Eq. 1): distance of two frames in the feature space of a network.

Which network, and what range it is fed, is the protocol's: `lpips_vgg` is torchmetrics' network, `standin_lpips` the demo's
small one of the same form. The networks are in pipelines/extractors/lpips.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from eval.metrics.metric import Metric, PerFrame

if TYPE_CHECKING:
    from eval.sides import Sides


def lpips(sides: Sides) -> PerFrame:
    """[T] distance of each counted frame from the truth (or, where the protocol says so, from the reference frame); >= 0, lower is better.

    Raises ValueError when the network gives NaN.
    """
    values = sides.lpips["frame"]
    if not np.isfinite(values[sides.counted]).all() and sides.lpips_against == "truth":
        raise ValueError("the LPIPS network gave values that are not finite")
    return values


LPIPS = Metric(
    id="lpips",
    title="LPIPS",
    better="down",
    low=0.0,
    high=float("inf"),
    unit="",
    kind="clip",
    digits=4,
    tolerance=1e-5,
    role="lpips",
    measure=lpips,
    summary="distance of the frames as a network sees them; 0 means equal",
)
