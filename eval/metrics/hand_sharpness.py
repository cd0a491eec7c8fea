"""Sharpness of the hands, generated against true: variance of the Laplacian in the hand's box (pipelines/extractors/hands.py).

ratio = sharpness generated / sharpness true       1: as sharp; under 1: blurred; noise is above 1, so it judges nobody
agreement = min / max of the two                   1: the same motion blur in this frame
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from eval.metrics.metric import Metric, PerFrame
from pipelines.extractors.hands import sharpness

if TYPE_CHECKING:
    from eval.sides import Sides


def hand_sharpness(sides: Sides) -> PerFrame:
    """[T] ratio of the mean sharpness over the frame's hands; no value without a hand, or where the true hands are flat."""
    return _from_both(sides, lambda generated, true: generated / true)


def blur_agreement(sides: Sides) -> PerFrame:
    """[T] 0 to 1."""
    return _from_both(sides, lambda generated, true: min(generated, true) / max(generated, true))


def _from_both(sides: Sides, combine: Callable[[float, float], float]) -> PerFrame:
    values, frames = [], []
    for t in sides.counted:
        boxes = sides.hand_boxes[t]
        generated, true = (sum(sharpness(side[t], box)[0] for box in boxes) for side in (sides.prediction, sides.truth))
        if boxes and true > 0:
            values.append(combine(generated, true))
            frames.append(t)
    return sides.scattered(values, frames)


HAND_SHARPNESS = Metric(
    id="hand_sharpness",
    title="Hand sharpness",
    better="up",
    low=0.0,
    high=float("inf"),
    unit="",
    kind="clip",
    digits=3,
    tolerance=1e-9,
    group="time",
    judges=False,
    region="hands",
    measure=hand_sharpness,
    summary="sharpness of the generated hands over that of the true ones; 1 is as sharp, noise is above it",
)
BLUR_AGREEMENT = replace(
    HAND_SHARPNESS,
    id="blur_agreement",
    title="Blur agreement",
    high=1.0,
    judges=True,
    measure=blur_agreement,
    summary="how equal the sharpness of generated and true hands is, frame by frame; 1 means the same motion blur",
)
