"""What trains: stage 1 on single frames, stage 2 on windows with the temporal layers alone; and the stages of the ablations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import torch

from models.animate_anyone.config import AnimateAnyoneConfig
from models.animate_anyone.network import AnimateAnyone, ReferenceCondition, add_motion, add_reference_control, fresh_network, load_network
from models.clip_dataset import Batch, ClipStore, TrainingClip
from models.latents import LatentCodec
from models.stage_config import Stage, shaping_of
from models.stage_loss import StageLoss, still_condition
from models.stage_training import StageRun, latents_cache, run_stage
from models.training_loop import StepRecord


def stages_of(config: AnimateAnyoneConfig) -> tuple[str, ...]:
    """stage_1 and stage_2; stage_1b between them trains Table 4's ControlNet; Table 6: no stage 2, or one stage for everything."""
    first = ("stage_1", "stage_1b") if config.network.controls_reference else ("stage_1",)
    return (*first, "stage_2") if config.network.temporal == "two_stage" else first


def settings_of(config: AnimateAnyoneConfig, stage: str) -> Stage:
    """How a stage trains. One stage for everything trains on windows, with the rate of stage 1 and the steps of both stages."""
    if stage == "stage_1" and config.network.temporal == "joint":
        steps = config.stage_1.loop.steps + config.stage_2.loop.steps
        return replace(config.stage_2, loop=replace(config.stage_1.loop, steps=steps))
    settings: dict[str, Stage] = {"stage_1": config.stage_1, "stage_1b": config.stage_1b, "stage_2": config.stage_2}
    return settings[stage]


def stage_config(config: AnimateAnyoneConfig, stage: str) -> dict[str, Any]:
    """What shapes a stage, and nothing of later ones."""
    shape = config.network
    spatial = shape.temporal == "none" or (shape.temporal == "two_stage" and stage != "stage_2")  # no temporal layers, or not yet
    return {
        "size": config.size,
        "noise": asdict(config.noise),
        "settings": shaping_of(settings_of(config, stage)),
        "weights": [
            config.autoencoder,
            config.base_unet,
            config.image_encoder,
            config.pose_controlnet,
            None if spatial else config.motion_adapter,
        ],
        # variants with one and with two stages share stage 1; so do those without temporal layers
        "network": asdict(replace(shape, temporal="none") if spatial else shape),
    }


def condition_of(network: AnimateAnyone, batch: Batch) -> ReferenceCondition:
    """Conditions of a batch, nothing dropped."""
    return ReferenceCondition(**still_condition(network, batch), reference_image=batch.reference_image)


def start(stage: str, config: AnimateAnyoneConfig, run: StageRun) -> AnimateAnyone:
    """The network that a stage begins with."""
    torch.manual_seed(run.seed)
    if run.parent is None:
        return fresh_network(config)
    before = load_network(config, run.parent)
    return add_reference_control(before) if stage == "stage_1b" else add_motion(before)


def train_stage(run: StageRun, clips: Sequence[TrainingClip], config: AnimateAnyoneConfig, codec: LatentCodec) -> list[StepRecord]:
    """Train one stage into a checkpoint folder; returns the log."""
    from models.animate_anyone.sampling import animate_batch

    settings, network = settings_of(config, run.stage), start(run.stage, config, run)
    store = ClipStore(clips, config.size, codec, augment=settings.augment, cache=latents_cache(run, codec), warp=network.additions.warp)
    loss = StageLoss(network, store, settings, run.seed, condition_of)
    return run_stage(
        run, loss, network.trainable(run.stage), network.parts, codec, lambda batch: animate_batch(network, codec, batch, run.seed)
    )


def additions_of(config: AnimateAnyoneConfig) -> list[str]:
    """What departs from the paper in this variant, in words for the report."""
    pooled = ["pooled image tokens instead of CLIP"] if config.image_encoder is None else []
    return [*config.network.additions.said(), *pooled, *config.sampling.said()]
