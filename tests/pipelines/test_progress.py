"""Progress away from a terminal: lines with the rate and the time left."""

from __future__ import annotations

import pytest

from pipelines import progress
from pipelines.progress import Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, which a test moves; standard error is no terminal."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: False, raising=False)
    return now


def test_a_line_says_how_fast_and_how_long(clock: list[float]) -> None:
    bar = Progress(40, "clips", "extract")
    assert bar.line() == "extract: 0/40 clips, 0 clips/s, time left unknown"
    clock[0] += 8.0
    bar.update(16)
    assert bar.line() == "extract: 16/40 clips, 2 clips/s, 12 s left"


def test_lines_come_every_ten_seconds_and_at_the_end(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    bar = Progress(5, "clips", "extract")
    for _ in range(5):
        clock[0] += 6.0
        bar.update(1)
    assert [line.split(",")[0] for line in capsys.readouterr().err.splitlines()] == ["extract: 2/5 clips", "extract: 4/5 clips"]
    bar.close()
    assert capsys.readouterr().err.startswith("extract: 5/5 clips")


def test_the_end_is_said_once(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    bar = Progress(2, "clips", "extract")
    clock[0] += 12.0
    bar.update(2)
    bar.close()
    assert [line.split(",")[0] for line in capsys.readouterr().err.splitlines()] == ["extract: 2/2 clips"]


def test_what_is_not_shown_is_silent(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    bar = Progress(2, "clips", "extract", shown=False)
    clock[0] += 60.0
    bar.update(2)
    bar.close()
    assert capsys.readouterr().err == ""


def test_a_listener_hears_every_line(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    monkeypatch.setattr(Progress, "listener", heard.append)
    bar = Progress(2, "clips", "extract")
    clock[0] += 11.0
    bar.update(1)
    assert heard == ["extract: 1/2 clips, 0.091 clips/s, 11 s left"]
    bar.update(1)
    bar.close()
    Progress(2, "clips", "extract", shown=False).close()
    assert heard[1:] == ["extract: 2/2 clips, 0.18 clips/s, 0 s left"]
