"""The loop's switches on a real stage: two UNets with a reference bank, a pose guider and a frozen autoencoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from models.animate_anyone.config import AnimateAnyoneConfig
from models.animate_anyone.stages import train_stage
from models.clip_dataset import TrainingClip
from models.latents import LatentCodec
from models.noise_levels import mean_by_noise
from models.stage_training import StageRun
from models.training_loop import StepRecord

Train = Callable[..., list[StepRecord]]


@pytest.fixture(scope="module")
def train(tiny: AnimateAnyoneConfig, codec: LatentCodec, clips: list[TrainingClip]) -> Train:
    """train(out, **fields of LoopConfig): three steps of stage 1 into the checkpoint folder `out`."""

    def run(out: Path, **switched: Any) -> list[StepRecord]:
        loop = replace(tiny.stage_1.loop, steps=3, probes=2, pictures=0, accumulation=2, **switched)
        config = replace(tiny, stage_1=replace(tiny.stage_1, loop=loop))
        stage = StageRun(stage="stage_1", out=out, seed=0, parent=None, identity={}, config=config.as_dict(), additions=[])
        return train_stage(stage, clips, config, codec)

    return run


@pytest.fixture(scope="module")
def plain(train: Train, tmp_path_factory: pytest.TempPathFactory) -> list[StepRecord]:
    torch.set_num_threads(1)
    return train(tmp_path_factory.mktemp("plain") / "stage_1")


def _losses(records: list[StepRecord]) -> list[float]:
    return [value for record in records for value in (record.loss, record.probe_loss, record.gradient_norm) if value is not None]


def test_gradient_checkpointing_gives_the_same_losses_and_gradient_norms(tmp_path: Path, train: Train, plain: list[StepRecord]) -> None:
    assert _losses(train(tmp_path / "stage_1", gradient_checkpointing=True)) == pytest.approx(_losses(plain), rel=1e-4)


def test_bfloat16_gives_nearly_the_same_and_saves_float32(tmp_path: Path, train: Train, plain: list[StepRecord]) -> None:
    records = train(tmp_path / "stage_1", precision="bfloat16", gradient_checkpointing=True)
    assert _losses(records) == pytest.approx(_losses(plain), rel=0.1)
    assert _losses(records) != _losses(plain)
    saved = [tensor for path in (tmp_path / "stage_1").rglob("*.safetensors") for tensor in load_file(path).values()]
    assert saved
    assert {tensor.dtype for tensor in saved if tensor.is_floating_point()} == {torch.float32}


def test_every_row_that_was_trained_on_is_in_a_bin(plain: list[StepRecord], tiny: AnimateAnyoneConfig) -> None:
    binned = mean_by_noise(plain)
    stage = tiny.stage_1
    rows = 3 * 2 * stage.references * stage.targets  # steps, micro-batches
    assert sum(count for _, count in binned.values()) == rows
    mean = sum(loss * count for loss, count in binned.values()) / rows
    assert mean == pytest.approx(sum(r.loss for r in plain if r.loss is not None) / 3, rel=1e-5)
