"""The floor: every generated frame is the reference frame. A method that does not beat it has learnt nothing of motion."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from models.clip_dataset import Points
from models.training_loop import StepRecord
from pipelines.clip import Frames
from pipelines.errors import UserError


def copy_reference(reference: Frames, frames: int) -> Frames:
    """[H, W, 3] -> [T, H, W, 3] copies."""
    return np.repeat(reference[None], frames, axis=0)


class _CopyReference:
    def __init__(self) -> None:
        self.size: tuple[int, int] | None = None
        self.sampler: Mapping[str, Any] = {}

    def __call__(self, reference: Frames, reference_pose: tuple[Points, Points], driving: tuple[Points, Points], seed: int) -> Frames:
        return copy_reference(reference, len(driving[0]))


class CopyReferenceMethod:
    """The method protocol for `copy_reference`: nothing to train, one variant."""

    stages: tuple[str, ...] = ()
    default_variant = "default"
    sampling_code: tuple[str, ...] = ("models/baselines/copy_reference.py",)

    def config(self, variant: str) -> dict[str, Any]:
        """No settings. Raises UserError for another variant than `default`."""
        if variant != self.default_variant:
            raise UserError(f"copy_reference has no variant {variant!r}; it has: {self.default_variant}")
        return {}

    def weights_digest(self, variant: str) -> str:
        """No files."""
        return ""

    def train(self, stage: str, **_: Any) -> list[StepRecord]:
        """Raises UserError: there is nothing to train."""
        raise UserError(f"copy_reference has no stage {stage!r}: it has nothing to train")

    def load(self, variant: str, checkpoint: Path | None) -> _CopyReference:
        """The copier. Raises UserError for an unknown variant."""
        self.config(variant)
        return _CopyReference()
