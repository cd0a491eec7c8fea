"""Performers drawn per second on one core, with all truth, at 128x128.

Gate: 60 frames a second in CPU time, median over people and rounds. `python -m benchmarks.performers_speed`; wall time is shown beside it
and equals it on a quiet machine. Equal: the last clip drawn again is the same in every array.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from dataclasses import fields

import numpy as np

from pipelines.performers import Performance, Truth, perform

_FRAMES, _ROUNDS, _SIZE = 48, 3, 128
_PEOPLE = ((2000, 1), (2003, 2), (2004, 3), (2007, 4))  # identity, motion
_GATE_FPS = 60.0


def _equal(first: Performance, second: Performance) -> bool:
    same = [np.array_equal(getattr(first.truth, field.name), getattr(second.truth, field.name)) for field in fields(Truth)]
    return bool(np.array_equal(first.frames, second.frames) and all(same))


def main() -> None:
    """Print one line."""
    import cv2

    cv2.setNumThreads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else _ROUNDS
    perform(0, 0, frames=2, size=_SIZE)  # imports
    cpu, wall = [], []
    for _ in range(rounds):
        for identity, motion in _PEOPLE:
            started = time.process_time(), time.perf_counter()
            last = perform(identity, motion, frames=_FRAMES, size=_SIZE)
            cpu.append(_FRAMES / (time.process_time() - started[0]))
            wall.append(_FRAMES / (time.perf_counter() - started[1]))
    equal = _equal(last, perform(*_PEOPLE[-1], frames=_FRAMES, size=_SIZE))
    rate = statistics.median(cpu)
    verdict = "pass" if rate >= _GATE_FPS and equal else "FAIL"
    print(
        f"performers_speed: {rate:.0f} frames/s of CPU time on one core ({statistics.median(wall):.0f} of wall time), all truth, "
        f"{_SIZE}x{_SIZE}, gate {_GATE_FPS:.0f}, equal {equal}: {verdict}"
    )


if __name__ == "__main__":
    main()
