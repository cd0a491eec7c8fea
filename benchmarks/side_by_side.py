"""Two ways of doing one thing, in one process and in turns: what every benchmark here prints."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def alternate(sides: Mapping[str, Callable[[], object]], rounds: int, *, rest: float = 0.0) -> dict[str, float]:
    """Median seconds of each side; the sides take turns, `rounds` times.

    rest: seconds before each turn, for sides that compute with different libraries: a library's threads go on spinning after a call.
    """
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, run in sides.items():
            time.sleep(rest)
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def report(name: str, seconds: Mapping[str, float], ratios: Mapping[str, tuple[float, float | None]], equal: str) -> bool:
    """One line: medians, then each ratio with its gate (None: reported only), then what was asserted. True when every gate holds."""
    medians = " ".join(f"{side}={value:.3f}s" for side, value in seconds.items())
    parts = []
    for label, (ratio, gate) in ratios.items():
        verdict = "" if gate is None else f" (gate {gate:g}: {'holds' if ratio >= gate else 'FAILS'})"
        parts.append(f"{label}={ratio:.2f}x{verdict}")
    print(f"{name}: {medians} | {'; '.join(parts)} | {equal}")
    return all(gate is None or ratio >= gate for ratio, gate in ratios.values())
