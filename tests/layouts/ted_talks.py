"""The TED-talks layouts: a CSV of ranges and boxes, and the talks as local files `<YouTube id>.mp4`.

`ted384`: rows `<id>,start,end,...` with ranges in frames at the row's fps and both partitions. `committed`: the file that
the authors' repository ships, ranges only in the ids (`<id>#<first>#<last>`), start and end 0, every row "train".
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from pipelines.video import encode_video
from tests.layouts.people import draw

COLUMNS = ("video_id", "start", "end", "bbox", "fps", "width", "height", "partition")


@dataclass(frozen=True, kw_only=True)
class Talk:
    """One talk: its speaker, its partition, and the ranges of frames [first, last) that the list names, at the talk's own rate."""

    identity: int
    partition: str
    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True)
class TedTalks:
    """Where the data set was written."""

    videos: Path
    ted384: Path
    committed: Path
    fps: int


def write_ted_talks(folder: Path, talks: Mapping[str, Talk], *, size: int = 96, fps: int = 24) -> TedTalks:
    """Write `talks` (YouTube id -> talk): one file each, in which the speaker stands right of the middle, and both CSVs."""
    margin = size // 2
    rows: dict[str, list[tuple[object, ...]]] = {"ted384": [], "committed": []}
    width, height = size + margin, size
    box = f"{margin}-0-{width}-{height}"
    for name, talk in talks.items():
        frames = draw(talk.identity, max(last for _, last in talk.ranges), size).frames
        wide = np.pad(frames, ((0, 0), (0, 0), (margin, 0), (0, 0)), mode="edge")
        encode_video(folder / "videos" / f"{name}.mp4", wide, Fraction(fps))
        for first, last in talk.ranges:
            rows["ted384"].append((name, first, last, box, f"{fps}.0", width, height, talk.partition))
            rows["committed"].append((f"{name}#{first:06d}#{last:06d}", 0, 0, box, "10.0", width, height, "train"))
    paths = {layout: _write_csv(folder / f"{file}.csv", rows[layout]) for layout, file in _FILES.items()}
    return TedTalks(videos=folder / "videos", fps=fps, **paths)


_FILES = {"ted384": "ted384-metadata", "committed": "ted-metadata"}


def _write_csv(path: Path, rows: list[tuple[object, ...]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    return path
