"""Every method by name. A method trains its stages one after the other and then makes clips; some have no stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from models.clip_dataset import Points, TrainingClip
from models.training_loop import StepRecord
from pipelines.clip import Frames
from pipelines.errors import UserError


class Animator(Protocol):
    """A loaded model that makes clips of one size."""

    size: tuple[int, int] | None
    """Height and width of what it makes; None = the source's own."""
    sampler: Mapping[str, Any]
    """Settings that belong to a prediction's identity."""

    def __call__(self, reference: Frames, reference_pose: tuple[Points, Points], driving: tuple[Points, Points], seed: int) -> Frames:
        """reference [H, W, 3] and poses in its pixels -> uint8 [T, H, W, 3]."""
        ...


class Method(Protocol):
    """What a method offers. `stages` is empty for methods that do not train."""

    stages: tuple[str, ...]
    default_variant: str
    sampling_code: tuple[str, ...]
    """Source files that turn a checkpoint into clips, relative to the project."""

    def config(self, variant: str) -> dict[str, Any]:
        """All settings of a variant, as plain values."""
        ...

    def weights_digest(self, variant: str) -> str:
        """Digest of the pretrained files that training reads; "" where there are none. Raises MissingWeightsError."""
        ...

    def train(
        self,
        stage: str,
        *,
        variant: str,
        clips: Sequence[TrainingClip],
        parent: Path | None,
        out: Path,
        seed: int,
        identity: dict[str, str],
        on_record: Callable[[StepRecord], None] | None = None,
    ) -> list[StepRecord]:
        """Train one stage into the folder `out`; resumes what was cut off."""
        ...

    def load(self, variant: str, checkpoint: Path | None) -> Animator:
        """A model ready to make clips."""
        ...


def methods() -> dict[str, Method]:
    """Every method by name (loads torch and diffusers)."""
    from models.animate_anyone.method import AnimateAnyoneMethod
    from models.baselines.copy_reference import CopyReferenceMethod

    return {"animate_anyone": AnimateAnyoneMethod(), "copy_reference": CopyReferenceMethod()}


def method_named(name: str) -> Method:
    """One method; UserError lists what there is."""
    known = methods()
    if name not in known:
        raise UserError(f"no method {name!r}; there are: {', '.join(sorted(known))}")
    return known[name]
