"""Performers drawn by several processes: a frame is drawn mostly in Python, so that one process keeps one core busy, and threads only wait.

The parent draws a share itself. A video is there when its file is, because truth and video are written whole and the video last; so
children need to say nothing, and one that ends early costs nothing but time: who called draws what is left, and meets its error.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import IO, Any

from pipelines.orphan import child_environment, end_with_parent
from pipelines.performers import PerformerVideo, write_dataset
from pipelines.performers.recipe import Recipe

_LEAST_PIXELS = 150 * 128 * 128  # of a share: what is drawn while a child starts
_MOST_PIXELS = 100_000_000  # of the videos that are being drawn at a time: with their truth some 4 GB
_LOOK_EVERY_S = 0.2
_PEOPLE = ("identities", "test_identities")

Arguments = Mapping[str, Any]
"""Keyword arguments of `write_dataset`, without `skip` and `progress`."""


def draw_ahead(calls: Sequence[Arguments], missing: Sequence[PerformerVideo], progress: Callable[[], None]) -> None:
    """Draw these videos of the calls in as many processes as cores and memory allow; does nothing where that is one.

    progress: called now and then.  A child that fails is logged, and its videos stay missing.
    """
    shares = _shares(calls, missing)
    if len(shares) < 2:
        return
    with _drawing([(calls, share) for share in shares[1:]]) as children:
        _draw(calls, shares[0], progress)
        while any(child.poll() is None for child in children):
            time.sleep(_LOOK_EVERY_S)
            progress()
    for child in children:
        if child.returncode:
            logging.getLogger(__name__).warning(
                "a process that drew performers ended with status %s; the rest is drawn by the others", child.returncode
            )


def _shares(calls: Sequence[Arguments], missing: Sequence[PerformerVideo]) -> list[list[str]]:
    """File names for each process; one share where more would not pay."""
    pixels = max(_pixels(call) for call in calls) if calls else 0
    cores = len(os.sched_getaffinity(0))
    count = max(1, min(cores, len(missing) * pixels // _LEAST_PIXELS, _MOST_PIXELS // max(1, pixels), len(missing)))
    return [[video.path.name for video in missing[start::count]] for start in range(count)]


def _pixels(call: Arguments) -> int:
    """Of all frames of one video."""
    size = call.get("size", 128)
    height, width = (size, size) if isinstance(size, int) else size
    return int(call["frames"] * height * width)


def _draw(calls: Sequence[Arguments], names: Sequence[str], progress: Callable[[], None] | None = None) -> None:
    mine = frozenset(names)
    said = None if progress is None else lambda done, total: progress()
    for call in calls:
        write_dataset(**call, skip=lambda video: video.path.name not in mine, progress=said)


@contextmanager
def _drawing(work: Sequence[tuple[Sequence[Arguments], Sequence[str]]]) -> Iterator[list[subprocess.Popen[str]]]:
    """A child for each share; those that still draw when an error leaves the block are ended."""
    children: list[subprocess.Popen[str]] = []
    try:
        for calls, names in work:
            child = subprocess.Popen(
                [sys.executable, "-m", "pipelines.sources.performers_processes"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                env=child_environment(),
                text=True,
            )
            children.append(child)
            assert child.stdin is not None
            with suppress(BrokenPipeError), child.stdin as pipe:  # it ended before it read: said by its exit status
                _send(pipe, calls, names)
        yield children
    finally:
        for child in children:
            child.kill()  # no effect on one that has ended
            child.wait()


def _send(pipe: IO[str], calls: Sequence[Arguments], names: Sequence[str]) -> None:
    said = [
        {**call, "folder": os.path.abspath(call["folder"]), "recipe": asdict(call["recipe"]), **{who: [*call[who]] for who in _PEOPLE}}
        for call in calls
    ]
    json.dump({"calls": said, "names": [*names]}, pipe)


def _received(pipe: IO[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """What `_send` sent; lists were tuples, and a video names the settings that it was drawn with."""
    request = json.load(pipe)
    calls = [
        {**call, "folder": Path(call["folder"]), "size": _tuple(call["size"]), "recipe": Recipe(**_fields(call["recipe"]))}
        for call in request["calls"]
    ]
    return calls, request["names"]


def _fields(recipe: Mapping[str, Any]) -> dict[str, Any]:
    return {field.name: _tuple(recipe[field.name]) for field in fields(Recipe)}


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the parent ends its children, without their tracebacks
    end_with_parent()
    _draw(*_received(sys.stdin))
