"""extract(extractors, clips, lake, engine): exactly the rows that are missing, one table per feature.

A clip is done for an extractor when all its tables hold it under the same version and weights digest. The driver
alone commits, so a kill loses at most what was computed since the last commit; what it left half committed is
extracted again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.clip import Clip
from pipelines.errors import UserError
from pipelines.extract_worker import Engine, Extractor, Result, Rows, Task, WorkerSpec, from_ipc
from pipelines.full_disk import telling_full_disk
from pipelines.heap import keep_heap_small
from pipelines.lake import Lake
from pipelines.progress import Progress
from pipelines.serial_engine import SerialEngine
from pipelines.tables import one_of
from pipelines.weights import locked_by

__all__ = ["Engine", "ExtractReport", "Extractor", "Rows", "SerialEngine", "engine_named", "extract"]

_COMMIT_SECONDS = 20.0
_COMMIT_CLIPS = 32  # what a kill costs at most; a commit takes some 13 ms per table
_COMMIT_BYTES = 256 << 20  # soft masks of large frames fill memory before the clips are many


@dataclass(frozen=True, kw_only=True, slots=True)
class ExtractReport:
    """What a call of `extract` did. Clips are counted once, whatever the number of extractors."""

    clips: int  # asked for
    already_done: int  # had every row before
    extracted: int  # ran, with at least one extractor successful
    failures: tuple[tuple[str, str, str, str], ...]  # (clip id, extractor, code, reason) of this call
    seconds: float
    versions: Mapping[str, int] = field(default_factory=dict)  # of every table of the extractors, after the call
    digests: Mapping[str, str] = field(default_factory=dict)  # weights digest of every extractor

    @property
    def failed(self) -> int:
        """Clips for which at least one extractor failed in this call."""
        return len({clip for clip, *_ in self.failures})


def extract(
    extractors: Sequence[Extractor],
    clips: Sequence[Clip],
    lake: Lake,
    engine: Engine | str = "ray",
    *,
    device: str = "cpu",
    time_limit_s: float = 600.0,
    progress: bool = True,
    retry_failed: bool = False,
    lineage: Mapping[str, Any] | None = None,
) -> ExtractReport:
    """Run the extractors over the clips that still miss them and commit the rows.

    A clip is decoded once for all its extractors. A failing clip becomes one row per table (frame -1, error, reason)
    and counts as done; `retry_failed` runs those again. time_limit_s is per clip.
    Raises UserError (missing weights, unknown engine, full disk); what is finished is committed first, as with Ctrl-C.
    """
    started = time.monotonic()
    keep_heap_small()
    runner = engine_named(engine) if isinstance(engine, str) else engine
    digests = _digests(extractors, lake)
    spec = WorkerSpec(extractors=tuple(extractors), digests=digests, device=device, shared_storage=lake.storage.remote)
    tasks = _missing(spec, clips, lake, retry_failed=retry_failed)
    commits = _Commits(lake, {"device": device, "engine": runner.name, "weights": digests, **(lineage or {})})
    tables = sorted({table for extractor in extractors for table in extractor.tables})
    with telling_full_disk(lake.root, "clips that are committed are not extracted again"):
        if tasks:
            _drop_leftovers(spec, tasks, lake)
            _run(runner, spec, tasks, commits, time_limit_s, Progress(len(tasks), "clips", "extract", shown=progress))
        versions = {table: lake.compact(table) if tasks else lake.version(table) for table in tables}
    return ExtractReport(
        clips=len(clips),
        already_done=len(clips) - len(tasks),
        extracted=commits.extracted,
        failures=tuple(commits.failures),
        seconds=time.monotonic() - started,
        versions=versions,
        digests=digests,
    )


def _digests(extractors: Sequence[Extractor], lake: Lake) -> dict[str, str]:
    """Weights digests by name, checked against the lake's weights.lock, which keeps those that are new."""
    lock = lake.path("weights.lock")
    try:
        before: str | None = lake.read_text("weights.lock")
    except FileNotFoundError:
        before = None
    with locked_by(lock):
        digests = {extractor.name: extractor.weights_digest() for extractor in extractors}
    if lock.is_file() and lock.read_text() != before:
        lake.put(lock)
    return digests


def engine_named(name: str) -> Engine:
    """The engine "serial" or "ray"."""
    if name == "serial":
        return SerialEngine()
    if name == "ray":
        from pipelines.engine import RayEngine  # starts with importing ray, which takes seconds

        return RayEngine()
    raise UserError(f"no engine {name!r}; there are: ray, serial")


