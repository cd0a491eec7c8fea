"""Memory of extraction through Ray, driver and worker apart: `python -m benchmarks.extraction_memory`. Flat over the number of clips.

The same short video is extracted under 1, 100 and 1,000 ids by an extractor that costs next to nothing, each time in a fresh process with one
Ray actor. Reported is the peak of anonymous memory of the driver and of its worker, sampled every 20 ms (pages of mapped files, which the
kernel takes back when it needs them, do not count). Gate: from the second to the last point neither grows by more than a tenth.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.generated_video import clip_of, shot, write
from pipelines.clip import Clip, Frames
from pipelines.extract import Rows, extract
from pipelines.lake import Lake

FRAMES, SIDE = 24, 256
GROWTH = 0.10
_SECONDS = 0.02


@dataclass
class Cheap:
    """The mean colour of every frame; its worker leaves its process id in a file."""

    pid_file: str
    name: str = "cheap"
    version: int = 1
    tables: tuple[str, ...] = ("clip_embeddings",)

    def weights_digest(self) -> str:
        return ""

    def load(self, device: str) -> Callable[[Clip, Frames], Rows]:
        Path(self.pid_file).write_text(str(os.getpid()))
        return lambda clip, frames: {"clip_embeddings": [{"embedding": image.mean(axis=(0, 1)).tolist()} for image in frames]}


def anonymous_mb(pid: int) -> float:
    """Anonymous memory of a process, MB; 0 where it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("RssAnon")), 0.0)


@contextmanager
def peaks(pid_file: Path) -> Iterator[dict[str, float]]:
    """Peaks while inside: of this process, and of the one that `pid_file` names once it is there."""
    most, over = {"driver": 0.0, "worker": 0.0}, threading.Event()

    def watch() -> None:
        while not over.wait(_SECONDS):
            most["driver"] = max(most["driver"], anonymous_mb(os.getpid()))
            named = pid_file.read_text() if pid_file.is_file() else ""
            most["worker"] = max(most["worker"], anonymous_mb(int(named)) if named else 0.0)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


def measure(folder: Path, clips: int) -> dict[str, float]:
    """Peak MB of driver and worker over an extraction of `clips` clips, and the seconds it took."""
    from pipelines.engine import RayEngine

    video = clip_of(folder / "a.mp4", 0, FRAMES)
    lake, pid_file = Lake(Path(tempfile.mkdtemp(dir=folder))).create(), folder / f"worker{clips}"
    wanted, started = [replace(video, clip_id=f"c{i:05d}") for i in range(clips)], time.monotonic()
    with tempfile.TemporaryDirectory() as place, peaks(pid_file) as most:
        report = extract([Cheap(str(pid_file))], wanted, lake, RayEngine(actors=1, num_cpus=1, temp_dir=Path(place)), progress=False)
    assert report.extracted == clips, report.failures[:1]
    assert most["worker"] > 0
    return {**most, "seconds": time.monotonic() - started}


def in_process(folder: Path, clips: int) -> dict[str, float]:
    """`measure` in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.extraction_memory", "--measure", str(folder), str(clips)]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    peak: dict[str, float] = json.loads(said.splitlines()[-1])
    return peak


def main() -> None:
    """Print peaks and the gate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, nargs="+", default=[1, 100, 1000])
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.measure:
        print(json.dumps(measure(Path(chosen.measure[0]), int(chosen.measure[1]))))
        return
    with tempfile.TemporaryDirectory() as name:
        write(Path(name) / "a.mp4", shot(FRAMES, 1, SIDE, SIDE), SIDE, SIDE)
        points = {count: in_process(Path(name), count) for count in sorted(chosen.clips)}
    last, base = points[max(points)], points[sorted(points)[min(1, len(points) - 1)]]
    growth = {side: last[side] / base[side] - 1 for side in ("driver", "worker")}
    print(
        "extraction memory, peak MB (driver, worker): "
        + ", ".join(f"{count} clips {peak['driver']:.0f} {peak['worker']:.0f}" for count, peak in points.items())
        + "; growth " + ", ".join(f"{side} {share:+.1%}" for side, share in growth.items())
        + f" (gate {GROWTH:.0%}): {'flat' if max(growth.values()) <= GROWTH else 'NOT FLAT'}"
    )  # fmt: skip


if __name__ == "__main__":
    main()
