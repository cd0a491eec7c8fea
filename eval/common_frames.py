"""What two methods' values of one clip are compared on: the frames that both count. One may miss a face that the other shows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class CommonFrames:
    """Sums of a metric over the frames of a clip that both methods count."""

    mine: float
    theirs: float
    frames: int

    @property
    def difference(self) -> float:
        """Mean over these frames of mine - theirs."""
        return self.mine / self.frames - self.theirs / self.frames


def common_frames(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> CommonFrames | None:
    """Of two rows of `scores` of one clip and metric. None where no frame counts for both, or the true clips differ.

    Rows without values of each frame are compared where they count equally many.
    """
    if mine["truth_sha256"] != theirs["truth_sha256"]:
        return None
    ours, others = mine.get("per_frame"), theirs.get("per_frame")
    if ours is None or others is None or len(ours) != len(others):
        return CommonFrames(mine["sum"], theirs["sum"], mine["count"]) if mine["count"] == theirs["count"] else None
    found = [(one, other) for one, other in zip(ours, others, strict=True) if one is not None and other is not None]
    return CommonFrames(math.fsum(one for one, _ in found), math.fsum(other for _, other in found), len(found)) if found else None
