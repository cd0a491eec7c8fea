"""One clip through all extractors that still miss it: the same code in-process and in a Ray actor."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from pipelines.clip import Clip, Frames
from pipelines.clip_reader import ClipReader
from pipelines.crop import to_full_frame
from pipelines.errors import ClipError, Code, UserError
from pipelines.full_disk import is_disk_full, telling_full_disk
from pipelines.heap import keep_heap_small
from pipelines.micro_batch import MicroBatch, is_out_of_memory, own_copy
from pipelines.tables import SPARSE, TABLES

Rows = dict[str, list[dict[str, Any]]]
"""Per table, one dict of value columns per frame; rows of sparse tables also have `frame`. Coordinates are pixels of the clip's frames."""


class Extractor(Protocol):
    """A pretrained network (or annotations) as a function from a clip to rows.

    Optional: a field `batch_frames`, frames per call of the network, read from `self` at every clip. Where memory runs out
    (MemoryError, torch.OutOfMemoryError) the worker halves it and runs the clip again; rows may not depend on it.
    """

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
        """Load once; the function gives the rows of every table, and raises ClipError."""


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
    shared_storage: bool = False  # other machines can reach the lake

    def extractor(self, name: str) -> Extractor:
        """By name."""
        return next(extractor for extractor in self.extractors if extractor.name == name)


class Worker:
    """Holds the loaded networks and reads clips ahead of them."""

    def __init__(self, spec: WorkerSpec) -> None:
        self._spec = spec
        self._reader = ClipReader()
        self._functions: dict[str, Callable[[Clip, Frames], Rows]] = {}
        self._batches: dict[str, MicroBatch] = {}
        self._at_work: tuple[Task, float] | None = None

    def load(self) -> None:
        """Load every network. Raises UserError where weights are missing or differ from the driver's."""
        import av  # noqa: F401  # so that the first clip's time is its own

        keep_heap_small()
        for extractor in self._spec.extractors:
            if extractor.weights_digest() != self._spec.digests[extractor.name]:
                raise UserError(
                    f"extractor {extractor.name}: this worker finds other weights than the driver; give both the same ROTOSCOPE_WEIGHTS"
                )
            mine = own_copy(extractor)
            self._functions[extractor.name] = mine.load(self._spec.device)
            self._batches[extractor.name] = MicroBatch(mine)

    def announce(self, clip: Clip) -> None:
        """This clip comes soon: decode it while the networks look at another one."""
        self._reader.announce(clip)

    def forget_ahead(self) -> None:
        """Drop what was read ahead, after a clip that was interrupted."""
        self._reader = ClipReader()

    def run(self, task: Task) -> Result:
        """Decode once, feed all; a failure becomes rows. Raises UserError for what the user must mend before anything can go on."""
        self._at_work = (task, time.monotonic())
        try:
            with telling_full_disk(tempfile.gettempdir(), "clips that are committed are not extracted again"):
                return self._run(task)
        finally:
            self._at_work = None

    def seconds_on(self, task: Task) -> float:
        """How long `run` has been at work on this task; 0 while it is not. May be called from any thread."""
        at_work = self._at_work
        return time.monotonic() - at_work[1] if at_work is not None and at_work[0] == task else 0.0

    def _run(self, task: Task) -> Result:
        try:
            frames = self._reader.take(task.clip)
        except UserError:
            raise
        except ClipError as error:
            return failed(self._spec, task, error.code, error.reason)
        except Exception as error:  # a decoder's own failure must not stop the run
            code: Code = "out_of_memory" if is_out_of_memory(error) else "decode_error"
            return failed(self._spec, task, code, _in_words(error))
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
            rows = self._in_batches(name, clip, frames)
            return {table: _keyed(self._spec, extractor, clip, table, rows[table], len(frames)) for table in extractor.tables}, None
        except UserError:
            raise
        except ClipError as error:
            code, reason = error.code, error.reason
        except Exception as error:  # one bad clip is a row, not a crash
            if is_disk_full(error):  # every other clip would fail as well, and count as done
                raise
            code, reason = "extractor_failed", _in_words(error)
        return error_rows(self._spec, extractor, clip, code, reason), (code, reason)

    def _in_batches(self, name: str, clip: Clip, frames: Frames) -> Rows:
        """The extractor's rows; while memory runs out, with half the batch."""
        batch = self._batches[name]
        while True:
            try:
                rows = self._functions[name](clip, frames)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                words = _in_words(error)
            else:
                batch.went_well()
                return rows
            if not batch.shrink():  # outside the handler, where the exception no longer holds the memory of its frames
                remedy = "use a machine or GPU with more memory, fewer workers, or smaller videos"
                raise ClipError("out_of_memory", clip.clip_id, f"one frame at a time does not fit into memory ({words})", remedy)


def _keyed(spec: WorkerSpec, extractor: Extractor, clip: Clip, table: str, rows: list[dict[str, Any]], frames: int) -> pa.Table:
    """Rows with their key, in pixels of the full frame. Raises ValueError for rows that do not match the frames."""
    numbered = _sparse(table, rows, frames) if table in SPARSE else _dense(table, rows, frames)
    key = _key(spec, extractor, clip)
    placed = [{**key, **to_full_frame(table, row, clip.crop)} for row in numbered]
    return pa.Table.from_pylist(placed, schema=TABLES[table].schema)


def _dense(table: str, rows: list[dict[str, Any]], frames: int) -> list[dict[str, Any]]:
    if len(rows) != frames:
        raise ValueError(f"{len(rows)} rows for {frames} frames in table {table}")
    return [{**row, "frame": frame} for frame, row in enumerate(rows)]


def _sparse(table: str, rows: list[dict[str, Any]], frames: int) -> list[dict[str, Any]]:
    """Rows that name their frames: rising, inside the clip, the first frame among them (it marks the clip as done)."""
    named = [row.get("frame") for row in rows]
    if named[:1] != [0] or not all(isinstance(f, int) and f < frames for f in named) or named != sorted(set(named)):  # type: ignore[type-var]
        raise ValueError(f"rows of table {table} must name rising frames of 0 to {frames - 1}, with 0 among them; got {named[:8]}")
    return rows


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
