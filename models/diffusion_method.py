"""A method that trains in stages and samples a loaded network: the Method protocol put together from a paper's own functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from models.animator import Driving, Reference
from models.autoencoders import autoencoder_folder
from models.clip_dataset import TrainingClip
from models.distributed_training import run_on_workers
from models.latents import LatentCodec
from models.loop_config import LoopConfig
from models.on_device import device_at_hand
from models.shipped_checkpoint import SHIPPED, Bases, is_packed, shipped_folder, unpacked
from models.signals import SignalName
from models.stage_training import StageRun
from models.training_loop import StepRecord
from pipelines.clip import Frames
from pipelines.errors import UserError
from pipelines.extractors.person_box import digest_of_lines
from pipelines.weights import digest_of

Pieces = Callable[[Any, LatentCodec, Any, Reference, Driving, int, Callable[[], None] | None], Iterator[Frames]]
"""(network, codec, config, reference, driving, seed, advance) -> the clip in order, a few frames at a time."""


class DiffusionAnimator:
    """A loaded network that makes clips."""

    truth_sharpness = False
    """Whether clips are made with the driving video's own sharpness, which for self-reenactment is the ground truth's."""

    def __init__(self, config: Any, network: Any, codec: LatentCodec, pieces: Pieces) -> None:
        self.config, self.network, self.codec, self._pieces = config, network.eval(), codec, pieces
        self.size: tuple[int, int] | None = config.size
        self.sampler: Mapping[str, Any] = asdict(config.sampling)

    def __call__(self, reference: Reference, driving: Driving, seed: int) -> Frames:
        return np.concatenate(list(self.in_pieces(reference, driving, seed)))

    def in_pieces(self, reference: Reference, driving: Driving, seed: int, advance: Callable[[], None] | None = None) -> Iterator[Frames]:
        """The same clip, a few frames at a time, for driving clips of any length."""
        return self._pieces(self.network, self.codec, self.config, reference, driving, seed, advance)


@dataclass(frozen=True, kw_only=True)
class DiffusionMethod:
    """One paper. Its functions take its own config; everything else is the same for all.

    stages_in:    config -> names of the stages that this variant trains, in order
    shaping:      (config, stage) -> what shapes that stage and nothing later
    settings_of:  (config, stage) -> its settings, with the field `loop`
    train_stage:  (run, clips, config, codec) -> log
    load_codec:   config -> its autoencoder
    load_network: (config, checkpoint folder) -> network
    additions:    config -> what departs from the paper, in words for manifest and report
    reads_sharpness: config -> whether the driving video's sharpness is a condition, which a score then says
    weight_files: config -> folders and files of pretrained networks, besides the autoencoder, whose content training depends on
    bases:        config -> what packed checkpoints are differences to (models/shipped_checkpoint.py)
    shipped_from: the variant whose checkpoint the project ships; then there is a variant `shipped` that trains nothing and uses it
    """

    name: str
    variants: Mapping[str, Any]
    default_variant: str
    needs: tuple[SignalName, ...] = ()
    stages_in: Callable[[Any], tuple[str, ...]]
    shaping: Callable[[Any, str], dict[str, Any]]
    settings_of: Callable[[Any, str], Any] = lambda config, stage: getattr(config, stage)
    train_stage: Callable[[StageRun, Sequence[TrainingClip], Any, LatentCodec], list[StepRecord]]
    load_codec: Callable[[Any], LatentCodec] = lambda config: LatentCodec.load(autoencoder_folder(config.autoencoder))
    load_network: Callable[[Any, Path], Any]
    pieces: Pieces
    additions: Callable[[Any], list[str]]
    reads_sharpness: Callable[[Any], bool] = lambda _: False
    weight_files: Callable[[Any], list[Path]] = lambda _: []
    bases: Callable[[Any], Bases] = lambda _: {}
    shipped_from: str | None = None
    sampling_code: tuple[str, ...] = ()
    training_code: tuple[str, ...] = ()

    def chosen(self, variant: str) -> Any:
        """The config of a variant. Raises UserError."""
        known = self.variants[self.shipped_from] if variant == SHIPPED and self.shipped_from else self.variants.get(variant)
        if known is None:
            there = [*self.variants, *([SHIPPED] if self.shipped_from else [])]
            raise UserError(f"{self.name} has no variant {variant!r}; it has: {', '.join(there)}")
        return known

    def config(self, variant: str) -> dict[str, Any]:
        """All settings of a variant."""
        return asdict(self.chosen(variant))

    def stages_of(self, variant: str) -> tuple[str, ...]:
        """The stages that a variant trains, in order; none where its checkpoint is shipped."""
        config = self.chosen(variant)
        return () if variant == SHIPPED else self.stages_in(config)

    def stage_config(self, variant: str, stage: str) -> dict[str, Any]:
        """What shapes one stage of a variant: variants that differ only later share its checkpoint."""
        return self.shaping(self.chosen(variant), stage)

    def weights_digest(self, variant: str) -> str:
        """Digest of the autoencoder's files and of those that training begins from (networks of a hub are named by the config)."""
        config = self.chosen(variant)
        shipped = [shipped_folder(self.name)] if variant == SHIPPED else []
        digests = [digest_of(path) for path in (autoencoder_folder(config.autoencoder), *self.weight_files(config), *shipped)]
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
        identity: Mapping[str, str],
        on_record: Callable[[StepRecord], None] | None = None,
    ) -> list[StepRecord]:
        """Train one stage into the checkpoint folder `out`; resumes what was cut off. Raises UserError."""
        config, stages = self.chosen(variant), self.stages_of(variant)
        if stage not in stages:
            raise UserError(f"{self.name}:{variant} has no stage {stage!r}; it has: {', '.join(stages)}")
        if parent is None and stage != stages[0]:
            before = stages[stages.index(stage) - 1]
            raise UserError(f"{stage} continues from {before}: give its checkpoint as parent")
        run = StageRun(
            stage=stage, out=out, seed=seed, parent=parent, identity=identity, config=asdict(config), additions=self.additions(config),
            on_record=on_record,
        )  # fmt: skip
        loop: LoopConfig = self.settings_of(config, stage).loop
        if loop.workers > 1:
            run = replace(run, on_record=None)  # callbacks do not cross processes
        codec = self.load_codec(config)
        arguments = {"run": run, "clips": clips, "config": config, "codec": codec}
        return run_on_workers(self.train_stage, loop, storage=out.with_name(f".{out.name}.ray"), arguments=arguments)

    def load(self, variant: str, checkpoint: Path | None) -> DiffusionAnimator:
        """The network of a checkpoint, or of the one that is shipped. Raises UserError without one."""
        config = self.chosen(variant)
        if variant == SHIPPED:
            checkpoint = checkpoint or shipped_folder(self.name)
        if checkpoint is None:
            raise UserError(f"{self.name} needs a checkpoint; train {' and '.join(self.stages_in(config))} first")
        codec = self.load_codec(config)
        packed = unpacked(checkpoint, self.bases(config)) if is_packed(checkpoint) else nullcontext(checkpoint)
        with packed as folder:
            network = self.load_network(config, folder).to(device_at_hand())
        animator = DiffusionAnimator(config, network, codec.to(device_at_hand()), self.pieces)
        animator.truth_sharpness = self.reads_sharpness(config)
        if variant == SHIPPED:  # no row of a lake says what the clip was made with, so all of it belongs to the prediction's identity
            animator.sampler = {**asdict(config), "weights": self.weights_digest(variant)}
        if said := self.additions(config):  # whoever sees the clip's numbers sees what is not the paper's
            animator.sampler = {**animator.sampler, "additions": said}
        return animator


SHARED_SAMPLING_CODE = (
    "models/clip_sampling.py",
    "models/demo_additions.py",
    "models/limb_warp.py",
    "models/denoising.py",
    "models/sampling_loop.py",
    "models/windows.py",
    "models/guidance.py",
    "models/noise.py",
    "models/latents.py",
    "pipelines/keypoints.py",
    "pipelines/retarget.py",
)
SHARED_TRAINING_CODE = (
    "models/stage_loss.py",
    "models/stage_training.py",
    "models/demo_additions.py",
    "models/limb_warp.py",
    "models/denoising.py",
    "models/training_loop.py",
    "models/training_state.py",
    "models/loop_config.py",
    "models/optimizers.py",
    "models/precision.py",
    "models/gradient_checkpointing.py",
    "models/distributed_training.py",
    "models/clip_dataset.py",
    "models/clip_signals.py",
    "models/fitting.py",
    "models/mirror.py",
    "models/signal_rows.py",
    "models/noise.py",
    "models/latents.py",
    "models/guidance.py",
    "pipelines/keypoints.py",
)
