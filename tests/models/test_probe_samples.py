"""Periodic samples of a stage: made once a step, seen and measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio
from torch import Tensor

import models.animate_anyone.sampling
from models.animate_anyone.config import AnimateAnyoneConfig
from models.animate_anyone.network import load_network
from models.animate_anyone.sampling import animate_batch
from models.animate_anyone.stages import condition_of, train_stage
from models.checkpoint import read_manifest
from models.clip_dataset import Batch, ClipStore, TrainingClip
from models.latents import LatentCodec
from models.probe_samples import EQUAL_DB, ProbeSamples, psnr
from models.stage_loss import StageLoss
from models.stage_training import StageRun, last_metrics
from models.training_loop import LoopConfig, StepRecord

LOOP = LoopConfig(steps=4, learning_rate=2e-3, probes=2, pictures=2, ema_decay=None, save_every_s=0.0)


def test_psnr_is_that_of_an_independent_library() -> None:
    truth, made = (torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1 for seed in (0, 1))
    assert psnr(made, truth) == pytest.approx(peak_signal_noise_ratio(truth.numpy(), made.numpy(), data_range=2.0), rel=1e-5)
    assert psnr(truth, truth) == EQUAL_DB
    assert psnr(truth + 0.1, truth) - psnr(truth + 0.2, truth) == pytest.approx(20 * np.log10(2), rel=1e-4)  # half the difference


@pytest.fixture
def batch(clips: list[TrainingClip], codec: LatentCodec) -> Batch:
    return ClipStore(clips, (32, 32), codec).batch([(0, 0, [3, 5]), (1, 2, [7, 8])], np.random.default_rng(0))


def test_a_step_is_sampled_once_for_its_picture_and_its_measures(batch: Batch, codec: LatentCodec, tmp_path: Path) -> None:
    asked = list[Batch]()

    def generated(of: Batch) -> Tensor:
        asked.append(of)
        return of.target_image.unflatten(0, of.latents.shape[:2]) * (0.5 + 0.25 * len(asked))

    samples = ProbeSamples(batch, codec, generated, first=2, folder=tmp_path / "pictures")
    for step in (2, 4):
        measured = samples.measure(step)
        samples.picture(step)
        assert len(asked) == step // 2
        assert (measured["psnr"] == EQUAL_DB) == (step == 4)  # the second time it returns the truth itself
        assert ("psnr_ceiling" in measured) == (step == 2)
    assert all(of is batch for of in asked)
    assert [path.name for path in sorted((tmp_path / "pictures").iterdir())] == ["000002.png", "000004.png"]


def test_the_ceiling_is_what_the_autoencoder_alone_reaches(batch: Batch, codec: LatentCodec, tmp_path: Path) -> None:
    def perfect(of: Batch) -> Tensor:  # the right latents, decoded
        return torch.stack([codec.decode(one) for one in of.latents])

    measured = ProbeSamples(batch, codec, perfect, first=1, folder=tmp_path).measure(1)
    assert measured["psnr"] == measured["psnr_ceiling"] < EQUAL_DB
    alone = codec.decode(codec.encode(batch.target_image))
    assert measured["psnr_ceiling"] == pytest.approx(psnr(alone, batch.target_image), rel=1e-5)


@pytest.fixture
def short(tiny: AnimateAnyoneConfig) -> AnimateAnyoneConfig:
    return replace(tiny, stage_1=replace(tiny.stage_1, loop=LOOP))


def _train(
    config: AnimateAnyoneConfig,
    clips: list[TrainingClip],
    codec: LatentCodec,
    out: Path,
    on_record: Callable[[StepRecord], None] | None = None,
) -> list[StepRecord]:
    run = StageRun(stage="stage_1", out=out, seed=0, parent=None, identity={}, config={}, additions=[], on_record=on_record)
    return train_stage(run, clips, config, codec)


def test_a_stage_notes_what_its_network_makes_of_the_probe_batch(
    short: AnimateAnyoneConfig, clips: list[TrainingClip], codec: LatentCodec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampled = list[Batch]()

    def counted(network: object, codec: LatentCodec, batch: Batch, seed: int) -> Tensor:
        sampled.append(batch)
        return animate_batch(network, codec, batch, seed)  # type: ignore[arg-type]

    monkeypatch.setattr(models.animate_anyone.sampling, "animate_batch", counted)
    records = _train(short, clips, codec, tmp_path / "stage_1")
    noted = {record.step: record.metrics for record in records if record.metrics}
    assert {step: set(metrics) for step, metrics in noted.items()} == {2: {"psnr", "psnr_ceiling"}, 4: {"psnr"}}
    assert len(sampled) == len(list((tmp_path / "stage_1.pictures").glob("*.png"))) == 2
    assert read_manifest(tmp_path / "stage_1")["metrics"] == last_metrics(records) == {**noted[2], **noted[4]}
    network = load_network(short, tmp_path / "stage_1")  # the last weights, for there is no average
    probe = StageLoss(network, ClipStore(clips, short.size, codec), short.stage_1, 0, condition_of).batch(-1)
    made = animate_batch(network, codec, probe, 0)
    assert noted[4]["psnr"] == pytest.approx(psnr(made.flatten(0, 1), probe.target_image), rel=1e-5)


def test_a_run_that_was_cut_off_notes_what_one_that_was_not_notes(
    short: AnimateAnyoneConfig, clips: list[TrainingClip], codec: LatentCodec, tmp_path: Path
) -> None:
    def stop(record: StepRecord) -> None:
        if record.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _train(short, clips, codec, tmp_path / "cut", stop)
    cut, whole = _train(short, clips, codec, tmp_path / "cut"), _train(short, clips, codec, tmp_path / "whole")
    assert [record.metrics for record in cut] == [record.metrics for record in whole]


def test_looking_changes_nothing_that_is_learnt(
    short: AnimateAnyoneConfig, clips: list[TrainingClip], codec: LatentCodec, tmp_path: Path
) -> None:
    unseen = replace(short, stage_1=replace(short.stage_1, loop=replace(LOOP, pictures=0)))
    seen, alone = _train(short, clips, codec, tmp_path / "seen"), _train(unseen, clips, codec, tmp_path / "alone")
    assert [record.loss for record in seen] == [record.loss for record in alone]
    assert not any(record.metrics for record in alone)
    assert read_manifest(tmp_path / "alone")["metrics"] == {}
