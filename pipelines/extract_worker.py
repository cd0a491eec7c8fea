"""One clip through all extractors that still miss it: the same code in-process and in a Ray actor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from pipelines.clip import Clip, Frames
from pipelines.errors import ClipError, Code, UserError
from pipelines.tables import TABLES
from pipelines.video import decode_frames

Rows = dict[str, list[dict[str, Any]]]
"""Per table, one dict of value columns per frame."""


class Extractor(Protocol):
    """A pretrained network (or annotations) as a function from a clip to rows."""

    @property
    def name(self) -> str:
        """Part of the rows' key."""

    @property
    def version(self) -> int:
        """Part of the rows' key; raised when any stored number would change."""

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables that get rows of every clip."""

    def weights_digest(self) -> str:
        """Digest of all files that the rows depend on; "" where there are none."""

    def load(self, device: str) -> Callable[[Clip, Frames], Rows]:
        """Load once; the function gives T dicts of value columns for every table, and raises ClipError."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A clip and the names of the extractors that miss it."""

    clip: Clip
    extractors: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """Rows of one task as Arrow IPC streams by table (never frames), and what failed: extractor -> (code, reason)."""

    task: Task
    rows: dict[str, bytes]
    failures: dict[str, tuple[str, str]]


class Engine(Protocol):
    """Runs tasks; `None` means that nothing was finished within a second."""

    name: str

    def run(self, worker: WorkerSpec, tasks: Sequence[Task], time_limit_s: float) -> Iterator[Result | None]:
        """Results in any order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerSpec:
    """What a worker is made of; travels to where it runs. digests: the driver's, which every worker must find too."""

    extractors: tuple[Extractor, ...]
    digests: Mapping[str, str]
    device: str = "cpu"

    def extractor(self, name: str) -> Extractor:
        """By name."""
        return next(extractor for extractor in self.extractors if extractor.name == name)


class Worker:
    """Holds the loaded networks."""

    def __init__(self, spec: WorkerSpec) -> None:
        self._spec = spec
        self._functions: dict[str, Callable[[Clip, Frames], Rows]] = {}

    def load(self) -> None:
        """Load every network. Raises UserError where weights are missing or differ from the driver's."""
        for extractor in self._spec.extractors:
            if extractor.weights_digest() != self._spec.digests[extractor.name]:
                raise UserError(
                    f"extractor {extractor.name}: this worker finds other weights than the driver; give both the same ROTOSCOPE_WEIGHTS"
                )
            self._functions[extractor.name] = extractor.load(self._spec.device)

    def run(self, task: Task) -> Result:
        """Decode once, feed all; a failure becomes rows."""
        try:
            frames = decode_frames(task.clip)
        except ClipError as error:
            return failed(self._spec, task, error.code, error.reason)
        except Exception as error:  # a decoder's own failure must not stop the run
            return failed(self._spec, task, "decode_error", _in_words(error))
        tables: dict[str, list[pa.Table]] = {}
        failures = {}
        for name in task.extractors:
            rows, failure = self._apply(name, task.clip, frames)
            for table, plain in rows.items():
                tables.setdefault(table, []).append(plain)
            if failure is not None:
                failures[name] = failure
        return Result(
            task=task,
            rows={table: _to_ipc(pa.concat_tables(parts)) for table, parts in tables.items()},
            failures=failures,
        )

    def _apply(self, name: str, clip: Clip, frames: Frames) -> tuple[dict[str, pa.Table], tuple[str, str] | None]:
        extractor = self._spec.extractor(name)
        try:
            rows = self._functions[name](clip, frames)
            return {table: self._keyed(extractor, clip, table, rows[table], len(frames)) for table in extractor.tables}, None
        except UserError:
            raise
        except ClipError as error:
            code, reason = error.code, error.reason
        except Exception as error:  # one bad clip is a row, not a crash
            code, reason = "extractor_failed", _in_words(error)
        return error_rows(self._spec, extractor, clip, code, reason), (code, reason)

    def _keyed(self, extractor: Extractor, clip: Clip, table: str, rows: list[dict[str, Any]], frames: int) -> pa.Table:
        if len(rows) != frames:
            raise ValueError(f"{len(rows)} rows for {frames} frames in table {table}")
        key = _key(self._spec, extractor, clip)
        return pa.Table.from_pylist([{**key, "frame": frame, **row} for frame, row in enumerate(rows)], schema=TABLES[table].schema)


def failed(spec: WorkerSpec, task: Task, code: Code, reason: str) -> Result:
    """The result of a task that gave nothing: one row per table of every extractor."""
    tables: dict[str, list[pa.Table]] = {}
    for name in task.extractors:
        for table, rows in error_rows(spec, spec.extractor(name), task.clip, code, reason).items():
            tables.setdefault(table, []).append(rows)
    rows = {table: _to_ipc(pa.concat_tables(parts)) for table, parts in tables.items()}
    return Result(task=task, rows=rows, failures=dict.fromkeys(task.extractors, (code, reason)))


def error_rows(spec: WorkerSpec, extractor: Extractor, clip: Clip, code: Code, reason: str) -> dict[str, pa.Table]:
    """Frame -1 with the code and the reason, values null, in every table of the extractor."""
    row = {**_key(spec, extractor, clip), "frame": -1, "error": code, "reason": reason}
    return {table: pa.Table.from_pylist([row], schema=TABLES[table].schema) for table in extractor.tables}


def from_ipc(stream: bytes) -> pa.Table:
    """The table of one Arrow IPC stream."""
    return pa.ipc.open_stream(stream).read_all()


def _to_ipc(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    stream: bytes = sink.getvalue().to_pybytes()
    return stream


def _key(spec: WorkerSpec, extractor: Extractor, clip: Clip) -> dict[str, Any]:
    return {"dataset": clip.dataset, "clip_id": clip.clip_id, "extractor": extractor.name, "version": extractor.version,
            "weights_digest": spec.digests[extractor.name]}  # fmt: skip


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:500]


class SerialEngine:
    """In this process, one clip after the other. It cannot interrupt a clip, so the time limit is not enforced."""

    name = "serial"

    def run(self, worker: WorkerSpec, tasks: Iterable[Task], time_limit_s: float) -> Iterator[Result | None]:
        """Results in the order of the tasks."""
        process = Worker(worker)
        process.load()
        for task in tasks:
            yield process.run(task)
