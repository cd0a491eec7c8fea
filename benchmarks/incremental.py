"""Adding 10 clips to 1,000: `python -m benchmarks.incremental`. Ten are processed, in under 3 % of the full run, start-up aside.

Start-up is what extract() takes when every clip is there already (Ray is not even started then) plus what Ray takes for one clip.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.extraction_speed import OnnxNetwork, clips_of, networks
from pipelines.clip import Clip
from pipelines.extract import extract
from pipelines.lake import Lake


def seconds_of(extractors: list[OnnxNetwork], clips: list[Clip], lake: Lake, engine: str, temp: str) -> tuple[float, int]:
    """(seconds, clips that ran)."""
    from pipelines.engine import RayEngine

    runner = RayEngine(temp_dir=Path(temp)) if engine == "ray" else engine
    started = time.perf_counter()
    report = extract(extractors, clips, lake, runner, progress=False)
    assert report.failed == 0, report.failures[:1]
    return time.perf_counter() - started, report.clips - report.already_done


def main() -> None:
    """Print the share and the gate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--added", type=int, default=10)
    parser.add_argument("--engine", default="ray")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory(prefix="ri", ignore_cleanup_errors=True) as temp:
        folder = Path(name)
        extractors, drawn = networks(folder), clips_of(folder / "videos", 10, 24)
        everything = [replace(drawn[i % 10], clip_id=f"c{i:06d}") for i in range(chosen.clips + chosen.added)]
        start_up, _ = seconds_of(extractors, everything[:1], Lake(folder / "one").create(), chosen.engine, temp)
        lake = Lake(folder / "lake").create()
        full, ran = seconds_of(extractors, everything[: chosen.clips], lake, chosen.engine, temp)
        assert ran == chosen.clips
        added, ran = seconds_of(extractors, everything, lake, chosen.engine, temp)
        assert ran == chosen.added, f"{ran} clips ran, {chosen.added} were added"
    share = max(0.0, added - start_up) / (full - start_up)
    print(
        f"incremental: {chosen.clips} clips {full:.1f} s, {chosen.added} more {added:.1f} s, start-up {start_up:.1f} s; {ran} clips ran; "
        f"share {share:.1%} (gate < 3 % {'holds' if share < 0.03 else 'FAILS'})"
    )


if __name__ == "__main__":
    main()
