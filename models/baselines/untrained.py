"""The method protocol for baselines that learn nothing: one variant, no stage, no weights."""

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

AT_ONCE = 8  # frames of a piece

Making = Callable[[Reference, Driving], Iterator[Frames]]
"""(reference, driving) -> the clip in order, uint8 [<= 8, H, W, 3] at a time."""


class UntrainedAnimator:
    """Clips of the reference's own size, by a function."""

    def __init__(self, making: Making) -> None:
        self.size: tuple[int, int] | None = None
        self.sampler: Mapping[str, Any] = {}
        self._making = making

    def __call__(self, reference: Reference, driving: Driving, seed: int) -> Frames:
        return np.concatenate(list(self._making(reference, driving)))

    def in_pieces(self, reference: Reference, driving: Driving, seed: int, advance: Callable[[], None] | None = None) -> Iterator[Frames]:
        yield from self._making(reference, driving)
        if advance is not None:
            advance()


class UntrainedMethod:
    """What subclasses name: `name`, `making` (a staticmethod) and `sampling_code`."""

    name: str
    making: Making
    default_variant = "default"
    variants: Mapping[str, Any] = {"default": {}}
    needs: tuple[SignalName, ...] = ()
    sampling_code: tuple[str, ...] = ()
    training_code: tuple[str, ...] = ()

    def config(self, variant: str) -> dict[str, Any]:
        """No settings. Raises UserError for another variant than `default`."""
        if variant not in self.variants:
            raise UserError(f"{self.name} has no variant {variant!r}; it has: {self.default_variant}")
        return {}

    def stages_of(self, variant: str) -> tuple[str, ...]:
        """None."""
        self.config(variant)
        return ()

    def stage_config(self, variant: str, stage: str) -> dict[str, Any]:
        """Raises UserError: there is no stage."""
        raise UserError(f"{self.name} has no stage {stage!r}: it has nothing to train")

    def weights_digest(self, variant: str) -> str:
        """No files."""
        return ""

    def train(self, stage: str, **_: Any) -> list[StepRecord]:
        """Raises UserError: there is nothing to train."""
        raise UserError(f"{self.name} has no stage {stage!r}: it has nothing to train")

    def load(self, variant: str, checkpoint: Path | None) -> UntrainedAnimator:
        """The animator. Raises UserError for an unknown variant."""
        self.config(variant)
        return UntrainedAnimator(self.making)
