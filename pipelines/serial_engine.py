"""The worker in this process, one clip after the other: for tests, debugging and small runs."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from pipelines.extract_worker import Result, Task, Worker, WorkerSpec, failed
from pipelines.heap import map_large_blocks


class _Late(BaseException):
    """The clip's time is over; not an Exception, so that no extractor takes it for a failure of its own."""


class SerialEngine:
    """In this process, one clip after the other, the next one decoded ahead.

    The time limit is a timer signal: it stops Python code, waiting and sleeping, and native code as soon as that returns to
    Python. It cannot stop native code that never returns, and works in the main thread only (elsewhere there is no limit);
    the Ray engine kills whatever it is.
    """

    name = "serial"

    def run(self, worker: WorkerSpec, tasks: Sequence[Task], time_limit_s: float) -> Iterator[Result | None]:
        """Results in the order of the tasks."""
        map_large_blocks()
        process = Worker(worker)
        process.load()
        process.announce(tasks[0].clip)
        for task, following in zip(tasks, [*tasks[1:], None], strict=True):
            if following is not None:
                process.announce(following.clip)
            try:
                with _time_limit(time_limit_s):
                    result = process.run(task)
            except _Late:
                process.forget_ahead()
                result = failed(worker, task, "timeout", f"not finished in {time_limit_s:g} s; raise the time limit, or cut the clip")
            yield result


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise _Late in the main thread when the time is over."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def late(signum: int, frame: FrameType | None) -> None:
        raise _Late

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0)
        finally:  # the signal may come within this very block
            signal.signal(signal.SIGALRM, before)
