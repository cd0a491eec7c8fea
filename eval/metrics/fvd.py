"""FVD: Frechet distance between the features of windows of generated and of true video (Unterthiner et al. 2018, Eq. 1).

Windows of all clips of a split are pooled; their length and stride are the protocol's.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from eval.frechet import frechet_distance_of_rows
from eval.metrics.metric import Metric
from pipelines.clip import Frames

FVD = Metric(
    id="fvd",
    title="FVD",
    better="down",
    low=0.0,
    high=float("inf"),
    unit="",
    kind="set",
    digits=2,
    tolerance=1e-3,
    role="fvd",
    summary="how far the set of generated video windows is from the set of true ones",
)


def fvd(prediction: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Frechet distance of window features [N, D] and [M, D]; N, M >= 2; >= 0, lower is better."""
    return frechet_distance_of_rows(prediction, truth)


def cut_windows(frames: Frames, starts: list[int], length: int) -> Frames:
    """[N, length, H, W, 3] windows of [T, H, W, 3] that begin at `starts`; where these are evenly spaced a read-only view, as overlapping copies of a
    long clip would not fit into memory.
    """
    if starts and (min(starts) < 0 or max(starts) + length > len(frames)):
        raise ValueError(f"windows of {length} frames from {min(starts)} to {max(starts)} do not fit into {len(frames)} frames")
    if not starts:
        return np.empty((0, length, *frames.shape[1:]), np.uint8)
    step = starts[1] - starts[0] if len(starts) > 1 else 1
    if starts == list(range(starts[0], starts[-1] + 1, step)):
        windows = np.moveaxis(np.lib.stride_tricks.sliding_window_view(frames, length, axis=0), -1, 1)
        return windows[starts[0] : starts[-1] + 1 : step]
    return np.stack([frames[start : start + length] for start in starts])
