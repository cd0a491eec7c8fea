"""Whose rows the screening reads, and the rows of a batch of clips."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.clip import Clip
from pipelines.code_version import code_version
from pipelines.errors import UserError
from pipelines.lake import Lake

Row = dict[str, Any]

_COLUMNS = {
    "poses": ("keypoints", "scores"),
    "faces": ("boxes", "box_scores", "subject", "embedding"),
    "body_masks": ("rle", "height", "width"),
    "person_boxes": ("boxes", "subject"),
}
_CODE = (
    "pipelines/screen.py",
    "pipelines/screen_clip.py",
    "pipelines/screen_pose.py",
    "pipelines/screen_frames.py",
    "pipelines/screen_hash.py",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ScreenSources:
    """The extractor whose rows are read, per table; None = that table is not read, and its scores stay null."""

    poses: str | None = "mediapipe"
    faces: str | None = "mediapipe"
    body_masks: str | None = "mediapipe"
    person_boxes: str | None = None  # None: people are counted by the poses, which hold one at most

    def named(self) -> dict[str, str]:
        """Table -> extractor."""
        pairs = {table: getattr(self, table) for table in _COLUMNS}
        return {table: extractor for table, extractor in pairs.items() if extractor is not None}


@dataclass(frozen=True, slots=True)
class Held:
    """One extractor's rows of one table under one version and weights digest."""

    extractor: str
    version: int
    weights_digest: str

    @property
    def where(self) -> pc.Expression:
        """The rows' condition."""
        same = (pc.field("extractor") == self.extractor) & (pc.field("version") == self.version)
        return same & (pc.field("weights_digest") == self.weights_digest)


def held_by(lake: Lake, dataset: str, sources: ScreenSources) -> dict[str, Held]:
    """Per table what is read: the newest version, and of its weights digests the one that most clips have (then the greatest).

    Raises UserError for an extractor that has no rows of the data set in that table.
    """
    return {table: _newest(lake, dataset, table, extractor) for table, extractor in sources.named().items()}


def _newest(lake: Lake, dataset: str, table: str, extractor: str) -> Held:
    where = (pc.field("dataset") == dataset) & (pc.field("extractor") == extractor) & (pc.field("frame") <= 0)
    rows = lake.rows(table, where, ["version", "weights_digest"])
    if not rows:
        raise UserError(
            f"screening {dataset}: table {table} holds no rows of extractor {extractor!r}; extract them first, or choose another extractor (None: do without)"
        )
    version = max(row["version"] for row in rows)
    clips = Counter(row["weights_digest"] for row in rows if row["version"] == version)
    return Held(extractor, version, max(clips, key=lambda digest: (clips[digest], digest)))


def scores_version(held: Mapping[str, Held]) -> str:
    """12 hex digits over the code that scores and over whose rows it reads."""
    read = {table: [source.extractor, source.version, source.weights_digest] for table, source in sorted(held.items())}
    return hashlib.sha256(json.dumps([read, code_version(*_CODE)]).encode()).hexdigest()[:12]


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipRows:
    """A clip's rows, in the order of frames; None for a table that is not read. `failure` is (code, reason) of the poses or, without
    these, of the first table that failed."""

    tables: Mapping[str, Sequence[Row] | None]
    failure: tuple[str, str] | None


def rows_of(lake: Lake, dataset: str, clips: Sequence[Clip], held: Mapping[str, Held]) -> dict[str, ClipRows]:
    """Clip id -> rows. Clips that some table does not hold completely (not extracted yet) are left out."""
    per_table = {table: _by_clip(lake, dataset, table, [clip.clip_id for clip in clips], source) for table, source in held.items()}
    found = {}
    for clip in clips:
        mine = {table: rows.get(clip.clip_id, []) for table, rows in per_table.items()}
        failures = [(row["error"], row["reason"]) for rows in mine.values() for row in rows[:1] if row["frame"] < 0]
        complete = all(len(rows) == clip.num_frames or (rows and rows[0]["frame"] < 0) for rows in mine.values())
        if complete:
            found[clip.clip_id] = ClipRows(
                tables={table: None if rows[0]["frame"] < 0 else rows for table, rows in mine.items()}, failure=next(iter(failures), None)
            )
    return found


def _by_clip(lake: Lake, dataset: str, table: str, clips: Sequence[str], source: Held) -> dict[str, list[Row]]:
    where = (pc.field("dataset") == dataset) & source.where & pc.field("clip_id").isin(pa.array(clips, pa.string()))
    found: dict[str, list[Row]] = {}
    for row in lake.rows(table, where, ["clip_id", "frame", "error", "reason", *_COLUMNS[table]]):
        found.setdefault(row["clip_id"], []).append(row)
    return {clip: sorted(rows, key=lambda row: int(row["frame"])) for clip, rows in found.items()}


def failed_clips(lake: Lake, dataset: str, held: Mapping[str, Held]) -> set[str]:
    """Clips with an error in one of the tables."""
    found: set[str] = set()
    for table, source in held.items():
        where = (pc.field("dataset") == dataset) & source.where & (pc.field("frame") < 0)
        found |= {row["clip_id"] for row in lake.rows(table, where, ["clip_id"])}
    return found
