"""LPIPS (Zhang et al. 2018, Eq. 1): distance of two frames in the feature space of a network.

Which network, and what range it is fed, is the protocol's: `lpips_vgg` is torchmetrics' network, `standin_lpips` the demo's
small one of the same form. The networks are in pipelines/extractors/lpips.py.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from eval.metrics.metric import Metric, PerFrame, check_pair
from pipelines.clip import Frames

Distance = Callable[[Frames, Frames], PerFrame]

LPIPS = Metric(
    id="lpips",
    title="LPIPS",
    better="down",
    low=0.0,
    high=float("inf"),
    unit="",
    kind="network",
    digits=4,
    tolerance=1e-5,
    summary="distance of the frames as a network sees them; 0 means equal",
)


def lpips(distance: Distance, prediction: Frames, truth: Frames) -> PerFrame:
    """[T] distance of each frame pair; uint8 [T, H, W, 3]; >= 0, lower is better. ValueError when the network gives NaN."""
    check_pair(prediction, truth)
    values = np.asarray(distance(prediction, truth), dtype=np.float64)
    if values.shape != (len(truth),) or not np.isfinite(values).all():
        raise ValueError(f"the LPIPS network gave {values.shape} values, not {len(truth)} finite ones")
    return values
