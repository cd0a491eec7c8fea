"""Memory of extraction: `python -m benchmarks.memory`. Flat over 1 to 1,000 clips, and over the length of a clip.

Each point is a process of its own that extracts with the serial engine (worker and driver in one) and reports the peak of its
anonymous memory, sampled every 10 ms; pages of mapped files, which the kernel takes back when it needs them, do not count.
For the lengths the reader's bound is set to 32 MB, so that short videos show what hours would.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pipelines.clip_reader
from benchmarks.extraction_memory import Cheap
from benchmarks.generated_video import clip_of, shot, write
from pipelines.extract import extract
from pipelines.lake import Lake

_BOUND = 32 << 20


def anonymous_mb() -> float:
    """This process's anonymous memory now, MB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


@contextmanager
def peak_mb(every: float = 0.01) -> Iterator[list[float]]:
    """[peak of this process's anonymous memory while inside], MB, looked at every so many seconds."""
    peak, over = [0.0], threading.Event()

    def watch() -> None:
        while not over.is_set():
            peak[0] = max(peak[0], anonymous_mb())
            time.sleep(every)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()


def measure(folder: Path, clips: int, frames: int) -> float:
    """Peak MB of this process over an extraction of `clips` clips of `frames` frames."""
    pipelines.clip_reader.IN_MEMORY_BYTES = _BOUND
    pipelines.clip_reader._CHUNK_BYTES = _BOUND // 4
    video = clip_of(folder / f"{frames}.mp4", 0, frames)
    lake = Lake(Path(tempfile.mkdtemp(dir=folder))).create()
    with peak_mb() as peak:
        report = extract(
            [Cheap(str(folder / "pid"))], [replace(video, clip_id=f"c{i}") for i in range(clips)], lake, "serial", progress=False
        )
    assert report.failed == 0, report.failures[:1]
    return peak[0]


def in_process(folder: Path, clips: int, frames: int) -> float:
    """`measure` in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.memory", "--measure", str(folder), str(clips), str(frames)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Print peaks and gates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most-clips", type=int, default=1000)
    parser.add_argument("--most-frames", type=int, default=2048)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.measure:
        print(measure(Path(chosen.measure[0]), *map(int, chosen.measure[1:])))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for frames in (24, 512, chosen.most_frames):
            write(folder / f"{frames}.mp4", shot(frames, 1, 256, 256), 256, 256)
        counts = {n: in_process(folder, n, 24) for n in (1, 10, 100, 300, 1000) if n <= chosen.most_clips}
        lengths = {n: in_process(folder, 2, n) for n in (512, chosen.most_frames)}
    # Rows wait for a commit of 32 clips at most, so a hundred clips may hold more than ten, and a thousand no more than a hundred.
    flat = max(counts.values()) <= 1.25 * counts[min(100, max(counts))] and lengths[chosen.most_frames] <= 1.25 * lengths[512]
    print(
        "memory, peak MB: " + ", ".join(f"{n} clips {mb:.0f}" for n, mb in counts.items()) + "; "
        + ", ".join(f"{n} frames of 256x256 {mb:.0f}" for n, mb in lengths.items()) + f": {'flat' if flat else 'NOT FLAT'}"
    )  # fmt: skip


if __name__ == "__main__":
    main()
