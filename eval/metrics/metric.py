"""What a column of a table is: its direction, range and unit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from pipelines.clip import Frames

PerFrame = npt.NDArray[np.float64]
"""[T] one value per frame."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One column. `kind` says where its numbers come from:

    paired:  arithmetic on a generated and a true frame (`per_frame`), summed per clip
    network: a paired network's distance of two frames, summed per clip
    set:     a distance of two sets of feature rows; has no value per clip
    """

    id: str
    title: str  # column head
    better: Literal["down", "up"]
    low: float  # the values' range
    high: float
    unit: str
    kind: Literal["paired", "network", "set"]
    summary: str  # one plain sentence for the report
    digits: int  # decimals shown in tables
    tolerance: float  # relative change of a re-computed value that is only rounding; 0 = exact
    group: Literal["frames", "people", "regions", "time"] = "frames"  # tables show one group at a time; "frames" is the main table
    judges: bool = True  # False: shown, but says nothing about who is better
    per_frame: Callable[[Frames, Frames], PerFrame] | None = None

    def __post_init__(self) -> None:
        if (self.kind == "paired") != (self.per_frame is not None):
            raise ValueError(f"{self.id}: exactly the paired metrics have per_frame")


def check_pair(prediction: Frames, truth: Frames) -> None:
    """Raise ValueError unless both are uint8 [T, H, W, 3] of one shape, T >= 1."""
    for name, frames in (("prediction", prediction), ("truth", truth)):
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or len(frames) == 0:
            raise ValueError(f"{name} must be uint8 [T, H, W, 3] with T >= 1, got {frames.dtype} {frames.shape}")
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction {prediction.shape} and truth {truth.shape} must have one shape")
