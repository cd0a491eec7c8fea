"""Is the person where the driving pose says, and the same person? Key points and identity of the generated frame against the true one.

pose_error: mean distance of body joints that are seen in both, in percent of the true body's height (ours)
akd, mkr, aed: MRAA's (Siarohin et al. 2021, pose-evaluation): average key point distance, missing key point rate, average (squared)
Euclidean distance of identity features
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from eval.metrics.metric import Metric, PerFrame

if TYPE_CHECKING:
    from eval.sides import Sides

Points = npt.NDArray[np.float64]
"""[T, joints, 3]: x px, y px, score (or 1 present, 0 missing)."""

_BODY = 23  # COCO-WholeBody: 17 body joints, 6 feet
_SEEN = 0.3


def pose_error(sides: Sides) -> PerFrame:
    """[T] percent of the body's height, >= 0; no value in a frame without a common joint."""
    generated, true = _points(sides, "pose")
    frames, values = [], []
    for t, p, q in zip(sides.counted, generated[:, :_BODY], true[:, :_BODY], strict=True):
        seen = q[:, 2] >= _SEEN
        both = seen & (p[:, 2] >= _SEEN)
        height = float(np.ptp(q[seen, 1])) if seen.any() else 0.0
        if both.any() and height > 0:
            frames.append(t)
            values.append(100 * float(np.hypot(*(p[both, :2] - q[both, :2]).T).mean()) / height)
    return sides.scattered(values, frames)


def akd(sides: Sides) -> PerFrame:
    """[T] px: mean of |dx| and |dy|, averaged together, over joints present in both (no Euclidean distance, as in their code)."""
    generated, true = _points(sides, "akd_pose")
    both = (generated[..., 2] > 0) & (true[..., 2] > 0)
    frames = [i for i in range(len(both)) if both[i].any()]
    values = [float(np.abs(generated[i, both[i], :2] - true[i, both[i], :2]).mean()) for i in frames]
    return sides.scattered(values, [sides.counted[i] for i in frames])


def mkr(sides: Sides) -> PerFrame:
    """[T] 0 to 1: share of the true frame's joints that are missing in the generated one."""
    generated, true = _points(sides, "akd_pose")
    there = true[..., 2] > 0
    frames = [i for i in range(len(there)) if there[i].any()]
    values = [float((generated[i, there[i], 2] <= 0).mean()) for i in frames]
    return sides.scattered(values, [sides.counted[i] for i in frames])


def aed(sides: Sides) -> PerFrame:
    """[T] squared L2 distance of the identity features, >= 0 (squared, as in their code)."""
    generated, true = (sides.feature_list("person_reid", side, sides.counted) for side in ("prediction", "truth"))
    return sides.scattered(np.sum((generated - true) ** 2, axis=1))


def _points(sides: Sides, role: str) -> tuple[Points, Points]:
    """Where nobody was found all scores are 0."""
    flat = [sides.feature_list(role, side, sides.counted) for side in ("prediction", "truth")]
    width = max(side.shape[1] for side in flat)
    full = [side if side.shape[1] else np.full((len(side), width), np.nan) for side in flat]
    return tuple(np.nan_to_num(side).reshape(len(side), -1, 3) for side in full)  # type: ignore[return-value]  # two sides


POSE_ERROR = Metric(
    id="pose_error",
    title="Pose error",
    better="down",
    low=0.0,
    high=float("inf"),
    unit="% of height",
    kind="clip",
    digits=2,
    tolerance=1e-3,
    group="people",
    role="pose",
    truth="counted",
    measure=pose_error,
    summary="distance of the generated body's joints from the driving pose, in percent of the body's height",
)
AKD = replace(
    POSE_ERROR,
    id="akd",
    title="AKD",
    unit="px",
    role="akd_pose",
    measure=akd,
    summary="average key point distance, in pixels, as MRAA measures it",
)
MKR = replace(
    AKD, id="mkr", title="MKR", unit="", high=1.0, digits=3, measure=mkr, summary="share of the key points that the generated frame misses"
)
AED = replace(
    AKD,
    id="aed",
    title="AED",
    unit="",
    digits=3,
    role="person_reid",
    measure=aed,
    summary="distance of the persons to a re-identification network",
)
