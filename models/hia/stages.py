"""What trains (Sec. 3.3): spatial modules, regional supervision, temporal layers at half and at full resolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.clip_dataset import ClipStore, TrainingClip
from models.hia.config import NETWORK_FIELDS, HiaConfig
from models.hia.network import Hia, add_motion, drop_controls, fresh_network, load_network
from models.hia.regional_supervision import RegionalSupervision, regions_of
from models.hia.sampling import animate_batch, condition_of
from models.latents import LatentCodec
from models.lean_decoding import decoder_of
from models.signals import SignalName
from models.stage_config import shaping_of
from models.stage_loss import Denoised, ExtraLoss, StageLoss
from models.stage_training import StageRun, latents_cache, run_stage
from models.torch_recognisers import torch_recogniser
from models.training_loop import StepRecord


def start(stage: str, config: HiaConfig, parent: Path | None, seed: int) -> Hia:
    """The network that a stage begins with; the first temporal stage puts the motion modules in. Raises MissingWeightsError."""
    torch.manual_seed(seed)
    if parent is None:
        return fresh_network(config)
    network = load_network(config, parent)
    return add_motion(network) if stage in ("stage_3", "stage_4") and not network.temporal else network


def regional_loss(config: HiaConfig, codec: LatentCodec) -> ExtraLoss:
    """Stage 2's addition to the diffusion loss, which stays (the paper does not say whether it does)."""
    recogniser = torch_recogniser(config.recogniser)
    supervision = RegionalSupervision(decoder_of(codec), recogniser, config.regional)

    def extra(denoised: Denoised) -> Tensor:
        batch = denoised.batch
        recogniser.to(denoised.estimate.device)
        regions = regions_of(batch.target_image, batch.signals, batch.reference_image, batch.reference_signals, recogniser)
        return supervision(denoised.estimate.flatten(0, 1), denoised.timesteps, regions)

    return extra


def stage_loss(
    stage: str, network: Hia, clips: Sequence[TrainingClip], codec: LatentCodec, seed: int, cache: Path | None = None
) -> StageLoss:
    """The loss of a stage."""
    config = network.config
    settings = config.stage(stage)
    needs: tuple[SignalName, ...] = ("hands", "faces") if stage == "stage_2" else ("hands",) if config.blur.enabled else ()
    store = ClipStore(
        clips,
        settings.size or config.size,
        codec,
        augment=settings.augment,
        cache=cache,
        needs=needs,
        flip=settings.flip,
        warp=network.additions.warp,
    )
    return StageLoss(
        network,
        store,
        settings,
        seed,
        condition_of,
        drop=partial(drop_controls, blur_probability=config.blur.drop_probability),
        extra=regional_loss(config, codec) if stage == "stage_2" else None,
    )


def train_stage(run: StageRun, clips: Sequence[TrainingClip], config: HiaConfig, codec: LatentCodec) -> list[StepRecord]:
    """Train one stage into the checkpoint folder `run.out` (resumes from its state); returns the log. Raises UserError."""
    network = start(run.stage, config, run.parent, run.seed)
    parameters = network.trainable(run.stage)
    loss = stage_loss(run.stage, network, clips, codec, run.seed, latents_cache(run, codec))
    return run_stage(run, loss, parameters, network.parts, codec, lambda batch: animate_batch(network, codec, batch, run.seed))


def shaping(config: HiaConfig, stage: str) -> dict[str, Any]:
    """What shapes a stage and nothing later: variants that differ in a later stage or in sampling share its checkpoint."""
    own = {"stage_2": ("regional", "recogniser"), "stage_3": ("motion_adapter",), "stage_4": ("motion_adapter",)}
    chosen = asdict(config)
    return {**{name: chosen[name] for name in (*NETWORK_FIELDS, *own.get(stage, ()))}, stage: shaping_of(config.stage(stage))}


def additions_of(config: HiaConfig) -> list[str]:
    """What departs from the paper in this variant, in words for the report."""
    said = {
        "v-prediction, as the tiny base was trained": config.noise.objective == "v",
        "pooled image tokens instead of CLIP": config.image_encoder is None,
        "a fixed random recogniser instead of ArcFace": config.recogniser is None,
        "the tiny face recogniser instead of ArcFace": config.recogniser == "face_recogniser_tiny",
    }
    return [*config.additions.said(), *(name for name, used in said.items() if used)]
