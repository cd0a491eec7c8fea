"""The method protocol for AnimateAnyone."""

from __future__ import annotations

from pathlib import Path

from models.animate_anyone.config import VARIANTS, AnimateAnyoneConfig
from models.animate_anyone.network import load_network
from models.animate_anyone.sampling import animate
from models.animate_anyone.stages import additions_of, settings_of, stage_config, stages_of, train_stage
from models.checkpoint import WEIGHTS
from models.diffusion_method import SHARED_SAMPLING_CODE, SHARED_TRAINING_CODE, DiffusionMethod
from models.pretrained_networks import base_unet_folder, motion_adapter_folder
from models.shipped_checkpoint import Bases

_NETWORK = tuple(f"models/animate_anyone/{name}.py" for name in ("network", "feature_concat", "resnet_reference"))
_PARTS = tuple(
    f"models/{name}.py"
    for name in ("reference_attention", "pose_guider", "pose_controlnet", "temporal_attention", "image_tokens", "stem", "unet_shape")
)


def weight_files(config: AnimateAnyoneConfig) -> list[Path]:
    """The tiny family's networks that training begins from."""
    folders = [base_unet_folder("demo")] if config.base_unet == "demo" else []
    return folders + ([motion_adapter_folder("demo")] if config.motion_adapter == "demo" else [])


def bases(config: AnimateAnyoneConfig) -> Bases:
    """Both UNets began from the base, the temporal layers from the motion modules."""
    unet = [base_unet_folder("demo") / WEIGHTS] if config.base_unet == "demo" else []
    motion = [motion_adapter_folder("demo") / WEIGHTS] if config.motion_adapter == "demo" else []
    return {"denoising_unet": [*unet, *motion], "reference_unet": unet}


ANIMATE_ANYONE = DiffusionMethod(
    name="animate_anyone",
    variants=VARIANTS,
    default_variant="demo",
    stages_in=stages_of,
    shaping=stage_config,
    settings_of=settings_of,
    train_stage=train_stage,
    load_network=load_network,
    pieces=animate,
    additions=additions_of,
    weight_files=weight_files,
    bases=bases,
    shipped_from="long",
    sampling_code=("models/animate_anyone/sampling.py", *_NETWORK, *_PARTS, *SHARED_SAMPLING_CODE),
    training_code=("models/animate_anyone/stages.py", *_NETWORK, *_PARTS, *SHARED_TRAINING_CODE),
)
