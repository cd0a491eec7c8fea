"""Parquet parts of a table: how one is written, and which ones a filter needs to open.

Rows are sorted by key; a row group holds whole clips; floats are byte-stream-split, texts dictionary-coded, everything zstd.
The log keeps each part's smallest and largest key values, so a reader skips whole parts, then row groups by the part's own statistics.
"""

from __future__ import annotations

import bisect
import itertools
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from pipelines.storage import Storage, explained
from pipelines.tables import TableSpec

CLIPS_PER_ROW_GROUP = 16
_KEY_BYTES = 200  # of one row: data set, clip id, extractor, digest
_MANY = 4096  # more distinct key values than this are compared by range only


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One file of a table's version: path relative to the table's folder, size in bytes, bounds of its key columns and rows where known."""

    path: str
    size: int
    bounds: Mapping[str, tuple[Any, Any]]
    rows: int = 0

    @property
    def weight(self) -> int:
        """Roughly the bytes that its rows fill in memory: key texts that repeat take no room in the file, but do when they are read."""
        return self.size + self.rows * _KEY_BYTES

    def may_hold(self, values: Mapping[str, list[Any]]) -> bool:
        """False when the bounds rule out every row whose key values are among `values` (sorted lists by column)."""
        for name, (low, high) in self.bounds.items():
            listed = values.get(name)
            if listed is not None:
                at = bisect.bisect_left(listed, low)
                if at == len(listed) or listed[at] > high:
                    return False
        return True


def parts_of(handle: Any, spec: TableSpec) -> list[Part]:
    """Parts of the version that a DeltaTable has open, sorted by path."""
    actions = pa.table(handle.get_add_actions(flatten=True)).to_pylist()
    parts = []
    for action in actions:
        bounds = {name: (action.get(f"min.{name}"), action.get(f"max.{name}")) for name in spec.key}
        known = {name: pair for name, pair in bounds.items() if None not in pair}
        parts.append(Part(path=action["path"], size=action["size_bytes"], bounds=known, rows=action.get("num_records") or 0))
    return sorted(parts, key=lambda part: part.path)


def groups_of(parts: Iterable[Part], most: int) -> Iterator[list[Part]]:
    """Neighbours by key together, each group of a weight of at most `most` (or one part): what is rewritten at a time."""
    group: list[Part] = []
    for part in sorted(parts, key=lambda part: [str(low) for low, _ in part.bounds.values()]):
        if group and sum(held.weight for held in group) + part.weight > most:
            yield group
            group = []
        group.append(part)
    if group:
        yield group


def dataset_of(storage: Storage, spec: TableSpec, folder: str, parts: Sequence[Part]) -> ds.Dataset:
    """The parts as one Arrow dataset; a filter on key columns opens only parts whose bounds allow it. Missing columns read as null."""
    file_format = ds.ParquetFileFormat()
    fragments = [
        file_format.make_fragment(storage.inside(f"{folder}/{part.path}"), storage.filesystem, partition_expression=_guarantee(part))
        for part in parts
    ]
    return ds.FileSystemDataset(fragments, spec.schema, file_format, storage.filesystem)


def _guarantee(part: Part) -> pc.Expression:
    expression = pc.scalar(True)
    for name, (low, high) in part.bounds.items():
        bound = pc.field(name) == low if low == high else (pc.field(name) >= low) & (pc.field(name) <= high)
        expression = expression & bound
    return expression


def key_values(spec: TableSpec, keys: pa.Table) -> dict[str, list[Any]]:
    """Sorted distinct values of each key column."""
    return {name: sorted(pc.unique(keys[name]).to_pylist()) for name in spec.key}


def key_filter(spec: TableSpec, values: Mapping[str, list[Any]]) -> pc.Expression:
    """True for at least the rows whose key columns hold one of the values."""
    expression = pc.scalar(True)
    for name, listed in values.items():
        column, kind = pc.field(name), spec.schema.field(name).type
        near = column.isin(pa.array(listed, kind)) if len(listed) <= _MANY else (column >= listed[0]) & (column <= listed[-1])
        expression = expression & near
    return expression


def write_part(storage: Storage, spec: TableSpec, folder: str, rows: pa.Table) -> tuple[str, int, str]:
    """Write one new part; returns its name, its size in bytes and its statistics for the log."""
    rows = _sorted(spec, rows)
    name = f"part-{uuid.uuid4().hex}.parquet"
    path = storage.inside(f"{folder}/{name}")
    with explained(storage):
        with storage.filesystem.open_output_stream(path) as stream, pq.ParquetWriter(stream, spec.schema, **_encoding(spec)) as writer:
            for group in _row_groups(rows):
                writer.write_table(group)
        size = storage.filesystem.get_file_info(path).size
    return name, size, _statistics(spec, rows)


def _sorted(spec: TableSpec, rows: pa.Table) -> pa.Table:
    """Rows by key; the wide columns are copied only where the order changes."""
    order = pc.sort_indices(rows.select(list(spec.key)), sort_keys=[(name, "ascending") for name in spec.key])
    in_order = pc.all(pc.less(order[:-1], order[1:])).as_py() if len(order) > 1 else True
    return rows if in_order else rows.take(order)


def _encoding(spec: TableSpec) -> dict[str, Any]:
    floats = {}
    for name, kind in spec.columns:
        if pa.types.is_list(kind) and pa.types.is_floating(kind.value_type):
            floats[f"{name}.list.element"] = "BYTE_STREAM_SPLIT"
        elif pa.types.is_floating(kind):
            floats[name] = "BYTE_STREAM_SPLIT"
    texts = [name for name, kind in spec.columns if pa.types.is_string(kind)]
    return {"compression": "zstd", "use_dictionary": texts, "column_encoding": floats}


def _row_groups(rows: pa.Table) -> Iterable[pa.Table]:
    """Row groups of whole clips, so that one clip is read from one group."""
    if "clip_id" not in rows.column_names or rows.num_rows == 0:
        yield rows
        return
    ids = rows["clip_id"].combine_chunks()
    changes = pc.indices_nonzero(pc.not_equal(ids[1:], ids[:-1])).to_pylist()
    starts = [0, *(int(i) + 1 for i in changes)]
    edges = [*starts[::CLIPS_PER_ROW_GROUP], len(ids)]
    for start, end in itertools.pairwise(edges):
        yield rows.slice(start, end - start)


def _statistics(spec: TableSpec, rows: pa.Table) -> str:
    low, high = {}, {}
    for name in spec.key:
        bounds = pc.min_max(rows[name]).as_py()
        low[name], high[name] = bounds["min"], bounds["max"]
    return json.dumps({"numRecords": rows.num_rows, "minValues": low, "maxValues": high, "nullCount": {}})
