"""What trains: IP-Adapter and ControlNet on single frames, then the temporal layers on windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch

from models.baselines.ipc.config import IpcConfig
from models.baselines.ipc.network import Ipc, add_temporal, fresh_network, load_network
from models.clip_dataset import ClipStore, TrainingClip
from models.finetuned_baseline import condition_of
from models.latents import LatentCodec
from models.stage_config import shaping_of
from models.stage_loss import StageLoss
from models.stage_training import StageRun, latents_cache, run_stage
from models.training_loop import StepRecord


def untrained(config: IpcConfig) -> Ipc:
    """The published parts alone: independent frames. Raises MissingWeightsError."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.networks.base.seed)
        return fresh_network(config)


def train_stage(run: StageRun, clips: Sequence[TrainingClip], config: IpcConfig, codec: LatentCodec) -> list[StepRecord]:
    """Train one stage into a checkpoint folder; returns the log. Raises UserError."""
    from models.baselines.ipc.sampling import animate_batch

    torch.manual_seed(run.seed)
    before = fresh_network(config) if run.parent is None else load_network(config, run.parent)
    network, settings = before if run.stage == "stage_1" else add_temporal(before), config.stage(run.stage)
    store = ClipStore(clips, config.size, codec, augment=settings.augment, cache=latents_cache(run, codec), flip=settings.flip)
    loss = StageLoss(network, store, settings, run.seed, condition_of)
    return run_stage(
        run, loss, network.trainable(run.stage), network.parts, codec, lambda batch: animate_batch(network, codec, batch, run.seed)
    )


def shaping(config: IpcConfig, stage: str) -> dict[str, Any]:
    """What shapes a stage and nothing later."""
    chosen = asdict(config)
    names = ("size", "autoencoder", "networks", "noise", *(("temporal",) if stage == "stage_2" else ()))
    return {**{name: chosen[name] for name in names}, stage: shaping_of(config.stage(stage))}
