"""The method protocol for StableAnimator."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from models.animator import Animator, Driving, Reference
from models.checkpoint import WEIGHTS
from models.clip_dataset import TrainingClip
from models.diffusion_method import SHARED_SAMPLING_CODE, SHARED_TRAINING_CODE
from models.gradient_checkpointing import checkpoint_gradients
from models.latents import LatentCodec
from models.on_device import device_at_hand
from models.shipped_checkpoint import Bases, is_packed, unpacked
from models.signals import SignalName
from models.stable_animator.config import StableAnimatorConfig
from models.stable_animator.image_tokens import encoder_folder
from models.stable_animator.magic.config import MagicConfig
from models.stable_animator.magic.method import MAGIC
from models.stable_animator.network import StableAnimator, load_network
from models.stable_animator.recogniser import load_differentiable
from models.stable_animator.sampling import animate
from models.stable_animator.stages import NEEDS, STAGES, additions_of, stage_config, train_stage
from models.stable_animator.temporal_codec import codec_folder, load_codec
from models.stable_animator.variants import VARIANTS
from models.stage_training import StageRun
from models.training_loop import StepRecord
from pipelines.clip import Frames
from pipelines.errors import UserError
from pipelines.extractors.person_box import digest_of_lines
from pipelines.extractors.pretrained_folder import folder_of
from pipelines.weights import digest_of


def _once(*files: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(files))


def _ours(*names: str) -> tuple[str, ...]:
    return tuple(f"models/stable_animator/{name}.py" for name in names)


_NETWORK = (
    *_ours("network", "edm", "pose_net", "face_encoder", "id_adapter", "face_region", "temporal_codec", "image_tokens"),
    *_ours("magic/network", "magic/face_bank"),
    *(
        f"models/{name}.py"
        for name in ("stem", "image_tokens", "hia/network", "pose_controlnet", "reference_attention", "temporal_attention")
    ),
)
_SAMPLING = _once(
    *_ours("sampling", "sampler", "face_optimisation", "recogniser", "magic/sampling", "ddim_steering"),
    *_NETWORK,
    *SHARED_SAMPLING_CODE,
    "models/face_warp.py",
    "models/lean_decoding.py",
)
_TRAINING = _once(*_ours("stages", "magic/method"), *_NETWORK, *SHARED_TRAINING_CODE)


class StableAnimatorAnimator:
    """A trained network that makes clips."""

    def __init__(self, config: StableAnimatorConfig, network: StableAnimator, codec: LatentCodec, recogniser: nn.Module | None) -> None:
        self.config, self.network, self.codec, self.recogniser = config, network.eval(), codec, recogniser
        self.size: tuple[int, int] | None = config.size
        self.sampler: Mapping[str, Any] = {**asdict(config.sampling), "recogniser": config.recogniser}
        if config.sampling.hjb.checkpointing:
            checkpoint_gradients(codec.autoencoder)

    def __call__(self, reference: Reference, driving: Driving, seed: int) -> Frames:
        return np.concatenate(list(self.in_pieces(reference, driving, seed)))

    def in_pieces(self, reference: Reference, driving: Driving, seed: int, advance: Callable[[], None] | None = None) -> Iterator[Frames]:
        """The same clip, a few frames at a time, for driving clips of any length."""
        return animate(self.network, self.codec, self.config, self.recogniser, reference, driving, seed, advance)


class StableAnimatorMethod:
    """One stage; variants in variants.py. Those of Table 5's backbone (magic/) have a method of their own, which this one asks."""

    name = "stable_animator"
    variants: Mapping[str, StableAnimatorConfig | MagicConfig] = {**VARIANTS, **MAGIC.variants}
    default_variant = "demo"
    needs: tuple[SignalName, ...] = NEEDS
    sampling_code: tuple[str, ...] = _SAMPLING
    training_code: tuple[str, ...] = _TRAINING

    def chosen(self, variant: str) -> StableAnimatorConfig:
        """The config of a variant. Raises UserError."""
        config = self.variants.get(variant)
        if not isinstance(config, StableAnimatorConfig):
            raise UserError(f"{self.name} has no variant {variant!r}; it has: {', '.join(self.variants)}")
        return config

    def config(self, variant: str) -> dict[str, Any]:
        """All settings of a variant."""
        return MAGIC.config(variant) if variant in MAGIC.variants else self.chosen(variant).as_dict()

    def stages_of(self, variant: str) -> tuple[str, ...]:
        """stage_1, in every variant on SVD."""
        if variant in MAGIC.variants:
            return MAGIC.stages_of(variant)
        self.chosen(variant)
        return STAGES

    def stage_config(self, variant: str, stage: str) -> dict[str, Any]:
        """What shapes stage_1: variants that differ only in sampling share its checkpoint."""
        return MAGIC.stage_config(variant, stage) if variant in MAGIC.variants else stage_config(self.chosen(variant))

    def weights_digest(self, variant: str) -> str:
        """Digest of the autoencoder's, the base's and the image encoder's files. Raises MissingWeightsError."""
        if variant in MAGIC.variants:
            return MAGIC.weights_digest(variant)
        config = self.chosen(variant)
        files = [codec_folder(config.autoencoder) / WEIGHTS]
        files += [base_file(config.base_unet)] if config.base_unet else []
        folders = [encoder_folder(config.image_encoder)] if config.image_encoder else []
        return digest_of_lines(*(digest_of(path) for path in (*files, *folders)))

    def train(
        self,
        stage: str,
        *,
        variant: str,
        clips: Sequence[TrainingClip],
        parent: Path | None,
        out: Path,
        seed: int,
        identity: Mapping[str, str],
        on_record: Callable[[StepRecord], None] | None = None,
    ) -> list[StepRecord]:
        """Train a stage into the checkpoint folder `out`; resumes what was cut off. Raises UserError."""
        if variant in MAGIC.variants:
            return MAGIC.train(
                stage, variant=variant, clips=clips, parent=parent, out=out, seed=seed, identity=identity, on_record=on_record
            )
        config = self.chosen(variant)
        if stage not in STAGES:
            raise UserError(f"{self.name}:{variant} has no stage {stage!r}; it has: {', '.join(STAGES)}")
        run = StageRun(
            stage=stage, out=out, seed=seed, parent=parent, identity=identity, config=config.as_dict(), additions=additions_of(config),
            on_record=on_record,
        )  # fmt: skip
        return train_stage(run, clips, config, load_codec(config.autoencoder))

    def load(self, variant: str, checkpoint: Path | None) -> Animator:
        """The network of a checkpoint. Raises UserError without one, MissingWeightsError without the recogniser that optimises faces."""
        if variant in MAGIC.variants:
            return MAGIC.load(variant, checkpoint)
        config = self.chosen(variant)
        if checkpoint is None:
            raise UserError(f"{self.name} needs a checkpoint; train stage_1 first")
        device, judge = device_at_hand(), load_differentiable(config.recogniser) if config.sampling.hjb.enabled else None
        packed = unpacked(checkpoint, bases(config)) if is_packed(checkpoint) else nullcontext(checkpoint)
        with packed as folder:
            network = load_network(config, folder).to(device)
        codec = load_codec(config.autoencoder).to(device)
        return StableAnimatorAnimator(config, network, codec, judge if judge is None else judge.to(device))


def bases(config: StableAnimatorConfig) -> Bases:
    """What packed checkpoints are differences to: the UNet that training began from."""
    return {"unet": [base_file(config.base_unet)]} if config.base_unet else {}


def base_file(role: str) -> Path:
    """The weights of a UNet's role. Raises MissingWeightsError."""
    return folder_of(role, "config.json", WEIGHTS) / WEIGHTS


STABLE_ANIMATOR = StableAnimatorMethod()
