"""Tables on the terminal."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from pipelines.lake import Lake
from pipelines.sources.registry import load, registered
from pipelines.tables import TABLES

_MOST_ROWS = 200


def show_rows(rows: pa.Table) -> None:
    """Print rows; long values are cut on a terminal, and at most 200 rows are shown."""
    table = Table(*map(_escape, rows.column_names), header_style="bold")
    for row in rows.slice(0, _MOST_ROWS).to_pylist():
        table.add_row(*(_text(value) for value in row.values()))
    console = _console()
    console.print(table)
    rest = rows.num_rows - _MOST_ROWS
    console.print(f"{rows.num_rows} rows" + (f", the first {_MOST_ROWS} shown; --output writes all of them" if rest > 0 else ""))


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=200)


def _escape(text: str) -> str:
    return text.replace("[", "\\[")


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    text = "" if value is None else str(value)
    return _escape(text if len(text) <= 60 else text[:57] + "...")


def show_status(lake: Lake, instance: dg.DagsterInstance) -> None:
    """Print the lake's data sets and tables, and the last runs."""
    console = _console()
    console.print(f"lake: {lake.address}", soft_wrap=True)
    datasets = Table("data set", "source", "extractors", "protocol", "usable clips", header_style="bold")
    for name in registered(lake):
        known = load(lake, name)
        datasets.add_row(name, known.folder or known.kind, ", ".join(known.extractors), known.protocol, str(len(lake.clips(name))))
    console.print(datasets)
    tables = Table("table", "rows", "version", header_style="bold")
    for name in TABLES:
        tables.add_row(name, str(lake.read(name, columns=list(TABLES[name].key)).num_rows), str(lake.version(name)))
    console.print(tables)
    runs = Table("run", "job", "status", "partition", header_style="bold")
    for record in instance.get_run_records(limit=10):
        run = record.dagster_run
        runs.add_row(run.run_id[:8], run.job_name, run.status.value, run.tags.get("dagster/partition", ""))
    console.print(runs)
