"""Warping error (EvalCrafter, Liu et al. 2023): does the next frame, warped back by the optical flow, equal this one?

    o_t  visible: |b_w + f|^2 <= .01 (|b_w|^2 + |f|^2) + .5  and  |grad f|^2 <= .01 |f|^2 + .002     (Ruder et al. 2016)
    WE_t = sum over visible pixels and 3 channels of (I_{t+1}(x + f) - I_t(x))^2 / number of visible pixels

f is the flow from t to t + 1, b back, b_w(x) = b(x + f); frames are in 0..1. Deviation from their mean of the clips' means: pairs of all
clips count alike, as everywhere here; equal for clips of one length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from eval.metrics.metric import Metric, PerFrame
from pipelines.clip import Frames

if TYPE_CHECKING:
    from eval.sides import Sides

_BATCH = 8  # pairs whose flows are held at a time

Flow = npt.NDArray[np.float32]
Images = npt.NDArray[np.float32]


class FlowFunction(Protocol):
    """A flow network."""

    def both_ways(self, frames: Frames) -> tuple[Flow, Flow]:
        """[N, H, W, 3] uint8 -> [N - 1, 2, h, w] flow (x, y) in px of `images`, from each frame to the next, and back."""
        ...

    def images(self, frames: Frames) -> Images:
        """[N, H, W, 3] uint8 -> [N, 3, h, w] in 0..1: the pictures that the flow moves; a network may see them smaller."""
        ...


def warping_error(sides: Sides) -> PerFrame:
    """[T] at the first frame of each pair; >= 0; no value where nothing is visible."""
    if sides.flow is None:
        raise ValueError("no flow network")
    network = sides.flow()
    values: list[float] = []
    for run in runs(sides.pairs, _BATCH):
        frames = sides.prediction[run.start : run.stop + 1]
        pictures = network.images(frames).transpose(0, 2, 3, 1)
        values += [pair_error(*pair) for pair in zip(pictures[:-1], pictures[1:], *network.both_ways(frames), strict=True)]
    return sides.scattered(values, sides.pairs)


def runs(pairs: Sequence[int], longest: int) -> Iterator[range]:
    """First frames of pairs, ascending, as ranges of consecutive ones of at most so many."""
    start = 0
    for end in range(1, len(pairs) + 1):
        if end == len(pairs) or pairs[end] != pairs[end - 1] + 1 or end - start == longest:
            yield range(pairs[start], pairs[end - 1] + 1)
            start = end


def pair_error(first: Images, second: Images, forward: Flow, backward: Flow) -> float:
    """WE of two pictures [h, w, 3] in 0..1 from their flows [2, h, w]; NaN where no pixel is visible."""
    visible = ~occluded(forward, _warped(backward.transpose(1, 2, 0), forward).transpose(2, 0, 1))
    if not visible.any():
        return float("nan")
    return float(np.sum((_warped(second, forward) - first)[visible] ** 2) / visible.sum())


def occluded(forward: Flow, backward_warped: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """[h, w] pixels that have no match in the next frame, or lie on a motion boundary."""
    size = (forward**2).sum(0)
    mismatch = ((forward + backward_warped) ** 2).sum(0) > 0.01 * ((backward_warped**2).sum(0) + size) + 0.5
    gradient = sum(np.diff(forward, axis=axis, append=forward.take([-1], axis)) ** 2 for axis in (1, 2))
    return np.asarray(mismatch | (np.sum(gradient, axis=0) > 0.01 * size + 0.002))


def _warped(image: Images, flow: Flow) -> npt.NDArray[np.float64]:
    """[h, w, C] sampled bilinearly at x + flow; the border's value outside. Not by OpenCV, which rounds places to 1/32 px."""
    height, width = image.shape[:2]
    rows, columns = np.indices((height, width), dtype=np.float64)
    x, y = np.clip(columns + flow[0], 0, width - 1), np.clip(rows + flow[1], 0, height - 1)
    left, top = np.minimum(x.astype(np.intp), max(0, width - 2)), np.minimum(y.astype(np.intp), max(0, height - 2))
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    fx, fy = (x - left)[..., None], (y - top)[..., None]
    above = image[top, left] * (1 - fx) + image[top, right] * fx
    below = image[bottom, left] * (1 - fx) + image[bottom, right] * fx
    return np.asarray(above * (1 - fy) + below * fy)


WARPING_ERROR = Metric(
    id="warping_error",
    title="Warping error",
    better="down",
    low=0.0,
    high=3.0,
    unit="",
    kind="clip",
    digits=4,
    tolerance=1e-3,
    group="time",
    role="flow",
    measure=warping_error,
    summary="how much the next generated frame, moved back along its optical flow, differs from this one",
)
