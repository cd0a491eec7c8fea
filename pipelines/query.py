"""SQL over every table of the lake, by DuckDB on the lake's own parts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import UserError
from pipelines.lake import Lake
from pipelines.tables import TABLES

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

FORMATS = {".parquet": "parquet", ".csv": "csv", ".json": "json"}


def query(lake: Lake, sql: str) -> pa.Table:
    """Rows of one SQL statement over all tables. Raises UserError with DuckDB's explanation and the list of tables or columns."""
    import duckdb

    with duckdb.connect(":memory:") as connection:
        _register(connection, lake)
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
    rows.to_pandas().to_csv(path, index=False)


def _write_json(rows: pa.Table, path: Path) -> None:
    rows.to_pandas().to_json(path, orient="records", indent=1)


_WRITERS = {".parquet": _write_parquet, ".csv": _write_csv, ".json": _write_json}


def _register(connection: duckdb.DuckDBPyConnection, lake: Lake) -> None:
    """One view per table; the table's own parts, so that nothing is loaded that the query does not touch."""
    import pyarrow.dataset as ds

    for name, spec in TABLES.items():
        files = lake.files(name)
        rows: Any = ds.dataset(files, schema=spec.schema, format="parquet") if files else spec.schema.empty_table()
        connection.register(name, rows)


def _explain(error: Exception, sql: str) -> str:
    message = str(error).split("\n\nLINE")[0].split("\n")[0]
    lines = [f"the query cannot run: {message}", f"tables: {', '.join(sorted(TABLES))}"]
    named = [name for name in TABLES if name in sql]
    lines += [f"columns of {name}: {', '.join(column for column, _ in TABLES[name].columns)}" for name in named]
    return "\n".join(lines)
