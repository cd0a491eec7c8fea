"""What a column of a table is: its direction, range and unit, and how a clip gets a value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from pipelines.clip import Frames

if TYPE_CHECKING:
    from eval.sides import Sides

PerFrame = npt.NDArray[np.float64]
"""[T] one value per frame."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One column. `kind` says where its numbers come from:

    paired: arithmetic on a generated and a true frame (`per_frame`), summed per clip
    clip:   anything else that has values per frame of a clip (`measure`): networks, regions, neighbouring frames
    set:    a distance of two sets of feature rows; has no value per clip
    """

    id: str
    title: str  # column head
    better: Literal["down", "up"]
    low: float  # the values' range
    high: float
    unit: str
    kind: Literal["paired", "clip", "set"]
    summary: str  # one plain sentence for the report
    digits: int  # decimals shown in tables
    tolerance: float  # relative change of a re-computed value that is only rounding; 0 = exact
    group: Literal["frames", "people", "regions", "time"] = "frames"  # tables show one group at a time; "frames" is the main table
    judges: bool = True  # False: shown, but says nothing about who is better
    role: str | None = None  # of the protocol's network whose output this is made of
    truth: Literal["none", "reference", "counted"] = "none"  # true frames whose features it needs, where `role` makes features
    region: Literal["face", "hands", "background"] | None = None  # part of the true clip that must be known
    per_frame: Callable[[Frames, Frames], PerFrame] | None = None
    measure: Callable[[Sides], PerFrame] | None = None

    def __post_init__(self) -> None:
        if (self.kind == "paired") != (self.per_frame is not None) or (self.kind == "clip" and self.measure is None):
            raise ValueError(f"{self.id}: exactly the paired metrics have per_frame, and the clip metrics have measure")

    def values(self, sides: Sides) -> PerFrame:
        """[T] over all frames of the clip; NaN where a frame has no value (it does not count, or shows no face, hand, person)."""
        if self.measure is not None:
            return self.measure(sides)
        if self.per_frame is None:
            raise ValueError(f"{self.id} has no value per clip")
        return sides.scattered(self.per_frame(*sides.counted_frames))


def check_pair(prediction: Frames, truth: Frames) -> None:
    """Raise ValueError unless both are uint8 [T, H, W, 3] of one shape, T >= 1."""
    for name, frames in (("prediction", prediction), ("truth", truth)):
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or len(frames) == 0:
            raise ValueError(f"{name} must be uint8 [T, H, W, 3] with T >= 1, got {frames.dtype} {frames.shape}")
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction {prediction.shape} and truth {truth.shape} must have one shape")
