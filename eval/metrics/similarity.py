"""Cosines of embeddings: identity (CSIM), look (CLIP-I), and from frame to frame (frame consistency).

CSIM: face of the generated frame against the face of the reference frame (StableAnimator; ArcFace, Deng et al. 2019). Frames without a face in
either have no value; how many have one is the column's `frames`.
CLIP-I: CLIP image embeddings of generated frame and reference (IP-Adapter, Ye et al. 2023).
Frame consistency: CLIP image embeddings of neighbouring generated frames (Gen-1, Esser et al. 2023), times 100 as papers print it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from eval.metrics.metric import Metric, PerFrame

if TYPE_CHECKING:
    from eval.sides import Sides


def cosines(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> PerFrame:
    """[N] cosine of the rows of two [N, D] arrays; NaN where a row is NaN or 0."""
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.where(lengths > 0, np.sum(a * b, axis=1) / np.where(lengths > 0, lengths, 1), np.nan)


def _to_reference(sides: Sides, role: str) -> PerFrame:
    if sides.reference_frame is None:
        return sides.scattered([], [])
    generated, reference = (sides.feature_list(role, side, frames) for side, frames in _both(sides, sides.reference_frame))
    if not generated.shape[1] or not reference.shape[1]:
        return sides.scattered([], [])
    return sides.scattered(cosines(generated, np.broadcast_to(reference, generated.shape)))


def _both(sides: Sides, reference: int) -> Sequence[tuple[str, list[int]]]:
    return (("prediction", sides.counted), ("truth", [reference]))


def _from_frame_to_frame(sides: Sides) -> PerFrame:
    first, second = (sides.feature_list("consistency", "prediction", [t + step for t in sides.pairs]) for step in (0, 1))
    return sides.scattered(100 * cosines(first, second), sides.pairs)


CSIM = Metric(
    id="csim",
    title="CSIM",
    better="up",
    low=-1.0,
    high=1.0,
    unit="",
    kind="clip",
    digits=3,
    tolerance=1e-4,
    group="people",
    role="face",
    truth="reference",
    measure=partial(_to_reference, role="face"),
    summary="how much the generated face is the reference's, to a face recogniser; frames without a face are left out",
)
CSIM_SECOND = replace(
    CSIM,
    id="csim_second",
    title="CSIM (second)",
    role="face_second",
    measure=partial(_to_reference, role="face_second"),
    summary="the same to a second, smaller recogniser: another scale, never to be compared with CSIM",
)
CLIP_I = replace(
    CSIM,
    id="clip_i",
    title="CLIP-I",
    role="clip",
    measure=partial(_to_reference, role="clip"),
    summary="how much the generated frame looks like the reference, to CLIP",
)
FRAME_CONSISTENCY = replace(
    CSIM,
    id="frame_consistency",
    title="Frame consistency",
    low=-100.0,
    high=100.0,
    digits=2,
    group="time",
    role="consistency",
    truth="none",
    measure=_from_frame_to_frame,
    summary="how alike neighbouring generated frames are to CLIP, times 100; a still picture has 100",
)
