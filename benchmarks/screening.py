"""Screening: clips per second from rows and videos, and how near-duplicate search and leak search grow.

    python -m benchmarks.screening --clips 40 --hashes 100000 --faces 20000

The clips are one performer of 48 frames at 256 px, under many ids.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np

from pipelines.extract import SerialEngine, extract
from pipelines.extractors.truth import Truth
from pipelines.lake import Lake
from pipelines.performers import truth_path
from pipelines.performers.performer import perform
from pipelines.screen import screen_into
from pipelines.screen_hash import close_pairs, distances
from pipelines.screen_leaks import leaks_between
from pipelines.screen_rule import RULES
from pipelines.screen_sources import ScreenSources
from pipelines.video import encode_video

FRAMES, SIZE = 48, 256


def _lake(root: Path, clips: int) -> Lake:
    lake = Lake(root).create()
    performance = perform(1, 1, frames=FRAMES, size=SIZE, background=1)
    path = lake.root / "videos" / "one.mp4"
    performance.truth.save(truth_path(path))
    encode_video(path, performance.frames, Fraction(24))
    rows = [
        {
            "dataset": "bench", "clip_id": f"c{i:05d}", "video_id": f"v{i:05d}", "uri": lake.uri(path), "split": "train", "start_frame": 0,
            "end_frame": FRAMES, "time_base_num": 1, "time_base_den": 24, "fps_num": 24, "fps_den": 1, "width": SIZE, "height": SIZE,
            "status": "ok",
        }
        for i in range(clips)
    ]  # fmt: skip
    lake.write("clips", rows)
    extract([Truth()], lake.clips("bench"), lake, SerialEngine(), progress=False)
    return lake


def _clips_per_second(clips: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        lake = _lake(Path(folder), clips)
        sources = ScreenSources(poses="truth", faces="truth", body_masks="truth")
        report = screen_into(lake, "bench", rule=RULES["performers"], sources=sources, progress=False)
        assert report.scored == clips
        assert not report.failures
        return clips / report.seconds


def _median_seconds(work: Callable[[], object], rounds: int = 3) -> float:
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def _brute(hashes: np.ndarray[tuple[int], np.dtype[np.uint64]], radius: int) -> int:
    return sum(int((distances(hashes[i : i + 1], hashes[i + 1 :]) <= radius).sum()) for i in range(len(hashes) - 1))


def _pairs(hashes: np.ndarray[tuple[int], np.dtype[np.uint64]], radius: int) -> int:
    codes = [left * len(hashes) + right for left, right in close_pairs(hashes, radius)]
    return len(np.unique(np.concatenate(codes))) if codes else 0


def main() -> None:
    """Prints one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--hashes", type=int, default=100_000)
    parser.add_argument("--faces", type=int, default=20_000)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 1 << 63, options.hashes, dtype=np.uint64)
    few = np.concatenate([hashes[:3000], hashes[:300] ^ np.uint64(0b1011)])
    assert _pairs(few, 8) == _brute(few, 8) >= 300
    search = _median_seconds(lambda: _pairs(hashes, 8))
    every = _median_seconds(lambda: _brute(few, 8)) * (len(hashes) / len(few)) ** 2  # quadratic, so not run in full
    rows = rng.normal(size=(options.faces, 512)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    faces = {f"c{i}": row for i, row in enumerate(rows)}
    splits = {clip: "test" if i % 5 == 0 else "train" for i, clip in enumerate(faces)}
    leaks = _median_seconds(lambda: leaks_between(faces, splits))
    print(
        f"screening: {_clips_per_second(options.clips):.1f} clips/s ({FRAMES} frames of {SIZE} px); "
        f"{options.hashes} hashes within 8 bits: {search:.2f} s, every pair about {every:.1f} s, ratio {every / search:.1f}, equal on {len(few)}; "
        f"leaks of {options.faces} faces of 512 numbers: {leaks:.2f} s"
    )


if __name__ == "__main__":
    main()
