"""What a table is: its columns, its key, and whether people read it as a plain file.

A column name says its unit where it has one (`_s` seconds, `_px` pixels); coordinates are source pixels of the upright
full frame, origin top left, x right, y down. Delta Lake has no unsigned, float16, fixed-size list or duration types,
so arrays are flat lists (the comment gives the shape) or zstd-compressed bytes with shape and dtype columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

TEXT, INT, LONG, REAL, BOOL = pa.string(), pa.int32(), pa.int64(), pa.float64(), pa.bool_()
FLOATS, INTS, FLAGS, BYTES = pa.list_(pa.float32()), pa.list_(pa.int32()), pa.list_(pa.bool_()), pa.binary()

Columns = Sequence[tuple[str, pa.DataType]]


@dataclass(frozen=True, kw_only=True, slots=True)
class TableSpec:
    """One table: `key` names the columns that identify a row; `published` ones get a snapshot in tables/."""

    name: str
    key: tuple[str, ...]
    columns: tuple[tuple[str, pa.DataType], ...]
    published: bool = False

    @property
    def schema(self) -> pa.Schema:
        """Arrow schema; key columns may not be null."""
        return pa.schema([pa.field(name, kind, nullable=name not in self.key) for name, kind in self.columns])


STATUS: Columns = [("status", TEXT), ("code", TEXT), ("reason", TEXT)]  # ok | failed | dropped; errors.CODES; why
FEATURE_KEY = ("dataset", "clip_id", "frame", "extractor", "version", "weights_digest")


def table(name: str, key: Sequence[str], columns: Columns, *, published: bool = False) -> TableSpec:
    """A spec from lists."""
    return TableSpec(name=name, key=tuple(key), columns=tuple(columns), published=published)


def feature(name: str, values: Columns) -> TableSpec:
    """One row per frame of a clip, frame counted from 0 in the clip; a failed clip is one row with frame -1 and an error."""
    key: Columns = [("dataset", TEXT), ("clip_id", TEXT), ("frame", INT), ("extractor", TEXT), ("version", INT), ("weights_digest", TEXT)]
    return table(name, FEATURE_KEY, [*key, *values, ("error", TEXT), ("reason", TEXT)])
