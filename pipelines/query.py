"""SQL over every table of the lake, by DuckDB on the lake's own parts (Arrow reads them, so a bucket needs no extension of DuckDB)."""

from __future__ import annotations

import base64
import csv
import json
import math
import os
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import UserError
from pipelines.lake import Lake
from pipelines.tables import TABLES

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

FORMATS = {".parquet": "parquet", ".csv": "csv", ".json": "json"}
_ROWS_AT_ONCE = 10_000


def query(lake: Lake, sql: str) -> pa.Table:
    """Rows of one SQL statement over all tables. Raises UserError with DuckDB's explanation and the list of tables or columns."""
    import duckdb

    with duckdb.connect(":memory:") as connection:
        _register(connection, lake, sql)
        try:
            connection.execute("set enable_external_access = false")
            result = connection.sql(sql)
            if result is None:  # a statement that returns nothing
                raise UserError("the query returns no rows; write a SELECT")
            return result.to_arrow_table()
        except duckdb.Error as error:
            raise UserError(_explain(error, sql)) from None


def save(rows: pa.Table, path: Path) -> Path:
    """Write rows as Parquet, CSV or JSON by the file's ending, whole or not at all. Raises UserError for another ending."""
    if path.suffix not in FORMATS:
        raise UserError(f"--output {path}: the ending must be one of {', '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise UserError(f"--output {path}: there is no folder {path.parent}; make it first")
    partial = path.with_name(f".{path.name}.part")
    _WRITERS[path.suffix](rows, partial)
    os.replace(partial, path)
    return path


def _write_parquet(rows: pa.Table, path: Path) -> None:
    import pyarrow.parquet as pq

    pq.write_table(rows, path, compression="zstd")


def _write_csv(rows: pa.Table, path: Path) -> None:
    """Missing values are empty cells; lists are JSON; bytes are base64."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(rows.column_names)
        for batch in rows.to_batches(max_chunksize=_ROWS_AT_ONCE):
            for row in batch.to_pylist():
                writer.writerow([_cell(row[name]) for name in rows.column_names])


def _write_json(rows: pa.Table, path: Path) -> None:
    """A list of objects; bytes are base64; NaN and infinity, which JSON has not, are null."""
    with path.open("w", encoding="utf-8") as file:
        separator = "[\n"
        for batch in rows.to_batches(max_chunksize=_ROWS_AT_ONCE):
            for row in batch.to_pylist():
                file.write(separator + json.dumps(_plain(row), ensure_ascii=False, allow_nan=False))
                separator = ",\n"
        file.write("\n]\n" if rows.num_rows else "[]\n")


def _cell(value: Any) -> Any:
    if isinstance(value, list | dict):
        return json.dumps(_plain(value), ensure_ascii=False)
    return _plain(value) if isinstance(value, bytes) else value


def _plain(value: Any) -> Any:
    """A value of Arrow as JSON knows it."""
    if isinstance(value, dict):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return float(value)
    return value if value is None or isinstance(value, bool | int | str) else str(value)


_WRITERS = {".parquet": _write_parquet, ".csv": _write_csv, ".json": _write_json}


def _register(connection: duckdb.DuckDBPyConnection, lake: Lake, sql: str) -> None:
    """One view per table that the statement may mean (all, where it names none): Arrow opens only the parts that the query touches."""
    lowered = sql.lower()
    for name in [name for name in TABLES if name in lowered] or list(TABLES):
        connection.register(name, lake.dataset(name))


def _explain(error: Exception, sql: str) -> str:
    message = str(error).split("\n\nLINE")[0].split("\n")[0]
    lines = [f"the query cannot run: {message}", f"tables: {', '.join(sorted(TABLES))}"]
    named = [name for name in TABLES if name in sql]
    lines += [f"columns of {name}: {', '.join(column for column, _ in TABLES[name].columns)}" for name in named]
    return "\n".join(lines)
