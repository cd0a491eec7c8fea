"""The method protocol for AnimateAnyone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from models.animate_anyone.config import VARIANTS, AnimateAnyoneConfig
from models.animate_anyone.network import AnimateAnyone, load_network
from models.animate_anyone.sampling import animate, animate_in_pieces
from models.animate_anyone.stages import STAGES, train_stage
from models.autoencoders import autoencoder_folder
from models.clip_dataset import Points, TrainingClip
from models.latents import LatentCodec
from models.pretrained_networks import base_unet_folder, motion_adapter_folder
from models.training_loop import StepRecord
from pipelines.clip import Frames
from pipelines.errors import UserError
from pipelines.extractors.person_box import digest_of_lines
from pipelines.weights import digest_of


class AnimateAnyoneAnimator:
    """A trained network that makes clips."""

    def __init__(self, config: AnimateAnyoneConfig, network: AnimateAnyone, codec: LatentCodec) -> None:
        self.config, self.network, self.codec = config, network.eval(), codec
        self.size: tuple[int, int] | None = config.size
        self.sampler: Mapping[str, Any] = asdict(config.sampling)

    def __call__(self, reference: Frames, reference_pose: tuple[Points, Points], driving: tuple[Points, Points], seed: int) -> Frames:
        return animate(
            self.network, self.codec, reference=reference, reference_pose=reference_pose, driving=driving, seed=seed, config=self.config
        )

    def in_pieces(
        self,
        reference: Frames,
        reference_pose: tuple[Points, Points],
        driving: tuple[Points, Points],
        seed: int,
        advance: Callable[[], None] | None = None,
    ) -> Iterator[Frames]:
        """The same clip, a few frames at a time, for driving clips of any length."""
        return animate_in_pieces(
            self.network, self.codec, reference=reference, reference_pose=reference_pose, driving=driving, seed=seed, config=self.config,
            advance=advance,
        )  # fmt: skip


class AnimateAnyoneMethod:
    """Two stages; variants in config.py."""

    stages: tuple[str, ...] = STAGES
    variants: Mapping[str, Any] = VARIANTS
    default_variant = "demo"
    sampling_code: tuple[str, ...] = (
        "models/animate_anyone/sampling.py",
        "models/animate_anyone/network.py",
        "models/sampling_loop.py",
        "models/windows.py",
        "models/guidance.py",
        "models/noise.py",
        "models/latents.py",
        "pipelines/keypoints.py",
        "pipelines/retarget.py",
    )

    def _config(self, variant: str) -> AnimateAnyoneConfig:
        if variant not in VARIANTS:
            raise UserError(f"animate_anyone has no variant {variant!r}; it has: {', '.join(VARIANTS)}")
        return VARIANTS[variant]

    def config(self, variant: str) -> dict[str, Any]:
        """All settings of a variant."""
        return self._config(variant).as_dict()

    def weights_digest(self, variant: str) -> str:
        """Digest of the autoencoder's files and of the tiny family's that training begins from (other base networks are named by the config)."""
        config = self._config(variant)
        folders = [autoencoder_folder(config.autoencoder)]
        folders += [base_unet_folder("demo")] if config.base_unet == "demo" else []
        folders += [motion_adapter_folder("demo")] if config.motion_adapter == "demo" else []
        digests = [digest_of(folder) for folder in folders]
        return digests[0] if len(digests) == 1 else digest_of_lines(*digests)

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
        """Train one stage; see stages.train_stage."""
        config = self._config(variant)
        codec = LatentCodec.load(autoencoder_folder(config.autoencoder))
        return train_stage(
            stage, clips=clips, config=config, codec=codec, parent=parent, out=out, seed=seed, identity=identity, on_record=on_record
        )

    def load(self, variant: str, checkpoint: Path | None) -> AnimateAnyoneAnimator:
        """The network of a checkpoint. Raises UserError without one."""
        if checkpoint is None:
            raise UserError("animate_anyone needs a checkpoint; train stage_1 and stage_2 first")
        config = self._config(variant)
        return AnimateAnyoneAnimator(config, load_network(config, checkpoint), LatentCodec.load(autoencoder_folder(config.autoencoder)))
