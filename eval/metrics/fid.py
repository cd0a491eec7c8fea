"""FID: Frechet distance between the features of all generated frames and of all true frames (Heusel et al. 2017, Eq. 6).

Frames of all clips of a split are pooled; one distance per method, none per clip. Both sides hold the same frames.
"""

from __future__ import annotations

import numpy.typing as npt

from eval.frechet import frechet_distance_of_rows
from eval.metrics.metric import Metric

FID = Metric(
    id="fid",
    title="FID",
    better="down",
    low=0.0,
    high=float("inf"),
    unit="",
    kind="set",
    digits=2,
    tolerance=1e-3,
    role="fid",
    summary="how far the set of generated frames is from the set of true frames",
)


def fid(prediction: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Frechet distance of frame features [N, D] and [M, D]; N, M >= 2; >= 0, lower is better."""
    return frechet_distance_of_rows(prediction, truth)