def _run(engine: Engine, spec: WorkerSpec, tasks: Sequence[Task], commits: _Commits, time_limit_s: float, bar: Progress) -> None:
    results = engine.run(spec, tasks, time_limit_s)
    try:
        for result in results:
            if result is not None:
                commits.add(result)
            commits.flush_if_due()
            bar.update(0 if result is None else 1)
    except (KeyboardInterrupt, UserError):
        commits.flush()  # what is finished is worth keeping
        raise
    finally:
        results.close()  # type: ignore[attr-defined]  # engines are generators; this stops their workers
        bar.close()
    commits.flush()


class _Commits:
    """Rows that wait for the next commit; whole clips only, so that a table never holds half a clip."""

    def __init__(self, lake: Lake, lineage: Mapping[str, Any]) -> None:
        self._lake, self._lineage = lake, lineage
        self._waiting: list[Result] = []
        self._bytes, self._last = 0, time.monotonic()
        self.extracted = 0
        self.failures: list[tuple[str, str, str, str]] = []

    def add(self, result: Result) -> None:
        """Take one finished clip."""
        self._waiting.append(result)
        self._bytes += sum(map(len, result.rows.values()))
        self.extracted += len(result.failures) < len(result.task.extractors)
        self.failures += [(result.task.clip.clip_id, name, *failure) for name, failure in result.failures.items()]

    def flush_if_due(self) -> None:
        """Commit after 20 seconds, 32 clips or 256 MB, whichever comes first."""
        late = time.monotonic() - self._last >= _COMMIT_SECONDS
        if late or len(self._waiting) >= _COMMIT_CLIPS or self._bytes >= _COMMIT_BYTES:
            self.flush()

    def flush(self) -> None:
        """One commit per table."""
        for table in sorted({table for result in self._waiting for table in result.rows}):
            parts = [from_ipc(result.rows[table]) for result in self._waiting if table in result.rows]
            self._lake.write(table, pa.concat_tables(parts), self._lineage)
        self._waiting, self._bytes, self._last = [], 0, time.monotonic()


# --- what is missing -------------------------------------------------------------------------------------------------


def _missing(spec: WorkerSpec, clips: Sequence[Clip], lake: Lake, *, retry_failed: bool) -> list[Task]:
    """Anti-join of the clips with the rows that exist, on (clip, extractor, version, weights digest)."""
    done = {extractor.name: _done(spec, extractor, clips, lake, retry_failed=retry_failed) for extractor in spec.extractors}
    tasks = []
    for clip in dict.fromkeys(clips):
        names = tuple(name for name, keys in done.items() if (clip.dataset, clip.clip_id) not in keys)
        if names:
            tasks.append(Task(clip=clip, extractors=names))
    return tasks


def _done(spec: WorkerSpec, extractor: Extractor, clips: Sequence[Clip], lake: Lake, *, retry_failed: bool) -> set[tuple[str, str]]:
    """(dataset, clip id) in every table of the extractor; a clip has a row of frame 0, or of frame -1 if it failed."""
    datasets = sorted({clip.dataset for clip in clips})
    where = _of(spec, extractor) & one_of("dataset", datasets) & (pc.field("frame") <= 0)
    if retry_failed:
        where = where & pc.field("error").is_null()
    held = [{(row["dataset"], row["clip_id"]) for row in lake.rows(table, where, ["dataset", "clip_id"])} for table in extractor.tables]
    return set.intersection(*held)


def _drop_leftovers(spec: WorkerSpec, tasks: Sequence[Task], lake: Lake) -> None:
    """Delete what some tables hold of clips that run again, after a kill between two commits or a failure.

    A clip that had frames and fails now, or the other way round, must not leave rows of both.
    """
    for extractor in spec.extractors:
        ids = sorted({task.clip.clip_id for task in tasks if extractor.name in task.extractors})
        datasets = sorted({task.clip.dataset for task in tasks})
        where = _of(spec, extractor) & one_of("dataset", datasets) & one_of("clip_id", ids)
        for table in extractor.tables:
            lake.delete(table, where, {"operation": "drop leftovers", "extractor": extractor.name})


def _of(spec: WorkerSpec, extractor: Extractor) -> pc.Expression:
    """Rows of this extractor, version and weights."""
    wanted = {"extractor": extractor.name, "version": extractor.version, "weights_digest": spec.digests[extractor.name]}
    terms: Iterable[pc.Expression] = (pc.field(name) == value for name, value in wanted.items())
    return reduce(lambda a, b: a & b, terms)
