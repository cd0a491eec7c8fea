"""Ray: actors that load their networks once, a bounded number of clips in flight, a time limit per clip.

This file and engine_train.py alone import ray. RAY_ADDRESS set: that cluster. Unset: a local Ray that ends with the run, and that no other
process joins. docs/engine.md says what happens when a clip, a worker, a node or a disk fails.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, NodeDiedError, ObjectLostError, OutOfDiskError, OutOfMemoryError, RayActorError, RayTaskError

from pipelines.engine_slot import Slot
from pipelines.errors import UserError
from pipelines.extract_worker import Result, Task, Worker, WorkerSpec, failed
from pipelines.heap import limit_arenas_of_children

_IN_FLIGHT = 2  # clips per actor: one at work, one that is decoded ahead
_LOAD_LIMIT_S = 600.0
_FETCH_LIMIT_S = 60.0  # for a finished result that lies on another node
_ANSWER_LIMIT_S = 20.0  # a worker that is asked for its time and says nothing for so long is stuck in native code
_RECOUNT_S = 5.0  # an actor that does not start by then may wait for a node that has left
_DEATHS = (RayActorError, NodeDiedError, ObjectLostError, OutOfMemoryError, GetTimeoutError)  # a worker, or its node with the rows
_LOCAL_TOKEN = secrets.token_hex(32)  # Ray reads a token once per process, so it is drawn once per process


class RayEngine:
    """Runs tasks on Ray actors.

    actors: default one per CPU (or per 1 / num_gpus of a GPU), never more than tasks.
    num_cpus, temp_dir: of the local Ray (default all; sockets and logs).  num_gpus: the fraction of a GPU that one actor takes.
    """

    name = "ray"

    def __init__(
        self, *, actors: int | None = None, num_cpus: int | None = None, num_gpus: float = 0.0, temp_dir: Path | None = None
    ) -> None:
        self._actors, self._num_cpus, self._num_gpus, self._temp_dir = actors, num_cpus, num_gpus, temp_dir

    def run(self, worker: WorkerSpec, tasks: Sequence[Task], time_limit_s: float) -> Iterator[Result | None]:
        """Results as they come, None when a second went by without one. Raises UserError where a worker cannot load."""
        ours = connect(self._num_cpus, self._temp_dir, shared_storage=worker.shared_storage)
        pool = None
        try:
            pool = _Pool(worker, deque(tasks), self._size(len(tasks)), self._num_gpus, time_limit_s)
            while pool.busy:
                yield from pool.step()
        except OutOfDiskError:
            place = self._temp_dir or "/tmp/ray"
            raise UserError(f"the disk of Ray's temporary folder is full ({place}); free some space, or set RAY_TMPDIR") from None
        finally:
            if pool is not None:
                pool.kill()
            if ours:
                ray.shutdown()

    def _size(self, tasks: int) -> int:
        most = _room(self._num_gpus)
        if not most and self._num_gpus:
            held = f"Ray has {ray.cluster_resources().get('GPU', 0):g}"
            raise UserError(f"an actor wants {self._num_gpus} GPU, {held}; choose the device cpu, or a cluster with GPUs")
        return max(1, min(self._actors or most, most, tasks))


def _room(num_gpus: float) -> int:
    """Actors that the nodes have room for now."""
    resources = ray.cluster_resources()
    return int(resources.get("GPU", 0) / num_gpus) if num_gpus else int(resources.get("CPU", 1))


def connect(num_cpus: int | None, temp_dir: Path | None, *, shared_storage: bool) -> bool:
    """Connect to Ray; True where we started it or joined it, so that we also leave it."""
    if ray.is_initialized():
        return False
    address = os.environ.get("RAY_ADDRESS")
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if not address:
        # Ray 2.60 takes a token from the environment, else from a file that it writes into the home folder. Ours lives in our processes only.
        os.environ.setdefault("RAY_AUTH_TOKEN", _LOCAL_TOKEN)
        limit_arenas_of_children()
        place = {} if temp_dir is None else {"_temp_dir": str(temp_dir)}
        ray.init(address="local", num_cpus=num_cpus, include_dashboard=False, **quiet, **place)
        return True
    try:
        _knock(address)
        ray.init(address=address, **quiet)
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"RAY_ADDRESS={address}: no Ray cluster answers ({error}); start it, give its token (RAY_AUTH_TOKEN), or unset RAY_ADDRESS"
        ) from None
    if not shared_storage:
        _refuse_other_machines(address)
    return True


def _knock(address: str) -> None:
    """OSError where nothing listens: ray.init itself would wait for minutes. "auto" is left to Ray."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def _refuse_other_machines(address: str) -> None:
    here = ray.util.get_node_ip_address()
    others = sorted({node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]} - {here, "127.0.0.1"})
    if others:
        ray.shutdown()
        raise UserError(
            f"RAY_ADDRESS={address} has other machines ({', '.join(others)}), but the lake and the videos are local "
            "folders that they cannot read; set ROTOSCOPE_HOME to an s3:// root, or unset RAY_ADDRESS to run on this machine"
        )


