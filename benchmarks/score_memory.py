"""Memory of scoring: `python -m benchmarks.score_memory`. Flat from 10 to 1,000 clips.

Each point is a process of its own that scores one method on so many clips and reports the peak of its anonymous memory (benchmarks/memory.py).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.memory import peak_mb
from benchmarks.metric_suite import DATASET, PROTOCOL, SPLIT, make_lake
from eval.score import score
from pipelines.lake import Lake


def measure(root: Path, prediction_id: str) -> float:
    """Peak MB of this process while it scores."""
    with peak_mb() as peak:
        report = score(Lake(root), protocol=PROTOCOL, dataset=DATASET, split=SPLIT, prediction_id=prediction_id)
    assert (report.failed, report.scored) == ([], report.clips)
    return peak[0]


def main() -> None:
    """Print peaks and the gate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--frames", type=int, default=18)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.measure:
        print(measure(Path(chosen.measure[0]), chosen.measure[1]))
        return
    peaks = {}
    for clips in chosen.clips:
        with tempfile.TemporaryDirectory() as name:
            lake, prediction_id, _ = make_lake(Path(name), clips, chosen.frames, chosen.size)
            command = [sys.executable, "-m", "benchmarks.score_memory", "--measure", str(lake.root), prediction_id]
            peaks[clips] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    flat = max(peaks.values()) <= 1.25 * peaks[min(peaks)]
    text = ", ".join(f"{n} clips {mb:.0f}" for n, mb in peaks.items())
    print(f"score_memory, peak MB ({chosen.frames} frames of {chosen.size}x{chosen.size}): {text}: {'flat' if flat else 'NOT FLAT'}")


if __name__ == "__main__":
    main()
