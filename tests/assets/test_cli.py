"""The command: wrong input is one message and exit status 2, never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.code_version import ROOT


def _rotoscope(tmp_path: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    home = tmp_path / "dagster"
    home.mkdir(exist_ok=True)
    known = {**os.environ, "ROTOSCOPE_HOME": str(tmp_path / "lake"), "DAGSTER_HOME": str(home), "DAGSTER_DISABLE_TELEMETRY": "1", **environment}
    return subprocess.run([sys.executable, "-m", "assets", *arguments], capture_output=True, text=True, cwd=tmp_path, env={**known, "PYTHONPATH": str(ROOT)}, timeout=240)


def _is_users_error(done: subprocess.CompletedProcess[str], *said: str) -> None:
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    for text in said:
        assert text in done.stderr, done.stderr


def test_help_shows_examples_for_every_command(tmp_path: Path) -> None:
    for command in ("demo", "run", "query", "trace", "export", "status"):
        done = _rotoscope(tmp_path, command, "--help")
        assert done.returncode == 0
        assert f"rotoscope {command}" in done.stdout
        assert "Examples:" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "--folder", "nowhere"), ("nowhere", "no such folder", "give a directory")),
        (("run",), ("--folder DIR", "--dataset NAME")),
        (("run", "--dataset", "nothing"), ("no data set 'nothing'", "rotoscope demo")),
        (("run", "--folder", ".", "--extractors", "guesswork"), ("no extractor 'guesswork'", "mediapipe", "truth")),
        (("run", "--folder", ".", "--method", "magic"), ("no method 'magic'", "animate_anyone", "copy_reference")),
        (("run", "--folder", ".", "--method", "animate_anyone", "--variant", "huge"), ("no variant 'huge'", "demo")),
        (("run", "--folder", ".", "--engine", "steam"), ("no engine 'steam'", "serial")),
        (("query", "select 1"), ("there is no lake", "rotoscope demo")),
        (("export", "poems", "--output", "x.csv"), ("no table 'poems'", "benchmark")),
        (("run", "--colour", "red"), ("No such option",)),
        (("demonstrate",), ("No such command",)),
    ],
)
def test_wrong_input_is_one_clear_error(tmp_path: Path, arguments: tuple[str, ...], said: tuple[str, ...]) -> None:
    _is_users_error(_rotoscope(tmp_path, *arguments), *said)


def test_a_folder_without_videos_and_a_lake_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    _is_users_error(_rotoscope(tmp_path, "run", "--folder", "empty"), "no file ends in", ".mp4")
    (tmp_path / "film.mp4").write_bytes(b"text")
    (tmp_path / "file").write_text("not a folder")
    done = _rotoscope(tmp_path, "run", "--folder", ".", ROTOSCOPE_HOME=str(tmp_path / "file" / "lake"))
    _is_users_error(done, "cannot be written", "ROTOSCOPE_HOME")


def test_only_bad_files_leave_rows_with_reasons_and_status_2(tmp_path: Path) -> None:
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("these are words")
    _is_users_error(_rotoscope(tmp_path, "run", "--folder", "bad", "--engine", "serial"), "nothing usable", "zero bytes", "no readable video container")
    done = _rotoscope(tmp_path, "query", "select video_id, code from videos order by 1", "--output", "x.csv")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x.csv").read_text().split() == ["video_id,code", "empty.mp4,empty_file", "text.mp4,not_a_video"]
    _is_users_error(_rotoscope(tmp_path, "query", "select colour from videos"), "columns of videos: dataset, video_id")
    _is_users_error(_rotoscope(tmp_path, "query", "selec"), "the query cannot run", "tables: benchmark")
    _is_users_error(_rotoscope(tmp_path, "trace", "--method", "x", "--metric", "psnr"), "nothing is scored yet")
    assert _rotoscope(tmp_path, "status").returncode == 0
