"""`python -m eval`: the three commands and their exit statuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from eval.__main__ import main, run
from pipelines.errors import UserError


def _call(*arguments: str) -> Any:
    return CliRunner().invoke(main, list(arguments))


def test_score_benchmark_report(make_lake: Callable[..., Any], tmp_path: Path) -> None:
    tiny = make_lake(clips=2, frames=4)
    tiny.add_method("a", lambda truth: truth)
    shared = ["--home", str(tiny.lake.root), "--protocol", "demo_standin", "--dataset", tiny.dataset]
    scored = _call("score", *shared)
    assert scored.exit_code == 0, scored.output
    assert "2 scored, 0 unchanged, 0 failed" in scored.output
    table = _call("benchmark", *shared)
    assert "PSNR ↑" in table.output
    assert "usepackage{booktabs}" in _call("benchmark", *shared, "--format", "latex").output
    assert isinstance(_call("benchmark", *shared, "--format", "word").exception, UserError)
    assert isinstance(_call("report", *shared, "--drill", "fvd").exception, UserError)
    written = _call("report", *shared, "--output", str(tmp_path / "r.html"))
    assert Path(written.output.strip()).read_text(encoding="utf-8").startswith("<!doctype html>")


def test_failed_clips_give_status_1(make_lake: Callable[..., Any]) -> None:
    tiny = make_lake(clips=2, frames=4)
    tiny.add_method("a", lambda truth: truth[:-1])
    folder = tiny.lake.root / "generated" / "a-0"
    scored = _call("score", "--home", str(tiny.lake.root), "--protocol", "demo_standin", "--predictions", str(folder))
    assert scored.exit_code == 1
    assert "frame_count" in scored.output


def test_wrong_input_is_one_line_and_status_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["eval", "benchmark", "--home", str(tmp_path), "--dataset", "d"])
    with pytest.raises(SystemExit) as stop:
        run()
    assert stop.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("error: there is no lake")
    assert message.count("\n") == 1
    assert isinstance(_call("score", "--home", str(tmp_path)).exception, UserError)


def test_help_shows_examples() -> None:
    for arguments in ([], ["score"], ["benchmark"], ["report"]):
        assert "python -m eval score" in _call(*arguments, "--help").output
