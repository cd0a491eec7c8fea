"""Screening for people: every clip gets its scores; the thresholds are applied later (pipelines.screen_verdicts).

screen_into(lake, "tiktok", sources=ScreenSources(poses="dwpose", faces="faces"))     scores of what is missing
verdicts_into(lake, "tiktok", rule_for("tiktok"))                                      what each condition drops
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.clip import Clip
from pipelines.errors import UserError
from pipelines.lake import Lake
from pipelines.progress import Progress
from pipelines.screen_clip import score_clip
from pipelines.screen_duplicates import near_pairs, nearest
from pipelines.screen_leaks import Floats, Leak, leaks_between
from pipelines.screen_rule import ScreeningRule
from pipelines.screen_sources import ClipRows, Held, Row, ScreenSources, failed_clips, held_by, rows_of, scores_version
from pipelines.screen_verdicts import verdicts_into

_BATCH = 64  # clips per commit, and whose rows are in memory at a time
_PAIR_COLUMNS = ("duplicate_clip_id", "duplicate_distance", "leak_clip_id", "leak_similarity")


@dataclass(frozen=True, kw_only=True, slots=True)
class ScreenReport:
    """What a call of `screen_into` did."""

    clips: int  # usable ones of the data set
    already_done: int
    scored: int  # in this call, failures included
    failures: tuple[tuple[str, str, str], ...]  # (clip id, code, reason) of this call
    waiting: tuple[str, ...]  # clips that lack rows of an extractor; extract them, then screen again
    version: str  # of the scores
    kept: int  # clips that meet the rule
    seconds: float


def screen_into(
    lake: Lake,
    dataset: str,
    *,
    rule: ScreeningRule,
    sources: ScreenSources | None = None,
    workers: int | None = None,
    progress: bool = True,
    lineage: Mapping[str, Any] | None = None,
) -> ScreenReport:
    """Score the clips that have no scores of this version yet, renew what depends on all clips, and judge with `rule`.

    Commits every 64 clips, so a stopped run goes on where it was. workers: threads that decode, default one per CPU.
    Raises UserError for a data set without clips, or an extractor without rows.
    """
    started = time.monotonic()
    clips = lake.clips(dataset)
    if not clips:
        raise UserError(f"data set {dataset!r} has no usable clips to screen; run the clips step first")
    held = held_by(lake, dataset, sources or ScreenSources())
    version = scores_version(held)
    missing = _missing(lake, dataset, version, clips, held)
    note = {**(lineage or {}), "scores": version, "read": {table: source.extractor for table, source in held.items()}}
    failures: list[tuple[str, str, str]] = []
    waiting: list[str] = []
    with closing(Progress(len(missing), "clips", f"screen {dataset}", shown=progress and bool(missing))) as bar:
        for batch in (missing[i : i + _BATCH] for i in range(0, len(missing), _BATCH)):
            rows = rows_of(lake, dataset, batch, held)
            waiting += [clip.clip_id for clip in batch if clip.clip_id not in rows]
            scored = _score_all([clip for clip in batch if clip.clip_id in rows], rows, workers or os.cpu_count() or 1)
            failures += _write(lake, dataset, version, _counted(scored, bar), note)
    _renew_pairs(lake, dataset, version, clips, note)
    kept = verdicts_into(lake, dataset, rule, note, version=version)
    return ScreenReport(
        clips=len(clips),
        already_done=len(clips) - len(missing),
        scored=len(missing) - len(waiting),
        failures=tuple(failures),
        waiting=tuple(waiting),
        version=version,
        kept=kept,
        seconds=time.monotonic() - started,
    )


def _missing(lake: Lake, dataset: str, version: str, clips: Sequence[Clip], held: Mapping[str, Held]) -> list[Clip]:
    """Clips without a row; and those whose extraction had failed and is mended since."""
    where = (pc.field("dataset") == dataset) & (pc.field("version") == version)
    rows = lake.rows("screening", where, ["clip_id", "error"])
    still = failed_clips(lake, dataset, held) if any(row["error"] for row in rows) else set()
    done = {row["clip_id"] for row in rows if row["error"] is None or row["clip_id"] in still}
    return [clip for clip in clips if clip.clip_id not in done]


def _score_all(clips: Sequence[Clip], rows: Mapping[str, ClipRows], workers: int) -> Iterator[Row]:
    """Threads: decoding and OpenCV leave the interpreter free. What is screened was decoded by the extraction before, in a
    worker that could be killed."""
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(lambda clip: score_clip(clip, rows[clip.clip_id]), clips)


def _counted(rows: Iterable[Row], bar: Progress) -> Iterator[Row]:
    for row in rows:
        yield row
        bar.update(1)


def _write(lake: Lake, dataset: str, version: str, rows: Iterable[Row], lineage: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Faces first: a clip counts as done when it is in `screening`."""
    scores, faces, failures = [], [], []
    for row in rows:
        key = {"dataset": dataset, "clip_id": row["clip_id"], "version": version}
        faces.append({**key, "embedding": None if row["embedding"] is None else row["embedding"].tolist()})
        scores.append({**{name: value for name, value in row.items() if name != "embedding"}, **key})
        if row.get("error") is not None:
            failures.append((row["clip_id"], row["error"], row["reason"]))
    lake.write("screening_faces", faces, lineage)
    lake.write("screening", scores, lineage)
    return failures


# --- what depends on all clips ---------------------------------------------------------------------------------------


def _renew_pairs(lake: Lake, dataset: str, version: str, clips: Sequence[Clip], lineage: Mapping[str, Any]) -> None:
    """The most similar clip and the most similar face of another split, of every clip; only rows that change are written."""
    splits = {clip.clip_id: clip.split for clip in clips}
    where = (pc.field("dataset") == dataset) & (pc.field("version") == version) & pc.field("clip_id").isin(pa.array(splits, pa.string()))
    rows = lake.rows("screening", where, ["clip_id", "hashes", *_PAIR_COLUMNS])
    twins = nearest(near_pairs({row["clip_id"]: row["hashes"] or [] for row in rows}, {clip.clip_id: clip.video_id for clip in clips}))
    leaks = _leaks(lake, where, splits)
    changed = {}
    for row in rows:
        clip = row["clip_id"]
        leak = leaks.get(clip)
        twin, distance = twins.get(clip, (None, None))
        fresh = (twin, distance, leak and leak.clip_id, leak and round(leak.similarity, 6))
        if fresh != tuple(row[name] for name in _PAIR_COLUMNS):
            changed[clip] = dict(zip(_PAIR_COLUMNS, fresh, strict=True))
    if changed:
        full = lake.rows("screening", where & pc.field("clip_id").isin(pa.array(changed, pa.string())))
        lake.write("screening", [{**row, **changed[row["clip_id"]]} for row in full], lineage)


def _leaks(lake: Lake, where: pc.Expression, splits: Mapping[str, str | None]) -> dict[str, Leak]:
    """Only where there are several splits; a clip whose face no recogniser embedded takes no part."""
    if len({split for split in splits.values() if split is not None}) < 2:
        return {}
    table = lake.read("screening_faces", ["clip_id", "embedding"], where & pc.field("embedding").is_valid())
    faces: dict[str, Floats] = {}
    for batch in table.to_batches():
        ids, column = batch["clip_id"].to_pylist(), batch["embedding"]
        faces |= {clip: np.asarray(column[i].values, np.float32) for i, clip in enumerate(ids)}
    return leaks_between(faces, splits)
