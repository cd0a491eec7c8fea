"""The floor: every generated frame is the reference frame. A method that does not beat it has learnt nothing of motion."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from models.animator import Driving, Reference
from models.signals import SignalName
from models.training_loop import StepRecord
from pipelines.clip import Frames
from pipelines.errors import UserError

_AT_ONCE = 8  # frames of a piece


def copy_reference(reference: Frames, frames: int) -> Frames:
    """[H, W, 3] -> [T, H, W, 3] copies."""
    return np.repeat(reference[None], frames, axis=0)


class _CopyReference:
    def __init__(self) -> None:
        self.size: tuple[int, int] | None = None
        self.sampler: Mapping[str, Any] = {}

    def __call__(self, reference: Reference, driving: Driving, seed: int) -> Frames:
        return copy_reference(reference.image, len(driving.points))

    def in_pieces(self, reference: Reference, driving: Driving, seed: int, advance: Callable[[], None] | None = None) -> Iterator[Frames]:
        for start in range(0, len(driving.points), _AT_ONCE):
            yield copy_reference(reference.image, min(_AT_ONCE, len(driving.points) - start))
        if advance is not None:
            advance()


class CopyReferenceMethod:
    """The method protocol for `copy_reference`: nothing to train, one variant."""

    default_variant = "default"
    variants: Mapping[str, Any] = {"default": {}}
    needs: tuple[SignalName, ...] = ()
    sampling_code: tuple[str, ...] = ("models/baselines/copy_reference.py",)
    training_code: tuple[str, ...] = ()

    def config(self, variant: str) -> dict[str, Any]:
        """No settings. Raises UserError for another variant than `default`."""
        if variant not in self.variants:
            raise UserError(f"copy_reference has no variant {variant!r}; it has: {self.default_variant}")
        return {}

    def stages_of(self, variant: str) -> tuple[str, ...]:
        """None."""
        self.config(variant)
        return ()

    def stage_config(self, variant: str, stage: str) -> dict[str, Any]:
        """Raises UserError: there is no stage."""
        raise UserError(f"copy_reference has no stage {stage!r}: it has nothing to train")

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
