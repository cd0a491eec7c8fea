"""The method protocol for SD-2V, which also runs without training."""

from __future__ import annotations

from pathlib import Path

from models.baselines.sd_2v.config import VARIANTS, Sd2vConfig
from models.baselines.sd_2v.sampling import pieces
from models.baselines.sd_2v.stages import load_network, off_the_shelf, shaping, train_stage
from models.checkpoint import WEIGHTS
from models.diffusion_method import SHARED_SAMPLING_CODE, SHARED_TRAINING_CODE
from models.finetuned_baseline import additions_of
from models.off_the_shelf_method import OffTheShelfMethod
from models.pretrained_networks import motion_adapter_folder
from models.prompted_denoiser import PROMPTED_CODE
from models.shipped_checkpoint import Bases

_NETWORK = ("models/baselines/sd_2v/stages.py", "models/temporal_attention.py", *PROMPTED_CODE)


def weight_files(config: Sd2vConfig) -> list[Path]:
    """Every pretrained part. Raises MissingWeightsError."""
    return config.networks.files() + ([motion_adapter_folder(config.motion_adapter)] if config.motion_adapter is not None else [])


def bases(config: Sd2vConfig) -> Bases:
    """What packed checkpoints are differences to; the motion modules began from the tiny family's, too."""
    motion = [motion_adapter_folder("demo") / WEIGHTS] if config.motion_adapter == "demo" else []
    parts = config.networks.bases()
    return {**parts, "denoising_unet": [*parts["denoising_unet"], *motion]}


SD_2V = OffTheShelfMethod(
    name="sd_2v",
    variants=VARIANTS,
    default_variant="demo",
    stages_in=lambda config: config.stages,
    shaping=shaping,
    train_stage=train_stage,
    load_network=load_network,
    untrained=off_the_shelf,
    pieces=pieces,
    additions=additions_of,
    weight_files=weight_files,
    bases=bases,
    sampling_code=("models/baselines/sd_2v/sampling.py", *_NETWORK, *SHARED_SAMPLING_CODE),
    training_code=(*_NETWORK, *SHARED_TRAINING_CODE),
)
