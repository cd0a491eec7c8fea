"""`python -m models` on a lake."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.lake import Lake
from pipelines.sources.registry import Dataset, register


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[2]
    return subprocess.run([sys.executable, "-m", "models", *arguments], capture_output=True, text=True, cwd=root, timeout=300)


def test_help_shows_examples() -> None:
    done = _run("--help")
    assert done.returncode == 0
    assert "python -m models train --home lake" in done.stdout


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("animate_anybody", "no method 'animate_anybody'; there are: animate_anyone, "),
        ("animate_anyone:huge", "no variant 'huge'; it has: "),
        ("copy_reference", "it has nothing to train"),
        ("animate_anyone:demo:x", "the seed must be a number"),
    ],
)
def test_a_users_mistake_is_one_line(
    tmp_path: Path, model: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from models.__main__ import run

    register(Lake(tmp_path).create(), Dataset(name="people", kind="performers"))
    monkeypatch.setattr("sys.argv", ["models", "train", "--home", str(tmp_path), "--dataset", "people", "--model", model])
    with pytest.raises(SystemExit) as left:
        run()
    assert left.value.code == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert message in said[0]


def test_an_unknown_data_set_is_one_line(tmp_path: Path) -> None:
    done = _run("generate", "--home", str(tmp_path), "--dataset", "nobody", "--model", "copy_reference")
    assert done.returncode == 2
    assert done.stderr.startswith("error: no data set 'nobody'")
    assert "Traceback" not in done.stderr