class _Actor:
    """Runs in a Ray worker process."""

    def __init__(self, spec: WorkerSpec) -> None:
        self._worker = Worker(spec)

    def load(self) -> None:
        self._worker.load()

    @ray.method(concurrency_group="ahead")  # type: ignore[untyped-decorator]
    def announce(self, task: Task) -> None:
        """Arrives while `run` is at work on another clip."""
        self._worker.announce(task.clip)

    def run(self, task: Task) -> Result:
        return self._worker.run(task)

    @ray.method(concurrency_group="asked")  # type: ignore[untyped-decorator]
    def seconds_on(self, task: Task) -> float:
        """Answered while `run` is at work."""
        return self._worker.seconds_on(task)


class _Pool:
    """The actors and what they do. We replace them: Ray's own restart would not know which clip killed an actor, nor count its tries."""

    _MOST_LOAD_DEATHS = 5  # one after the other: nodes that leave while workers start also end here

    def __init__(self, spec: WorkerSpec, waiting: deque[Task], size: int, num_gpus: float, time_limit_s: float) -> None:
        self._spec, self._waiting, self._time_limit_s = spec, waiting, time_limit_s
        wants = {"num_cpus": 0 if num_gpus else 1, "num_gpus": num_gpus, "max_restarts": 0, "max_task_retries": 0}
        self._actor_class = ray.remote(**wants, concurrency_groups={"ahead": 1, "asked": 1})(_Actor)
        self._num_gpus = num_gpus
        self._retried: set[Task] = set()
        self._load_deaths = 0
        self._slots = [self._new_slot() for _ in range(size)]

    @property
    def busy(self) -> bool:
        """Something waits or runs."""
        return bool(self._waiting) or any(slot.tasks for slot in self._slots)

    def step(self) -> Iterator[Result | None]:
        """Fill the actors, wait up to a second for one of them, enforce the time limit."""
        self._fill()
        heads = {slot.calls[0][0]: slot for slot in self._slots if slot.calls}
        ready, _ = ray.wait(list(heads), num_returns=1, timeout=1.0)
        for call in ready:
            yield from self._finish(heads[call])
        if not ready:
            yield None
        for slot in list(self._slots):
            yield from self._stop_if_late(slot)

    def kill(self) -> None:
        """Stop all actors at once."""
        for slot in self._slots:
            ray.kill(slot.actor, no_restart=True)

    def _new_slot(self) -> Slot:
        actor = self._actor_class.remote(self._spec)
        return Slot(actor=actor, calls=deque([(actor.load.remote(), None)]))

    def _fill(self) -> None:
        """One clip for everybody before anybody gets a second."""
        for depth in range(1, _IN_FLIGHT + 1):
            for slot in self._slots:
                if self._waiting and len(slot.calls) < min(depth, self._most_calls(slot)):
                    self._give(slot, self._waiting.popleft())

    def _most_calls(self, slot: Slot) -> int:
        """A clip on its second try has a worker to itself, so that a death is never blamed on a neighbour that was decoded ahead."""
        return 1 if self._waiting[0] in self._retried or not self._retried.isdisjoint(slot.tasks) else _IN_FLIGHT

    def _give(self, slot: Slot, task: Task) -> None:
        slot.actor.announce.remote(task)
        slot.calls.append((slot.actor.run.remote(task), task))
        if len(slot.calls) == 1:
            slot.begin()

    def _finish(self, slot: Slot) -> Iterator[Result]:
        call, task = slot.calls[0]
        try:
            result = ray.get(call, timeout=_FETCH_LIMIT_S)
        except _DEATHS as error:
            yield from self._died(slot, task, error)
            return
        except RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise error.cause from None
            raise
        slot.calls.popleft()
        slot.begin()
        if task is None:
            self._load_deaths = 0
        else:
            yield result

    def _died(self, slot: Slot, task: Task | None, error: Exception) -> Iterator[Result]:
        """The clip at work gets one more try, then its code; what waited behind it just waits again."""
        self._replace(slot, again=slot.tasks[1:] if task is not None else slot.tasks)
        if task is None:
            self._load_deaths += 1
            if self._load_deaths >= self._MOST_LOAD_DEATHS:
                last = next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
                raise UserError(
                    f"Ray workers die while they load the networks; the last one: {last}; if memory is short, use fewer actors, or engine=serial"
                )
        elif task in self._retried:
            reason = "the worker process died twice on this clip; look for a broken video or lack of memory"
            yield failed(self._spec, task, "worker_died", reason)
        else:
            self._retried.add(task)
            self._waiting.append(task)

    def _stop_if_late(self, slot: Slot) -> Iterator[Result]:
        if not slot.calls:
            return
        task, late = slot.calls[0][1], time.monotonic() - slot.since
        if task is None and late > _RECOUNT_S and len(self._slots) > max(1, _room(self._num_gpus)):
            self._drop(slot)
            return
        limit = _LOAD_LIMIT_S if task is None else self._time_limit_s
        if late < limit or ray.wait([slot.calls[0][0]], timeout=0)[0]:
            return  # finished or dead: the driver was busy, the next step looks at it
        if task is None:
            raise UserError(
                f"a Ray worker did not load its networks in {limit:g} s; check RAY_ADDRESS and the weights, or use engine=serial"
            )
        if not self._worker_agrees(slot, task):
            return
        self._replace(slot, again=slot.tasks[1:])
        yield failed(self._spec, task, "timeout", f"not finished in {limit:g} s; raise the time limit, or cut the clip")

    def _worker_agrees(self, slot: Slot, task: Task) -> bool:
        """Whether the clip has used up its time by the worker's own clock: a clip that waited for a busy driver, node or queue is not late."""
        now = time.monotonic()
        if slot.question is None:
            slot.question = (slot.actor.seconds_on.remote(task), now)
            return False
        answer, asked = slot.question
        if not ray.wait([answer], timeout=0)[0]:
            return now - asked >= _ANSWER_LIMIT_S
        try:
            seconds: float = ray.get(answer, timeout=_FETCH_LIMIT_S)
        except _DEATHS:
            return False  # its call fails as well, and is looked at there
        slot.question, slot.since = None, asked - seconds
        return seconds >= self._time_limit_s

    def _replace(self, slot: Slot, again: Sequence[Task]) -> None:
        """Kill the actor and start another one; `again` goes back to the head of the queue."""
        ray.kill(slot.actor, no_restart=True)
        self._waiting.extendleft(reversed(again))
        fresh = self._new_slot()
        slot.actor, slot.calls = fresh.actor, fresh.calls
        slot.begin()

    def _drop(self, slot: Slot) -> None:
        """Do without an actor for which no node has room any more."""
        ray.kill(slot.actor, no_restart=True)
        self._waiting.extendleft(reversed(slot.tasks))
        self._slots.remove(slot)
