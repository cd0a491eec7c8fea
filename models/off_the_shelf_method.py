"""A method that trains in stages, some of whose variants train nothing and use published networks as they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.autoencoders import autoencoder_folder
from models.diffusion_method import DiffusionAnimator, DiffusionMethod
from models.latents import LatentCodec
from models.on_device import device_at_hand
from pipelines.errors import UserError


@dataclass(frozen=True, kw_only=True)
class OffTheShelfMethod(DiffusionMethod):
    """untrained: config -> the network of a variant that has no stage; raises MissingWeightsError."""

    untrained: Callable[[Any], Any]

    def load(self, variant: str, checkpoint: Path | None) -> DiffusionAnimator:
        """The network of a checkpoint, or the published parts where the variant trains nothing. Raises UserError, and MissingWeightsError."""
        config = self.chosen(variant)
        if self.stages_in(config):
            return super().load(variant, checkpoint)
        if checkpoint is not None:
            raise UserError(f"{self.name}:{variant} trains nothing; leave the checkpoint out, or use the variant {variant.split('-')[0]}")
        device = device_at_hand()
        codec = LatentCodec.load(autoencoder_folder(config.autoencoder)).to(device)
        animator = DiffusionAnimator(config, self.untrained(config).to(device), codec, self.pieces)
        # no checkpoint says what the clip was made with, so all of it belongs to the prediction's identity
        animator.sampler = {**asdict(config), "weights": self.weights_digest(variant)}
        return animator
