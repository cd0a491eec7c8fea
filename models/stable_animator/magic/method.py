"""What trains, and the method protocol for the MagicAnimate rows; the method `stable_animator` answers for their variants with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from models.clip_dataset import ClipStore, TrainingClip
from models.diffusion_method import DiffusionMethod
from models.hia.config import NETWORK_FIELDS
from models.hia.method import weight_files as backbone_files
from models.latents import LatentCodec
from models.signals import SignalName
from models.stable_animator.magic.config import MAGIC_VARIANTS, MagicConfig
from models.stable_animator.magic.network import MagicAnimate, fresh_magic, load_magic, with_motion_modules
from models.stable_animator.magic.sampling import animate_batch, condition_of, pieces
from models.stage_config import shaping_of
from models.stage_loss import StageLoss
from models.stage_training import StageRun, latents_cache, run_stage
from models.training_loop import StepRecord

_STAGES = ("stage_1", "stage_2")
_NEEDS: tuple[SignalName, ...] = ("faces",)


def start(stage: str, config: MagicConfig, parent: Path | None, seed: int) -> MagicAnimate:
    """The network that a stage begins with. Raises MissingWeightsError."""
    torch.manual_seed(seed)
    return fresh_magic(config) if parent is None else with_motion_modules(load_magic(config, parent))


def train_stage(run: StageRun, clips: Sequence[TrainingClip], config: MagicConfig, codec: LatentCodec) -> list[StepRecord]:
    """Train one stage into a checkpoint folder; returns the log."""
    network = start(run.stage, config, run.parent, run.seed)
    settings = config.stage(run.stage)
    store = ClipStore(
        clips,
        settings.size or config.size,
        codec,
        augment=settings.augment,
        cache=latents_cache(run, codec),
        needs=_NEEDS,
        flip=settings.flip,
    )
    loss = StageLoss(network, store, settings, run.seed, condition_of)
    parameters = network.trainable(run.stage)
    return run_stage(run, loss, parameters, network.parts, codec, lambda batch: animate_batch(network, codec, batch, run.seed))


def shaping(config: MagicConfig, stage: str) -> dict[str, Any]:
    """What shapes a stage and nothing later: rows that differ in sampling alone share their checkpoints."""
    chosen = asdict(config)
    backbone = {name: chosen["backbone"][name] for name in (*NETWORK_FIELDS, *(("motion_adapter",) if stage == "stage_2" else ()))}
    return {"backbone": backbone, "faces": chosen["faces"], stage: shaping_of(config.stage(stage))}


def additions_of(config: MagicConfig) -> list[str]:
    """What departs from the paper, in words for the report."""
    said = {
        "skeletons instead of DensePose": True,
        "v-prediction, as the tiny base was trained": config.backbone.noise.objective == "v",
        "pooled image tokens instead of CLIP": config.backbone.image_encoder is None,
        "random face recogniser instead of a trained one": config.recogniser is None and config.sampling.hjb.enabled,
    }
    return [*config.backbone.additions.said(), *(name for name, used in said.items() if used)]


def weight_files(config: MagicConfig) -> list[Path]:
    """What training begins from; the recogniser only looks at what is sampled. Raises MissingWeightsError."""
    return backbone_files(replace(config.backbone, recogniser=None))


MAGIC = DiffusionMethod(
    name="stable_animator",
    variants=MAGIC_VARIANTS,
    default_variant="demo-magic_fe_id_opt",
    needs=_NEEDS,
    stages_in=lambda _: _STAGES,
    shaping=shaping,
    train_stage=train_stage,
    load_network=load_magic,
    pieces=pieces,
    additions=additions_of,
    weight_files=weight_files,
)
