"""What is cut off goes on to the same bits, whatever is switched on; and what is not switched on changes nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from models.loop_config import LoopConfig, probe_steps, sample_steps
from models.training_loop import StepRecord
from models.training_state import TrainingState
from tests.models.toy_training import SHARED, Toy, run_toy, without_time


def _cut_and_go_on(folder: Path, config: LoopConfig, cut: int) -> tuple[list[StepRecord], Toy]:
    def stop(micro: int) -> None:
        if micro == cut * config.accumulation + 1:
            raise KeyboardInterrupt  # one micro-batch of the step has its gradients and its noise levels already

    with pytest.raises(KeyboardInterrupt):
        run_toy(folder, config, at=stop, metric=lambda step: {"half": step / 2})
    return run_toy(folder, config, seed=99, metric=lambda step: {"half": step / 2})


@pytest.mark.parametrize("cut", [1, 5])
@pytest.mark.parametrize(
    "switched",
    [{}, {"precision": "bfloat16"}, {"precision": "float16"}, {"optimizer": "adam"}, {"tensorboard": True}],
    ids=lambda switched: "-".join(map(str, switched.values())) or "plain",
)
def test_a_run_that_was_cut_off_gives_the_same_log_and_weights(tmp_path: Path, cut: int, switched: dict[str, Any]) -> None:
    if "tensorboard" in switched:
        pytest.importorskip("tensorboard")
    config = replace(SHARED, **switched)
    whole, expected = run_toy(tmp_path / "whole", config, metric=lambda step: {"half": step / 2})
    resumed, network = _cut_and_go_on(tmp_path / "cut", config, cut)
    assert without_time(resumed) == without_time(whole)
    assert any(record.by_noise for record in whole)
    for ours, other in zip(network.parameters(), expected.parameters(), strict=True):
        assert torch.equal(ours, other)


def test_watching_changes_no_bit(tmp_path: Path) -> None:
    plain, first = run_toy(tmp_path / "plain", with_levels=False)
    watched, second = run_toy(tmp_path / "watched", metric=lambda step: {"a": 1.0}, picture=lambda step: None)
    assert [r.loss for r in plain] == [r.loss for r in watched]
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_metrics_are_taken_over_the_run_and_kept_in_the_log(tmp_path: Path) -> None:
    records, _ = run_toy(tmp_path, metric=lambda step: {"half": step / 2})
    assert {r.step: r.metrics for r in records if r.metrics} == {4: {"half": 2.0}, 8: {"half": 4.0}}


def test_a_state_from_before_the_new_fields_is_gone_on_from(tmp_path: Path) -> None:
    """The layout of earlier states: no scaler, no levels, records of six fields."""
    state = TrainingState(dict(Toy().named_parameters()), SHARED)
    state.step, state.records = 1, [StepRecord(1, 2.0, None, 0.05, 1.0, 0.1)]
    state.save(tmp_path / "state")
    facts = json.loads((tmp_path / "state" / "state.json").read_text())
    old = {"step": 1, "records": [{k: v for k, v in facts["records"][0].items() if k not in ("by_noise", "metrics")}]}
    (tmp_path / "state" / "state.json").write_text(json.dumps(old))
    again = TrainingState(dict(Toy(5).named_parameters()), SHARED)
    assert again.load(tmp_path / "state")
    assert (again.step, again.records) == (1, state.records)


def test_steps_at_which_something_is_looked_at() -> None:
    config = LoopConfig(steps=10, learning_rate=1.0, probes=3)
    assert probe_steps(config) == {0, 5, 10}
    assert probe_steps(replace(config, probes=0)) == {10}
    assert sample_steps(config) == {2, 5, 8, 10}
    assert sample_steps(replace(config, pictures=0)) == set()
    assert sample_steps(replace(config, steps=2)) == {1, 2}


def test_where_it_is_computed_shapes_nothing() -> None:
    config = LoopConfig(steps=10, learning_rate=1.0, accumulation=4)
    elsewhere = replace(config, device="cuda", workers=4, tensorboard=True, probes=3, pictures=0, save_every_s=1.0)
    assert config.shaping() == elsewhere.shaping()
    assert config.shaping() != replace(config, precision="bfloat16").shaping()


def test_more_workers_than_micro_batches_are_refused() -> None:
    with pytest.raises(ValueError, match="workers=3 must be at least 1 and at most accumulation=2"):
        LoopConfig(steps=1, learning_rate=1.0, accumulation=2, workers=3)
