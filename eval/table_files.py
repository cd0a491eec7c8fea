"""The benchmark table in the formats that people and programs read: text, Markdown, LaTeX, CSV, Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from eval.ablation import ablation_tables
from eval.grid import as_markdown
from eval.latex import table_latex
from eval.metrics import METRICS
from eval.page import markdown_cell, render
from eval.table import BenchmarkTable, Section, benchmark_table, measured_rows, section_text, table_text
from pipelines.errors import UserError
from pipelines.tables import TABLES

Rows = Sequence[Mapping[str, Any]]


def table_markdown(table: BenchmarkTable, ablations: Sequence[Section] = ()) -> str:
    """Pipe tables, best values bold, intervals in brackets, the ablations and the papers' numbers."""
    return render("tables.md", {"table": table, "ablations": ablations, "published": printed_markdown(table)})


def tables_text(table: BenchmarkTable, ablations: Sequence[Section] = ()) -> str:
    """`table_text`, then the ablations."""
    below = ("\n".join([section_text(section, small=True), *(f"note: {note}" for note in section.notes)]) for section in ablations)
    return "\n\n".join([table_text(table), *below])


def printed_markdown(table: BenchmarkTable) -> str:
    """What the papers print, or the line that says why nothing stands there."""
    printed = table.published.grid(measured_rows(table))
    return markdown_cell(table.published.line) if printed is None else as_markdown(printed)


def marked_rows(rows: Rows) -> list[dict[str, Any]]:
    """Rows of `benchmark` in the table's order, with the metric's title and group, and whether the value is the best of its column."""
    table = benchmark_table(rows)
    best = {(line.prediction_id, metric.id): cell.best for section in table.sections for line in section.lines
            for metric, cell in zip(section.columns, line.cells, strict=True)}  # fmt: skip
    order = {line.prediction_id: number for number, line in enumerate(table.lines)}
    places = {metric: number for number, metric in enumerate(METRICS)}
    known = sorted((row for row in rows if row["metric"] in METRICS), key=lambda row: (order[row["prediction_id"]], places[row["metric"]]))
    return [{**row, "title": METRICS[row["metric"]].title, "group": METRICS[row["metric"]].group,
             "best": best.get((row["prediction_id"], row["metric"]), False)} for row in known]  # fmt: skip


def rows_parquet(rows: Rows) -> bytes:
    """`marked_rows` as a Parquet file: the types of the table `benchmark`, then title, group, best."""
    extra = [("title", pa.string()), ("group", pa.string()), ("best", pa.bool_())]
    schema = pa.schema([(name, kind) for name, kind in TABLES["benchmark"].columns] + extra)
    stream = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(marked_rows(rows), schema=schema), stream, compression="zstd")
    return bytes(stream.getvalue())


def rows_csv(rows: Rows) -> str:
    """`marked_rows` with all digits, one line per method and metric."""
    stream = io.StringIO()
    marked = marked_rows(rows)
    writer = csv.DictWriter(stream, list(marked[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(marked)
    return stream.getvalue()


FORMATS: Mapping[str, Callable[[Rows], str]] = MappingProxyType(
    {
        "text": lambda rows: tables_text(benchmark_table(rows), ablation_tables(rows)),
        "markdown": lambda rows: table_markdown(benchmark_table(rows), ablation_tables(rows)),
        "latex": lambda rows: table_latex(benchmark_table(rows), ablation_tables(rows)),
        "csv": rows_csv,
    }
)


def check_format(style: str) -> None:
    """Raise UserError, which lists FORMATS, for another one."""
    if style not in FORMATS:
        raise UserError(f"--format {style}: unknown; there are: {', '.join(FORMATS)}")


def rows_as(rows: Rows, style: str) -> str:
    """The table of these rows in one of FORMATS. Raises UserError for another one."""
    check_format(style)
    return FORMATS[style](rows)
