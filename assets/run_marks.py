"""Which runs' processes are alive: each keeps a file locked, which the kernel unlocks however the process ends.

A step's slot in one of Dagster's pools is given back by the step's own process. Where that was killed (kill -9, memory, power), every later
step of the pool would wait for ever: Dagster's own monitoring asks the run launcher, and the one that starts processes on this machine cannot
tell. Machines that share an instance each have a folder of their own and say nothing of the others' runs.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import dagster as dg

_held: dict[str, IO[bytes]] = {}


def folder(instance: dg.DagsterInstance) -> Path:
    """Where the instance's marks are on this machine."""
    return Path(instance.storage_directory()) / "running"


@contextmanager
def marked(instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    """Inside, others see that the run has a process."""
    mark(instance, run_id)
    try:
        yield
    finally:
        _held.pop(run_id).close()
        (folder(instance) / run_id).unlink(missing_ok=True)


def mark(instance: dg.DagsterInstance, run_id: str) -> None:
    """Mark the run as this process's until the process ends; nothing where it is marked already."""
    if run_id in _held:
        return
    path = folder(instance) / run_id
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = path.with_name(f".{run_id}.{os.getpid()}")  # locked before anybody can see it
    held = hidden.open("wb")
    fcntl.flock(held, fcntl.LOCK_EX)
    os.replace(hidden, path)
    _held[run_id] = held


def end_the_dead(instance: dg.DagsterInstance) -> list[str]:
    """End the runs whose process is gone; what they and runs that are over or deleted held of pools is free. Returns the ids of the ended."""
    ended = []
    for path in sorted(folder(instance).glob("[!.]*")):
        if _is_unlocked(path):
            run = instance.get_run_by_id(path.name)
            if run is not None and not run.is_finished:
                instance.report_run_canceled(run, "The process of this run is gone: it was killed, or the machine was.")
                ended.append(run.run_id)
            instance.event_log_storage.free_concurrency_slots_for_run(path.name)
            path.unlink(missing_ok=True)
    _free_what_the_ended_hold(instance)
    return ended


def _free_what_the_ended_hold(instance: dg.DagsterInstance) -> None:
    for run_id in instance.event_log_storage.get_concurrency_run_ids():
        run = instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            instance.event_log_storage.free_concurrency_slots_for_run(run_id)


def _is_unlocked(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False  # its process ended it just now
    except BlockingIOError:
        return False
    return True
