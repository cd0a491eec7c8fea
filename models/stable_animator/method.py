"""The method protocol for StableAnimator."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.animator import Animator, Driving, Reference
from models.checkpoint import WEIGHTS
from models.diffusion_method import SHARED_SAMPLING_CODE, SHARED_TRAINING_CODE, DiffusionAnimator, DiffusionMethod
from models.gradient_checkpointing import checkpoint_gradients
from models.latents import LatentCodec
from models.on_device import device_of
from models.shipped_checkpoint import SHIPPED, Bases, shipped_folder
from models.signals import SignalName
from models.stable_animator.config import StableAnimatorConfig
from models.stable_animator.image_tokens import encoder_folder
from models.stable_animator.magic.config import MagicConfig
from models.stable_animator.magic.method import MAGIC
from models.stable_animator.network import StableAnimator, load_network
from models.stable_animator.recogniser import judge_of
from models.stable_animator.sampling import animate
from models.stable_animator.stages import NEEDS, STAGES, additions_of, stage_config, train_stage
from models.stable_animator.temporal_codec import codec_folder, load_codec
from models.stable_animator.variants import VARIANTS
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


def pieces(
    network: StableAnimator,
    codec: LatentCodec,
    config: StableAnimatorConfig,
    reference: Reference,
    driving: Driving,
    seed: int,
    advance: Callable[[], None] | None = None,
) -> Iterator[Frames]:
    """One clip in order, a few frames at a time, with the recogniser that its faces are optimised by."""
    judge = judge_of(config.recogniser).to(device_of(network)) if config.sampling.hjb.enabled else None
    return animate(network, codec, config, judge, reference, driving, seed, advance)


@dataclass(frozen=True, kw_only=True)
class SvdMethod(DiffusionMethod):
    """The variants on SVD: their files, and what the face optimisation wants."""

    def weights_digest(self, variant: str) -> str:
        """Digest of the autoencoder's, the base's, the image encoder's and the shipped checkpoint's files. Raises MissingWeightsError."""
        config: StableAnimatorConfig = self.chosen(variant)
        files = [codec_folder(config.autoencoder) / WEIGHTS]
        files += [base_file(config.base_unet)] if config.base_unet else []
        folders = [encoder_folder(config.image_encoder)] if config.image_encoder else []
        folders += [shipped_folder(self.name)] if variant == SHIPPED else []
        return digest_of_lines(*(digest_of(path) for path in (*files, *folders)))

    def load(self, variant: str, checkpoint: Path | None) -> DiffusionAnimator:
        """The network of a checkpoint. Raises UserError without one, MissingWeightsError without the recogniser that optimises faces."""
        animator = super().load(variant, checkpoint)
        config: StableAnimatorConfig = animator.config
        if config.sampling.hjb.enabled:
            judge_of(config.recogniser)  # one that is missing is missed here, and not in the middle of a clip
        if config.sampling.hjb.checkpointing:
            checkpoint_gradients(animator.codec.autoencoder)
        animator.sampler = {**animator.sampler, "recogniser": config.recogniser}
        return animator


def bases(config: StableAnimatorConfig) -> Bases:
    """What packed checkpoints are differences to: the UNet that training began from."""
    return {"unet": [base_file(config.base_unet)]} if config.base_unet else {}


def base_file(role: str) -> Path:
    """The weights of a UNet's role. Raises MissingWeightsError."""
    return folder_of(role, "config.json", WEIGHTS) / WEIGHTS


ON_SVD = SvdMethod(
    name="stable_animator",
    variants=VARIANTS,
    default_variant="demo",
    needs=NEEDS,
    stages_in=lambda _: STAGES,
    shaping=lambda config, _: stage_config(config),
    train_stage=train_stage,
    load_codec=lambda config: load_codec(config.autoencoder),
    load_network=load_network,
    pieces=pieces,
    additions=additions_of,
    bases=bases,
    shipped_from="long",
    sampling_code=_SAMPLING,
    training_code=_TRAINING,
)


class StableAnimatorMethod:
    """The variants on SVD, and those of Table 5's backbone (magic/), each by its own method."""

    name = "stable_animator"
    variants: Mapping[str, StableAnimatorConfig | MagicConfig] = {**VARIANTS, **MAGIC.variants}
    default_variant = "demo"
    needs: tuple[SignalName, ...] = NEEDS
    sampling_code: tuple[str, ...] = _SAMPLING
    training_code: tuple[str, ...] = _TRAINING

    def of(self, variant: str) -> DiffusionMethod:
        """Whose variant it is. Raises UserError."""
        if variant == SHIPPED:
            return ON_SVD
        if variant not in self.variants:
            raise UserError(f"{self.name} has no variant {variant!r}; it has: {', '.join(self.variants)}")
        return MAGIC if variant in MAGIC.variants else ON_SVD

    def config(self, variant: str) -> dict[str, Any]:
        """All settings of a variant."""
        return self.of(variant).config(variant)

    def stages_of(self, variant: str) -> tuple[str, ...]:
        """stage_1, in every variant on SVD."""
        return self.of(variant).stages_of(variant)

    def stage_config(self, variant: str, stage: str) -> dict[str, Any]:
        """What shapes a stage: variants that differ only in sampling share its checkpoint."""
        return self.of(variant).stage_config(variant, stage)

    def weights_digest(self, variant: str) -> str:
        """Digest of the files that training begins from. Raises MissingWeightsError."""
        return self.of(variant).weights_digest(variant)

    def train(self, stage: str, *, variant: str, **rest: Any) -> list[StepRecord]:
        """Train a stage, as models.methods.Method says."""
        return self.of(variant).train(stage, variant=variant, **rest)

    def load(self, variant: str, checkpoint: Path | None) -> Animator:
        """The network of a checkpoint. Raises UserError without one, MissingWeightsError without the recogniser that optimises faces."""
        return self.of(variant).load(variant, checkpoint)


STABLE_ANIMATOR = StableAnimatorMethod()
