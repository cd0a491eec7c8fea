"""What the worker makes of an extractor's rows: keys, the full frame's pixels, and the frames of sparse tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines.clip import Clip, Frames
from pipelines.extract_worker import Rows, Task, Worker, WorkerSpec, from_ipc
from pipelines.video import encode_video


@dataclass(frozen=True)
class Fixed:
    """Gives the rows that it was made with."""

    made: dict[str, list[dict[str, Any]]]
    name: str = "fixed"
    version: int = 1

    @property
    def tables(self) -> tuple[str, ...]:
        return tuple(self.made)

    def weights_digest(self) -> str:
        return ""

    def load(self, device: str) -> Callable[[Clip, Frames], Rows]:
        return lambda clip, frames: self.made


@pytest.fixture
def clip(tmp_path: Path) -> Clip:
    encode_video(tmp_path / "a.mp4", np.full((6, 48, 64, 3), 90, np.uint8), Fraction(24))
    return Clip(
        dataset="d", clip_id="c", video_id="v", uri=str(tmp_path / "a.mp4"), start_frame=0, end_frame=6,
        start_pts=None, end_pts=None, time_base=Fraction(1, 24), fps=Fraction(24), width=32, height=16, crop=(20, 10, 32, 16),
    )  # fmt: skip


def _rows(clip: Clip, extractor: Fixed) -> dict[str, pa.Table]:
    worker = Worker(WorkerSpec(extractors=(extractor,), digests={"fixed": ""}))
    worker.load()
    return {table: from_ipc(stream) for table, stream in worker.run(Task(clip=clip, extractors=("fixed",))).rows.items()}


def test_points_are_stored_in_the_full_frame(clip: Clip) -> None:
    made = [{"keypoints": [1.0, 2.0] * 133, "scores": [1.0] * 133} for _ in range(6)]
    rows = _rows(clip, Fixed({"poses": made}))["poses"]
    assert rows["frame"].to_pylist() == [0, 1, 2, 3, 4, 5]
    assert rows["keypoints"][0].as_py()[:2] == [21.0, 12.0]


def test_sparse_rows_name_their_frames(clip: Clip) -> None:
    rows = _rows(clip, Fixed({"actions": [{"frame": 0, "shape": [1]}, {"frame": 4, "shape": [1]}]}))["actions"]
    assert rows["frame"].to_pylist() == [0, 4]
    assert rows["error"].null_count == 2


@pytest.mark.parametrize(
    ("table", "made", "said"),
    [
        ("poses", [{"keypoints": None}], "1 rows for 6 frames"),
        ("actions", [{"frame": 8}], "0 among them"),
        ("captions", [], "0 among them"),
    ],
)
def test_rows_that_miss_frames_are_a_failure(clip: Clip, table: str, made: list[dict[str, Any]], said: str) -> None:
    rows = _rows(clip, Fixed({table: made}))[table].to_pylist()
    assert [row["frame"] for row in rows] == [-1]
    assert rows[0]["error"] == "extractor_failed"
    assert said in rows[0]["reason"]
