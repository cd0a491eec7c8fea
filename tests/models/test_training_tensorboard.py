"""Event files, read back with TensorBoard's own reader."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.tensorboard_log import open_log, scalars_of, tensorboard_folder
from models.training_loop import StepRecord
from tests.models.toy_training import SHARED, run_toy

SHOWN = replace(SHARED, tensorboard=True)


def _read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    read.Reload()
    return {tag: [(event.step, event.value) for event in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def _expected(records: list[StepRecord]) -> dict[str, list[tuple[int, float]]]:
    shown: dict[str, list[tuple[int, float]]] = {}
    for record in records:
        for name, value in scalars_of(record).items():
            shown.setdefault(name, []).append((record.step, pytest.approx(value, rel=1e-6)))
    return shown


def _metric(step: int) -> dict[str, float]:
    return {"psnr": 10.0 + step}


def test_every_number_of_the_log_is_in_the_event_files(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    records, _ = run_toy(tmp_path, SHOWN, metric=_metric)
    found = _read(tmp_path / "state.tensorboard")
    assert found == _expected(records)
    assert {"loss/train", "loss/probe", "learning_rate", "gradient_norm", "metrics/psnr", "loss_by_noise/0-99"} <= found.keys()


def test_a_run_that_was_killed_and_went_on_shows_every_step_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    config = replace(SHOWN, save_every_s=1e9)  # nothing saved: all steps are computed again, and logged again

    def stop(micro: int) -> None:
        if micro == 5 * config.accumulation:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_toy(tmp_path, config, at=stop)
    records, _ = run_toy(tmp_path, config)
    assert len(list((tmp_path / "state.tensorboard").glob("events.*"))) == 2
    assert _read(tmp_path / "state.tensorboard") == _expected(records)


def test_a_finished_run_opens_no_file(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run_toy(tmp_path, SHOWN)
    run_toy(tmp_path, SHOWN)
    assert len(list((tmp_path / "state.tensorboard").glob("events.*"))) == 1


def test_without_the_package_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert open_log(tmp_path) is None
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "TensorBoard is off" in said
    run_toy(tmp_path, SHOWN)  # trains all the same
    assert not (tmp_path / "state.tensorboard").exists()


def test_event_files_lie_beside_the_checkpoint() -> None:
    assert tensorboard_folder(Path("a/.stage_1-0123.state")) == Path("a/stage_1-0123.tensorboard")
