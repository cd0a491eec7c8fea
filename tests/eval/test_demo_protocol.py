"""The protocol `demo` scores clips with the tiny family's networks, and stops where its main ones are not there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from eval.benchmark import benchmark
from eval.networks import MetricNetworks, network_of
from eval.protocols import DEMO, DEMO_STANDIN
from eval.score import score
from models.tiny import i3d, inception, resnet3d, vgg
from pipelines.errors import MissingWeightsError

GROUP = {"protocol": "demo", "dataset": "performers_test", "split": "test"}


@pytest.fixture
def untrained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The four main networks with their initial weights, in place of the shipped ones."""
    torch.manual_seed(0)
    for module in (inception, vgg, i3d, resnet3d):
        (tmp_path / "tiny" / module.JOB.name).mkdir(parents=True)
        module.JOB.export(module.JOB.build(), tmp_path / "tiny" / module.JOB.name)
    monkeypatch.setattr("pipelines.weights._TINY", tmp_path / "tiny")
    return tmp_path / "tiny"


def test_clips_are_scored_and_what_is_missing_is_said(untrained: Path, make_lake: Callable[..., Any]) -> None:
    tiny = make_lake(clips=2, frames=17)
    prediction_id = tiny.add_method("a", lambda truth: np.clip(truth.astype(int) + 25, 0, 255).astype(np.uint8))
    score(tiny.lake, **GROUP, prediction_id=prediction_id)
    rows = {row["metric"]: row for row in benchmark(tiny.lake, **GROUP).to_pylist()}
    assert set(rows) >= set(DEMO.metrics)
    assert all(rows[metric]["value"] > 0 for metric in ("lpips", "fid", "fid_vid", "fvd", "l1"))
    for metric in ("csim", "csim_second", "clip_i", "frame_consistency", "warping_error", "pose_error"):
        assert rows[metric]["value"] is None
        assert "not at hand" in rows[metric]["note"]


def test_a_main_network_that_is_not_there_is_an_error_that_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.weights._TINY", tmp_path)
    with pytest.raises(MissingWeightsError, match="rotoscope tiny train vgg"):
        MetricNetworks(DEMO)


def test_it_adds_to_the_stand_in_protocol_and_takes_no_stand_in() -> None:
    assert set(DEMO_STANDIN.metrics) < set(DEMO.metrics)
    assert not DEMO.standin
    assert "nothing outside" in DEMO.summary


@pytest.mark.parametrize("role", DEMO.networks)
def test_a_shipped_network_of_every_role_opens(role: str) -> None:
    network = network_of(DEMO, role)
    try:
        network.weights_digest()
    except MissingWeightsError as error:
        pytest.skip(f"not shipped yet: {error}")
    if role == "lpips":
        network.load("cpu", (-1.0, 1.0))
    else:
        network.load("cpu")
