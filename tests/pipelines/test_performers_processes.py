"""Performers drawn by several processes: the same bytes as by one, and nothing lost where a process ends early."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.lake import Lake
from pipelines.performers import write_dataset
from pipelines.performers.recipe import Recipe
from pipelines.sources import performers_processes
from pipelines.sources.performers import scan_performers
from pipelines.sources.performers_processes import _shares, draw_ahead

OPTIONS = {"train_identities": 2, "test_identities": 1, "train_clips": 2, "test_clips": 1, "frames": 4, "size": "96x64"}
TWO, ONE = {0, 1}, {0}


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> Callable[[set[int]], None]:
    """Sets which cores this process may use; small shares pay."""
    monkeypatch.setattr(performers_processes, "_LEAST_PIXELS", 1)
    return lambda usable: monkeypatch.setattr(performers_processes.os, "sched_getaffinity", lambda _: usable)


def _files(lake: Lake) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (lake.root / "videos" / "people").iterdir()}


def test_two_processes_draw_what_one_draws_and_nothing_twice(
    tmp_path: Path, cores: Callable[[set[int]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Classes go round by place, and a video names its settings: a child has to plan as its parent does."""
    lakes = [Lake(tmp_path / name).create() for name in ("one", "two")]
    said: list[tuple[int, int]] = []
    drawn: list[str] = []
    options = {**OPTIONS, "places": "stage,studio", "cuts": 1, "persons": 2}
    cores(ONE)
    rows = [scan_performers(lakes[0], "people", options, kind="performers_actions")]
    cores(TWO)
    monkeypatch.setattr("pipelines.performers.dataset._write", _noting(drawn))
    rows.append(scan_performers(lakes[1], "people", options, lambda *done: said.append(done), kind="performers_actions"))
    names = sorted(_files(lakes[0]))
    assert len(names) == 10
    assert 0 < len(drawn) < 5  # the others were drawn by the child, and not again
    assert _files(lakes[1]) == _files(lakes[0])
    assert [(row["video_id"], row["annotations"], row["sha256"]) for row in rows[0]] == [
        (row["video_id"], row["annotations"], row["sha256"]) for row in rows[1]
    ]
    assert said == sorted(said)
    assert said[-1] == (5, 5)


def _noting(drawn: list[str]) -> Callable[..., None]:
    from pipelines.performers.dataset import _write

    def write(video: Any, job: Any) -> None:
        drawn.append(video.path.name)
        _write(video, job)

    return write


def test_a_child_that_ends_early_costs_only_time(
    tmp_path: Path, cores: Callable[[set[int]], None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cores(TWO)
    monkeypatch.setattr(performers_processes.sys, "executable", "/bin/false")
    lake = Lake(tmp_path).create()
    assert len(scan_performers(lake, "people", OPTIONS)) == len(_files(lake)) // 2 == 5
    assert "a process that drew performers ended with status 1" in caplog.text


def test_an_error_here_ends_the_children(tmp_path: Path, cores: Callable[[set[int]], None], monkeypatch: pytest.MonkeyPatch) -> None:
    cores(TWO)
    started: list[subprocess.Popen[str]] = []
    popen = subprocess.Popen
    monkeypatch.setattr(
        performers_processes.subprocess, "Popen", lambda *given, **named: started.append(popen(*given, **named)) or started[-1]
    )

    def interrupted() -> None:
        raise KeyboardInterrupt

    call = {"folder": tmp_path, "name": "x", "identities": range(4), "test_identities": [], "clips_per_identity": 1, "frames": 60,
            "size": 128, "seed": 0, "recipe": Recipe()}  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        draw_ahead([call], write_dataset(**call, skip=lambda _: True), interrupted)
    assert [child.returncode for child in started] == [-9]


@pytest.mark.parametrize(
    ("frames", "size", "videos", "count"),
    [(36, 128, 32, 7), (36, 128, 3, 1), (300, (768, 576), 32, 1), (36, 512, 32, 8), (120, (512, 384), 32, 4)],
)
def test_as_many_processes_as_cores_work_and_memory_allow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frames: int, size: int | tuple[int, int], videos: int, count: int
) -> None:
    monkeypatch.setattr(performers_processes.os, "sched_getaffinity", lambda _: set(range(8)))
    call = {"folder": tmp_path, "identities": range(videos), "test_identities": [], "clips_per_identity": 1, "frames": frames, "size": size}
    shares = _shares([call], write_dataset(**call, skip=lambda _: True))
    assert len(shares) == count
    assert len({name for share in shares for name in share}) == sum(map(len, shares)) == videos
