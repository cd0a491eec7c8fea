"""Waiting for a slot of a pool, said aloud: Dagster waits silently, busily, and neither Ctrl-C nor SIGTERM ends it while it does."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager

import dagster as dg
from dagster._core.execution.plan.instance_concurrency_context import InstanceConcurrencyContext
from dagster._utils.concurrency import ConcurrencyKeyInfo
from dagster._utils.interrupts import check_captured_interrupt

from assets.run_marks import end_the_dead

_LOOK_EVERY_S = 2.0
_SLEEP_S = 0.5  # of the run's own loop
_INTERRUPTED = 130  # as the shell reports a process that Ctrl-C ended

Say = Callable[[str], None]


@contextmanager
def watched(instance: dg.DagsterInstance, run_id: str, pools: Set[str], say: Say) -> Iterator[None]:
    """Inside, a step of the run that has to wait says for whom, sleeps, does not wait for the dead, and can be interrupted."""
    if not pools:
        yield
        return
    done = threading.Event()

    def watch() -> None:
        said = set[str]()
        while not done.wait(_LOOK_EVERY_S):
            blocked = [info for info in _infos(instance, pools) if run_id in info.pending_run_ids]
            if blocked and not end_the_dead(instance):
                _say_once(instance, blocked, said, say)
                if check_captured_interrupt():
                    _leave(instance, run_id)

    watcher = threading.Thread(target=watch, name="pool watch", daemon=True)
    watcher.start()
    try:
        with _sleeping():
            yield
    finally:
        done.set()
        watcher.join()


@contextmanager
def _sleeping() -> Iterator[None]:
    """Dagster 1.13 means to sleep until it looks at a pool again, takes the minimum with 0, and so keeps a core busy that the other run needs."""
    hasty = InstanceConcurrencyContext.interval_to_next_pending_claim_check

    def interval(context: InstanceConcurrencyContext) -> float:
        return _SLEEP_S if context.has_pending_claims() else 0.0

    InstanceConcurrencyContext.interval_to_next_pending_claim_check = interval  # type: ignore[method-assign,assignment]  # a method, named `context`
    try:
        yield
    finally:
        InstanceConcurrencyContext.interval_to_next_pending_claim_check = hasty  # type: ignore[method-assign]  # put back


def _infos(instance: dg.DagsterInstance, pools: Set[str]) -> list[ConcurrencyKeyInfo]:
    return [instance.event_log_storage.get_concurrency_info(pool) for pool in sorted(pools)]


def _holders(info: ConcurrencyKeyInfo) -> dict[str, str]:
    """Run -> step, of those at work and of those whose turn it is: a slot is promised to the next in line before it comes for it."""
    promised = {step.run_id: step.step_key for step in info.pending_steps if step.assigned_timestamp is not None}
    return promised | {slot.run_id: slot.step_key for slot in info.claimed_slots}


def _say_once(instance: dg.DagsterInstance, full: list[ConcurrencyKeyInfo], said: set[str], say: Say) -> None:
    for info in full:
        for holder, step in _holders(info).items():
            if holder in said:
                continue
            said.add(holder)
            run = instance.get_run_by_id(holder)
            job = f"job {run.job_name}" if run else "a run that was deleted"
            say(
                f"waiting for the pool {info.concurrency_key}: {step} of {job}, run {holder[:8]}, has it "
                f"({info.limit} at a time; `dagster instance concurrency set {info.concurrency_key} N` changes that). Ctrl-C ends the waiting; "
                f"if nothing works on that run any more, terminate it in the UI, or `dagster run delete {holder}`"
            )


def _leave(instance: dg.DagsterInstance, run_id: str) -> None:
    """End the process: nothing of the run is under way, and the loop that it waits in looks at no signal."""
    run = instance.get_run_by_id(run_id)
    if run is not None:
        instance.report_run_canceled(run, "Interrupted while it waited for a pool.")
    instance.event_log_storage.free_concurrency_slots_for_run(run_id)
    os._exit(_INTERRUPTED)
