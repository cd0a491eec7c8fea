"""The set-up of `python -m benchmarks.overfit`: what a step shows, and the curve that outlives an interruption."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.overfit import Curve, longer
from models.clip_dataset import TrainingClip, draw_pairs
from models.diffusion_method import DiffusionMethod
from models.methods import method_named
from models.training_loop import StepRecord


@pytest.mark.parametrize("name", ["animate_anyone", "hfca", "hia"])
def test_every_step_shows_every_frame_but_the_reference_once_and_drops_nothing(name: str, clips: list[TrainingClip]) -> None:
    method = method_named(name)
    assert isinstance(method, DiffusionMethod)
    frames = clips[0].clip.num_frames
    config = longer(method, 1500, frames - 1, 15)
    stage, only_first = config.stage_1, [replace(clips[0], references=(0,))]
    for step in range(5):
        drawn = draw_pairs(only_first, stage.references, stage.targets, np.random.default_rng(step), stage.distance)
        assert [(clip, reference, sorted(targets)) for clip, reference, targets in drawn] == [(0, 0, [*range(1, frames)])]
    assert (stage.drop_probability, stage.flip, stage.augment, config.sampling.guidance_scale) == (0.0, 0.0, False, 1.0)
    assert stage.loop.learning_rate == method.chosen("demo").stage_1.loop.learning_rate
    assert config.noise == method.chosen("demo").noise


def _record(step: int, psnr: float | None) -> StepRecord:
    return StepRecord(step, 0.5, None, 1e-3, 1.0, 2.0 * step, None, None if psnr is None else {"psnr": psnr})


def test_a_curve_goes_on_after_an_interruption_and_holds_every_step_once(tmp_path: Path) -> None:
    path = tmp_path / "run" / "curve.csv"
    first = Curve(path, "it")
    for step, value in ((100, 20.0), (150, None), (200, 25.0), (300, 27.0)):
        first.add(_record(step, value))
    again = Curve(path, "it")  # the state that was saved is older than the curve
    for step, value in ((200, 25.0), (300, 27.5)):
        again.add(_record(step, value))
    assert [(int(row["step"]), float(row["psnr"])) for row in again.rows()] == [(100, 20.0), (200, 25.0), (300, 27.5)]
    assert [entry.name for entry in path.parent.iterdir()] == ["curve.csv"]
