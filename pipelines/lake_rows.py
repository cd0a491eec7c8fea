"""Rows on their way into a table, and what they are by content."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.errors import UserError
from pipelines.tables import TABLES, TableSpec

Rows: TypeAlias = pa.Table | Sequence[Mapping[str, Any]]

# What a row says of where and when it was made, not of what it is: left out of content digests.
VOLATILE = {"uri", "seconds", "time", "run_id", "clips_version", "poses_version", "signals_version", "training_rows_version"}


def spec_of(table: str) -> TableSpec:
    """The table's spec; UserError lists what there is."""
    if table not in TABLES:
        raise UserError(f"no table {table!r}; there are: {', '.join(sorted(TABLES))}")
    return TABLES[table]


def write_parquet(path: Path, rows: pa.Table) -> None:
    """One plain Parquet file, whole or not at all."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    pq.write_table(rows, partial, compression="zstd")
    os.replace(partial, path)


def digest_rows(table: str, rows: pa.Table) -> str:
    """sha256 over the rows' content: the order of rows, and where and when they were made (VOLATILE), do not matter."""
    spec = spec_of(table)
    stable = [name for name in rows.column_names if name not in VOLATILE]
    order = [(name, "ascending") for name in spec.key if name in stable]
    plain = rows.select(stable).sort_by(order).combine_chunks()
    plain = plain.take(pa.array(range(plain.num_rows), pa.int64()))  # fresh buffers: no offsets, no spare validity bits
    digest = hashlib.sha256()
    for batch in plain.combine_chunks().to_batches():
        digest.update(batch.serialize())
    return digest.hexdigest()


def as_table(spec: TableSpec, rows: Rows) -> pa.Table:
    """Rows as the table's columns. Raises UserError for unknown columns and for two rows of one key."""
    if not isinstance(rows, pa.Table):
        unknown = sorted({name for row in rows for name in row} - set(spec.schema.names))
        if unknown:
            raise UserError(f"table {spec.name} has no column {', '.join(unknown)}; it has: {', '.join(spec.schema.names)}")
        rows = pa.Table.from_pylist([dict(row) for row in rows], schema=spec.schema)
    table = rows.select(spec.schema.names).cast(spec.schema)
    distinct = table.select(list(spec.key)).group_by(list(spec.key)).aggregate([])
    if distinct.num_rows < table.num_rows:
        raise UserError(f"two rows for one key {spec.key} in a write to table {spec.name}")
    return table
