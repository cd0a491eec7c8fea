"""A method that trains nothing: the Method protocol around pretrained networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.animator import Driving, Reference
from models.autoencoders import autoencoder_folder
from models.latents import LatentCodec
from models.on_device import device_at_hand
from models.signals import SignalName
from models.training_loop import StepRecord
from pipelines.clip import Frames
from pipelines.errors import UserError
from pipelines.extractors.person_box import digest_of_lines
from pipelines.weights import digest_of

Pieces = Callable[[Any, LatentCodec, Reference, Driving, int, Callable[[], None] | None], Iterator[Frames]]
"""(config, codec, reference, driving, seed, advance) -> the clip in order, a few frames at a time; it loads its networks once per process."""


class TrainingFreeAnimator:
    """Pretrained networks that make clips. `pieces` may be set to the same function with other options."""

    def __init__(self, config: Any, codec: LatentCodec, pieces: Pieces, weights: str) -> None:
        self.config, self.codec, self.pieces = config, codec, pieces
        self.size: tuple[int, int] | None = config.size
        # No checkpoint says what the clip was made with, so all of it belongs to the prediction's identity.
        self.sampler: Mapping[str, Any] = {**asdict(config), "weights": weights}

    def __call__(self, reference: Reference, driving: Driving, seed: int) -> Frames:
        return np.concatenate(list(self.in_pieces(reference, driving, seed)))

    def in_pieces(self, reference: Reference, driving: Driving, seed: int, advance: Callable[[], None] | None = None) -> Iterator[Frames]:
        """The same clip, a few frames at a time, for driving clips of any length."""
        return self.pieces(self.config, self.codec, reference, driving, seed, advance)


@dataclass(frozen=True, kw_only=True)
class TrainingFreeMethod:
    """weight_files: config -> folders and files of its pretrained networks besides the autoencoder; raises MissingWeightsError."""

    name: str
    variants: Mapping[str, Any]
    default_variant: str
    needs: tuple[SignalName, ...]
    pieces: Pieces
    weight_files: Callable[[Any], list[Path]]
    sampling_code: tuple[str, ...]
    training_code: tuple[str, ...] = ()

    def chosen(self, variant: str) -> Any:
        """The config of a variant. Raises UserError."""
        if variant not in self.variants:
            raise UserError(f"{self.name} has no variant {variant!r}; it has: {', '.join(self.variants)}")
        return self.variants[variant]

    def config(self, variant: str) -> dict[str, Any]:
        """All settings of a variant."""
        return asdict(self.chosen(variant))

    def stages_of(self, variant: str) -> tuple[str, ...]:
        """None: nothing is trained."""
        self.chosen(variant)
        return ()

    def stage_config(self, variant: str, stage: str) -> dict[str, Any]:
        """Raises UserError: there is no stage."""
        raise UserError(f"{self.name} has no stage {stage!r}: it has nothing to train")

    def weights_digest(self, variant: str) -> str:
        """Digest of all pretrained files. Raises MissingWeightsError."""
        config = self.chosen(variant)
        digests = [digest_of(path) for path in (autoencoder_folder(config.autoencoder), *self.weight_files(config))]
        return digests[0] if len(digests) == 1 else digest_of_lines(*digests)

    def train(self, stage: str, **_: Any) -> list[StepRecord]:
        """Raises UserError: there is nothing to train."""
        raise UserError(f"{self.name} has no stage {stage!r}: it has nothing to train")

    def load(self, variant: str, checkpoint: Path | None) -> TrainingFreeAnimator:
        """The variant's animator; its networks, which must be there, are loaded with the first clip. Raises UserError and MissingWeightsError."""
        config = self.chosen(variant)
        weights = self.weights_digest(variant)
        codec = LatentCodec.load(autoencoder_folder(config.autoencoder)).to(device_at_hand())
        return TrainingFreeAnimator(config, codec, self.pieces, weights)
