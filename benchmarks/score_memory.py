"""Memory of scoring and of the benchmark table: `python -m benchmarks.score_memory [--clips 10 100 300 1000]`. Flat from 10 to 1,000 clips.

Each point is a process of its own, on one core, that scores one method on so many clips, then makes the table, and reports the peaks of its
anonymous memory meanwhile (benchmarks/memory.py).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.memory import peak_mb
from benchmarks.metric_suite import DATASET, PROTOCOL, SPLIT, make_lake, only_these_metrics
from eval.benchmark import benchmark
from eval.score import score
from pipelines.lake import Lake

STEPS = ("score", "benchmark")


def measure(root: Path, prediction_id: str) -> dict[str, float]:
    """Step -> peak MB of this process while it runs."""
    lake = Lake(root)
    with peak_mb() as scoring:
        report = score(lake, protocol=PROTOCOL, dataset=DATASET, split=SPLIT, prediction_id=prediction_id)
    assert (report.failed, report.scored) == ([], report.clips)
    with peak_mb() as table:
        rows = benchmark(lake, protocol=PROTOCOL, dataset=DATASET, split=SPLIT).to_pylist()
    assert {row["clips"] for row in rows if row["value"] is not None} == {report.clips}
    return dict(zip(STEPS, (scoring[0], table[0]), strict=True))


def in_process(clips: int, frames: int, size: int) -> dict[str, float]:
    """`measure` in a fresh process on one core, over a lake of so many clips."""
    with tempfile.TemporaryDirectory() as name:
        lake, prediction_id, _ = make_lake(Path(name), clips, frames, size)
        command = [sys.executable, "-m", "benchmarks.score_memory", "--measure", str(lake.root), prediction_id]
        one_core = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=one_core)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    """Print peaks, their growth and the gate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, nargs="+", default=[10, 100, 300])
    parser.add_argument("--frames", type=int, default=18)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.measure:
        with only_these_metrics():  # the others have no value where no face is found, as in the drawn noise here
            print(json.dumps(measure(Path(chosen.measure[0]), chosen.measure[1])))
        return
    started = time.monotonic()
    peaks = {clips: in_process(clips, chosen.frames, chosen.size) for clips in sorted(chosen.clips)}
    parts, flat = [], True
    for step in STEPS:
        values = [peak[step] for peak in peaks.values()]
        flat = flat and max(values) <= 1.25 * values[0]
        listed = ", ".join(f"{clips} clips {value:.0f}" for clips, value in zip(peaks, values, strict=True))
        parts.append(f"{step} {listed}, growth {max(values) / values[0]:.2f}x")
    seconds = time.monotonic() - started
    print(f"score_memory, peak MB ({chosen.frames} frames of {chosen.size}x{chosen.size}): {'; '.join(parts)} "
          f"(gate 1.25: {'flat' if flat else 'NOT FLAT'}); {seconds:.0f} s")  # fmt: skip


if __name__ == "__main__":
    main()
