"""The command: wrong input is one message and exit status 2, never a traceback."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from assets.cli import main


@dataclass(frozen=True)
class Done:
    """What a command printed and its exit status."""

    returncode: int
    stdout: str
    stderr: str


Command = Callable[..., Done]


@pytest.fixture
def rotoscope(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command in this process, with a lake and an instance of its own."""
    (tmp_path / "dagster").mkdir()
    (tmp_path / "dagster" / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    monkeypatch.setenv("ROTOSCOPE_HOME", str(tmp_path / "lake"))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["rotoscope", *arguments])
        status = 0
        try:
            main()
        except SystemExit as leaving:
            status = int(leaving.code or 0)
        printed = capsys.readouterr()
        return Done(status, printed.out, printed.err)

    return run


def _is_users_error(done: Done, *said: str) -> None:
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    for text in said:
        assert text in done.stderr, done.stderr


def test_help_shows_examples_for_every_command(rotoscope: Command) -> None:
    for command in ("demo", "run", "query", "trace", "export", "status"):
        done = rotoscope(command, "--help")
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
def test_wrong_input_is_one_clear_error(rotoscope: Command, arguments: tuple[str, ...], said: tuple[str, ...]) -> None:
    _is_users_error(rotoscope(*arguments), *said)


def test_a_folder_without_videos_and_a_lake_that_cannot_be_written(
    rotoscope: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    _is_users_error(rotoscope("run", "--folder", "empty"), "no file ends in", ".mp4")
    (tmp_path / "film.mp4").write_bytes(b"text")
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("ROTOSCOPE_HOME", str(tmp_path / "file" / "lake"))
    done = rotoscope("run", "--folder", ".")
    _is_users_error(done, "cannot be written", "ROTOSCOPE_HOME")


def test_only_bad_files_leave_rows_with_reasons_and_status_2(rotoscope: Command, tmp_path: Path) -> None:
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("these are words")
    _is_users_error(
        rotoscope("run", "--folder", "bad", "--engine", "serial"), "nothing usable", "zero bytes", "no readable video container"
    )
    done = rotoscope("query", "select video_id, code from videos order by 1", "--output", "x.csv")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x.csv").read_text().split() == ["video_id,code", "empty.mp4,empty_file", "text.mp4,not_a_video"]
    _is_users_error(rotoscope("query", "select colour from videos"), "columns of videos: dataset, video_id")
    _is_users_error(rotoscope("query", "selec"), "the query cannot run", "benchmark, ")
    _is_users_error(rotoscope("trace", "--method", "x", "--metric", "psnr"), "nothing is scored yet")
    assert rotoscope("status").returncode == 0


def test_ctrl_c_in_a_run_is_one_line(rotoscope: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)  # Dagster's handler raises here

    monkeypatch.setattr("pipelines.sources.store.scan_into", interrupted)
    done = rotoscope("run", "--source", "performers_dance", "--extractors", "truth", "--engine", "serial")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == "stopped; what is finished is kept, run the command again to go on"
    assert "Traceback" not in done.stderr
