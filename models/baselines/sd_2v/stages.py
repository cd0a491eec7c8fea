"""What trains: IP-Adapter and ControlNet on single frames, then the motion modules on windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import MotionAdapter
from torch import nn

from models.baselines.sd_2v.config import Sd2vConfig
from models.checkpoint import load_part
from models.clip_dataset import ClipStore, TrainingClip
from models.finetuned_baseline import condition_of
from models.latents import LatentCodec
from models.pretrained_networks import motion_adapter_folder
from models.prompted_denoiser import PromptedDenoiser, fresh_denoiser, load_denoiser, only_training, with_motion_modules
from models.stage_config import shaping_of
from models.stage_loss import StageLoss
from models.stage_training import StageRun, latents_cache, run_stage
from models.temporal_attention import motion_parameters, zero_motion_output
from models.training_loop import StepRecord
from models.unet_shape import make_motion


def add_motion(config: Sd2vConfig, network: PromptedDenoiser) -> PromptedDenoiser:
    """The same networks with AnimateDiff's motion modules, or fresh ones that change nothing. Raises MissingWeightsError."""
    if config.motion_adapter is not None:
        return with_motion_modules(network, load_part(MotionAdapter, motion_adapter_folder(config.motion_adapter)))
    shape = replace(config.networks.base.shape, channels=tuple(network.denoiser.config.block_out_channels))
    made = with_motion_modules(network, make_motion(shape))
    zero_motion_output(made.denoiser)
    return made


def off_the_shelf(config: Sd2vConfig) -> PromptedDenoiser:
    """The four published parts put together, nothing trained. Raises MissingWeightsError."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.networks.base.seed)
        return add_motion(config, fresh_denoiser(config.networks, config.noise))


def load_network(config: Sd2vConfig, folder: Path) -> PromptedDenoiser:
    """From a checkpoint of either stage, strictly."""
    return load_denoiser(config.networks, config.noise, folder)


def trainable(config: Sd2vConfig, network: PromptedDenoiser, stage: str) -> Mapping[str, nn.Parameter]:
    """stage_1: IP-Adapter and ControlNet (and the UNet where `train_unet` says so). stage_2: the motion modules. All else is frozen."""
    if stage == "stage_1":
        return network.spatial_parameters(unet=config.train_unet)
    named = {f"{part}.{name}": p for part, module in network.parts().items() for name, p in module.named_parameters()}
    return only_training(named, {f"denoising_unet.{name}" for name in motion_parameters(network.denoiser)})


def train_stage(run: StageRun, clips: Sequence[TrainingClip], config: Sd2vConfig, codec: LatentCodec) -> list[StepRecord]:
    """Train one stage into a checkpoint folder; returns the log. Raises UserError."""
    from models.baselines.sd_2v.sampling import animate_batch

    torch.manual_seed(run.seed)
    before = fresh_denoiser(config.networks, config.noise) if run.parent is None else load_network(config, run.parent)
    network, settings = before if run.stage == "stage_1" else add_motion(config, before), config.stage(run.stage)
    store = ClipStore(clips, config.size, codec, augment=settings.augment, cache=latents_cache(run, codec), flip=settings.flip)
    loss = StageLoss(network, store, settings, run.seed, condition_of)
    return run_stage(
        run,
        loss,
        trainable(config, network, run.stage),
        network.parts,
        codec,
        lambda batch: animate_batch(config, network, codec, batch, run.seed),
    )


def shaping(config: Sd2vConfig, stage: str) -> dict[str, Any]:
    """What shapes a stage and nothing later."""
    chosen = asdict(config)
    names = ("size", "autoencoder", "networks", "noise", "train_unet", *(("motion_adapter",) if stage == "stage_2" else ()))
    return {**{name: chosen[name] for name in names}, stage: shaping_of(config.stage(stage))}
