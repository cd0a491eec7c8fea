"""The method protocol for HIA."""

from __future__ import annotations

from pathlib import Path

from models.checkpoint import WEIGHTS
from models.diffusion_method import SHARED_SAMPLING_CODE, SHARED_TRAINING_CODE, DiffusionMethod
from models.hia.config import VARIANTS, HiaConfig
from models.hia.network import load_network
from models.hia.sampling import pieces
from models.hia.stages import additions_of, shaping, train_stage
from models.pretrained_networks import base_unet_folder, controlnet_folder, motion_adapter_folder
from models.shipped_checkpoint import Bases
from models.torch_recognisers import recogniser_file


def weight_files(config: HiaConfig) -> list[Path]:
    """What training begins from or looks through and no hub names; the same for every ablation, so that they share checkpoints. Raises MissingWeightsError."""
    files = [base_unet_folder("demo")] if config.base_unet == "demo" else []
    files += [controlnet_folder("demo")] if config.controlnet == "demo" else []
    files += [motion_adapter_folder("demo")] if config.motion_adapter == "demo" else []
    return files + ([recogniser_file(config.recogniser)] if config.recogniser is not None else [])


def bases(config: HiaConfig) -> Bases:
    """Both UNets began from the base, the ControlNet from the tiny one, the temporal layers from the motion modules."""
    unet = [base_unet_folder("demo") / WEIGHTS] if config.base_unet == "demo" else []
    motion = [motion_adapter_folder("demo") / WEIGHTS] if config.motion_adapter == "demo" else []
    control = [controlnet_folder("demo") / WEIGHTS] if config.controlnet == "demo" else []
    return {"denoising_unet": [*unet, *motion], "appearance_encoder": unet, "controlnet": control}


HIA = DiffusionMethod(
    name="hia",
    variants=VARIANTS,
    default_variant="demo",
    needs=("hands", "faces"),
    stages_in=lambda config: config.stages,
    shaping=shaping,
    train_stage=train_stage,
    load_network=load_network,
    pieces=pieces,
    additions=additions_of,
    weight_files=weight_files,
    bases=bases,
    shipped_from="long",
    reads_sharpness=lambda config: config.blur.enabled and config.sampling.sharpness == "driving",
    sampling_code=(
        "models/hia/sampling.py", "models/hia/network.py", "models/motion_blur_map.py",
        "models/pose_controlnet.py", "models/reference_attention.py", *SHARED_SAMPLING_CODE,
    ),
    training_code=(
        "models/hia/stages.py", "models/hia/network.py", "models/hia/regional_supervision.py", "models/motion_blur_map.py",
        "models/pose_controlnet.py", "models/reference_attention.py", "models/region_loss.py", "models/identity_loss.py", "models/face_warp.py",
        "models/lean_decoding.py", "models/temporal_attention.py", *SHARED_TRAINING_CODE,
    ),
)  # fmt: skip
