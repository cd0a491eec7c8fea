"""The drill's extractor, and the driver process: one extraction of the corpus into a lake."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import pipelines.extract
from pipelines.clip import Clip, Frames
from pipelines.errors import UserError
from pipelines.extract import Rows, extract
from pipelines.lake import Lake

TIME_LIMIT_S = 20.0


@dataclass
class Drilled:
    """Mean colours; writes to a log when it starts and ends a clip, and harms itself where the file's name says so."""

    log: str
    pause_s: float = 0.1
    name: str = "drilled"
    version: int = 1
    tables: tuple[str, ...] = ("clip_embeddings", "poses")

    def weights_digest(self) -> str:
        return ""

    def load(self, device: str) -> Callable[[Clip, Frames], Rows]:
        return self._run

    def _run(self, clip: Clip, frames: Frames) -> Rows:
        _append(self.log, f"start {clip.clip_id} {os.getpid()}")
        time.sleep(self.pause_s)
        _harm(clip.video_id.partition("__")[0])
        kept = frames[:-1] if clip.video_id.startswith("forgets_a_frame__") else frames
        means = [image.mean(axis=(0, 1)).tolist() for image in kept]
        _append(self.log, f"end {clip.clip_id} {os.getpid()}")
        return {"clip_embeddings": [{"embedding": mean} for mean in means], "poses": [{"keypoints": mean[:2]} for mean in means]}


def _append(log: str, line: str) -> None:
    with open(log, "a") as file:  # one short write: lines of several processes do not mix
        file.write(line + "\n")


def _harm(behaviour: str) -> None:
    if behaviour == "raises":
        raise RuntimeError("as drilled")
    if behaviour == "sleeps":
        time.sleep(3600)
    while behaviour == "spins":
        pass
    if behaviour == "exits":
        os._exit(3)
    if behaviour == "is_killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == "segfaults":
        ctypes.string_at(0)
    if behaviour == "allocates":
        np.empty(1 << 60, np.uint8)


def drive(clips: Path, lake: str, log: str, temp: str) -> int:
    """Extract; prints the report as JSON, or the user's error. Exit status as everywhere: 0, 1 some failed, 2 UserError."""
    from pipelines.engine import RayEngine

    pipelines.extract._COMMIT_CLIPS = 8
    rows = json.loads(clips.read_text())
    engine = RayEngine() if os.environ.get("RAY_ADDRESS") else RayEngine(num_cpus=2, temp_dir=Path(temp))
    try:
        report = extract(
            [Drilled(log=log)], [Clip.from_row(row) for row in rows], Lake(lake).create(), engine, progress=False, time_limit_s=TIME_LIMIT_S
        )
    except UserError as error:
        print(json.dumps({"user_error": str(error)}))
        return 2
    print(json.dumps({"already_done": report.already_done, "extracted": report.extracted, "failed": report.failed}))
    return 1 if report.failed else 0


if __name__ == "__main__":
    # As a module that workers can import, not as __main__.
    from benchmarks.fault_drill import drilled

    sys.exit(drilled.drive(Path(sys.argv[1]), *sys.argv[2:5]))
