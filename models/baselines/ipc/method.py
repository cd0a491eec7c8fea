"""The method protocol for IPC, which also runs without training."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from models.baselines.ipc.config import VARIANTS, IpcConfig
from models.baselines.ipc.network import load_network
from models.baselines.ipc.sampling import pieces
from models.baselines.ipc.stages import shaping, train_stage, untrained
from models.diffusion_method import SHARED_SAMPLING_CODE, SHARED_TRAINING_CODE
from models.finetuned_baseline import additions_of
from models.off_the_shelf_method import OffTheShelfMethod
from models.prompted_denoiser import PROMPTED_CODE

_NETWORK = ("models/baselines/ipc/network.py", "models/baselines/ipc/stages.py", "models/causal_temporal.py", *PROMPTED_CODE)


def weight_files(config: IpcConfig) -> list[Path]:
    """Every pretrained part. Raises MissingWeightsError."""
    return config.networks.files()


IPC = OffTheShelfMethod(
    name="ipc",
    variants=VARIANTS,
    default_variant="demo",
    stages_in=lambda config: config.stages,
    shaping=shaping,
    train_stage=train_stage,
    load_network=load_network,
    untrained=untrained,
    pieces=pieces,
    additions=partial(additions_of, untrained="nothing trained: frames are independent"),
    weight_files=weight_files,
    bases=lambda config: config.networks.bases(),
    sampling_code=("models/baselines/ipc/sampling.py", *_NETWORK, *SHARED_SAMPLING_CODE),
    training_code=(*_NETWORK, *SHARED_TRAINING_CODE),
)
