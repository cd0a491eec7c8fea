"""A paper's table laid out again, cell by cell as printed, with our numbers below where protocol, data set and split match."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pyarrow.compute as pc

from eval.grid import Grid
from eval.method_names import TITLES
from eval.metrics import METRICS
from eval.published.beside import MARK
from eval.published.cells import Printed, printed_cells
from eval.published.matching import column_scale, impossible, source_of
from pipelines.delta_log import folder_of
from pipelines.errors import UserError
from pipelines.lake import Lake

_ARROWS = {"up": "↑", "down": "↓"}
# remarks that the layout says in its own words
_SAID_ALREADY = ("OCR lost decimal point", "presumably ", "below 24.17 dB", "see floor note", "printed in percent")


_Column = tuple[str, str]  # metric as printed, data set id
_Line = tuple[str, str]  # method as printed, variant


Labels = Mapping[tuple[str, str], str]
"""(method, variant) of ours -> the row of an ablation table that it is."""


def paper_grids(
    paper: str,
    table: str,
    benchmark: Iterable[Mapping[str, Any]] = (),
    *,
    labels_of: Callable[[str, str], Labels] | None = None,
    corrected: bool = False,
) -> list[Grid]:
    """Grids of a paper's Table N; "1" also finds 1a and 1b. benchmark: rows of `benchmark`, ours.

    labels_of: (paper, "Table 3") -> which of our variants are which rows; a table of which it knows some shows those alone, in the
    table's order. corrected: lost decimal points are put back, in place of a note. Raises UserError that lists the papers, or the
    paper's tables.
    """
    ours, grids = list(benchmark), []
    for name in _chosen(paper, table, printed_cells()):
        cells = [cell for cell in printed_cells() if cell.row["paper"] == paper and cell.row["table"] == name]
        grids.append(_grid(cells, ours, labels_of(paper, name) if labels_of else {}, corrected))
    return grids


def lake_grids(lake: Lake, paper: str, table: str, labels_of: Callable[[str, str], Labels] | None = None) -> list[Grid]:
    """The same with the rows of the lake's benchmark; before there is a lake, without."""
    if not lake.list_files(folder_of("benchmark")):
        return paper_grids(paper, table)
    datasets = {cell.row["dataset_id"] for cell in printed_cells() if cell.row["paper"] == paper}
    rows = [row for dataset in sorted(datasets) for row in lake.rows("benchmark", pc.field("dataset") == dataset)]
    return paper_grids(paper, table, rows, labels_of=labels_of)


def _chosen(paper: str, table: str, cells: Sequence[Printed]) -> list[str]:
    papers = list(dict.fromkeys(cell.row["paper"] for cell in cells))
    if paper not in papers:
        raise UserError(f"--paper {paper}: unknown; there are: {', '.join(papers)}")
    tables = list(dict.fromkeys(cell.row["table"] for cell in cells if cell.row["paper"] == paper))
    wanted = re.sub(r"(?i)^table\s*", "", table.strip()).lower()
    found = [name for name in tables if re.fullmatch(rf"Table {re.escape(wanted)}[a-z]?", name)]
    if not wanted or not found:
        raise UserError(f"--table {table}: the paper {paper} has: {', '.join(tables)}")
    return found


def _grid(cells: Sequence[Printed], ours: Sequence[Mapping[str, Any]], labels: Labels, corrected: bool) -> Grid:
    columns = _columns(cells)
    lines: dict[_Line, dict[_Column, Printed]] = {}
    for cell in cells:
        lines.setdefault((cell.row["method"], cell.row["variant"]), {})[_column(cell)] = cell
    datasets = list(dict.fromkeys(dataset for _, dataset in columns if dataset != "none"))
    rows, notes = [], []
    for line, held in lines.items():
        texts, found = _paper_line(line, held, list(columns), corrected)
        rows.append(texts)
        notes += found
    added = _our_lines(columns, ours, labels)
    head = ("Method", *(_title(column, cell, len(datasets) > 1) for column, cell in columns.items()))
    some = cells[0].row
    title = f"{TITLES[some['paper']]}, {some['table']} ({', '.join(datasets)}) as printed"
    return Grid(title=title + (", and ours below" if added else ""), head=head, rows=tuple([*rows, *added]),
                notes=tuple([*_source_notes(columns), *notes, *_remarks(cells)]), rule_before=len(rows) if added else None)  # fmt: skip


def _column(cell: Printed) -> _Column:
    return (cell.row["metric"], cell.row["dataset_id"])


def _columns(cells: Sequence[Printed]) -> dict[_Column, Printed]:
    """Columns in the paper's order, each with one of its cells; a metric on two data sets stands side by side."""
    first: dict[_Column, Printed] = {}
    for cell in cells:
        first.setdefault(_column(cell), cell)
    order = list(dict.fromkeys(metric for metric, _ in _fullest(cells)))
    datasets = list(dict.fromkeys(dataset for _, dataset in first))
    return {key: first[key] for key in sorted(first, key=lambda key: (order.index(key[0]), datasets.index(key[1])))}


def _fullest(cells: Sequence[Printed]) -> list[_Column]:
    """Columns as the row with most cells has them, so that a row with gaps does not decide the order; then the rest."""
    lines: dict[_Line, list[_Column]] = {}
    for cell in cells:
        lines.setdefault((cell.row["method"], cell.row["variant"]), []).append(_column(cell))
    return [*max(lines.values(), key=len), *(column for line in lines.values() for column in line)]


def _title(column: _Column, cell: Printed, several: bool) -> str:
    scale = f" (×1E{math.log10(cell.row['scale']):.0f})" if cell.row["scale"] not in (None, 1.0, 1e-2) else ""
    where = f" {column[1]}" if several and column[1] != "none" else ""
    return f"{column[0]}{scale}{where} {_ARROWS[cell.row['better']]}"


def _paper_line(line: _Line, held: Mapping[_Column, Printed], columns: Sequence[_Column], mend: bool) -> tuple[tuple[str, ...], list[str]]:
    name = _name(line)
    texts, notes = [name], []
    siblings = [cell.row for cell in held.values()]
    for column in columns:
        cell = held.get(column)
        why = impossible(cell.row, siblings) if cell else ""
        corrected = cell is not None and cell.row["corrected_value"] is not None
        shown = _corrected(cell) if mend and cell and corrected else cell.text if cell else "–"
        texts.append(shown + (MARK if why else ""))
        if why and cell:
            notes.append(f"{MARK} {name}, {column[0]} {shown}: {why}; not reproducible as this metric")
        if cell and corrected and not mend:
            notes.append(f"{name}, {column[0]} {cell.text}: read as {_corrected(cell)}, the decimal point is lost in the text")
    return tuple(texts), notes


def _corrected(cell: Printed) -> str:
    """The corrected value with the digits that are printed: 2740 is 27.40."""
    value = float(cell.row["corrected_value"])
    return f"{value:.{max(0, len(re.sub(r'[^0-9]', '', cell.text)) - len(str(int(value))))}f}"


def _source_notes(columns: Mapping[_Column, Printed]) -> list[str]:
    """Which protocol and split would compare with this table, and how certain that is."""
    if not any(cell.row["metric_id"] in METRICS for cell in columns.values()):
        return ["answers of people: no protocol measures them"]
    some = next(iter(columns.values())).row
    source = source_of(some["paper"], some["table"])
    notes = [f"compares with protocol {source.protocol}; not certain: {source.doubt}"]
    for dataset in dict.fromkeys(dataset for _, dataset in columns):
        split, doubt = source.splits.get(dataset, ("", ""))
        if split:
            notes.append(f"{dataset}: split {split}" + (f"; not certain: {doubt}" if doubt else ""))
    return notes


def _remarks(cells: Sequence[Printed]) -> list[str]:
    """What is known of single cells (misprints, where a number comes from), each remark once with the cells it is about."""
    about: dict[str, list[Printed]] = {}
    for cell in cells:
        text = "; ".join(part for part in (cell.row["note"] or "").split("; ") if not part.startswith(_SAID_ALREADY))
        if text:
            about.setdefault(text, []).append(cell)
    return [f"{_whose(held, cells)}: {text}" for text, held in about.items()]


def _whose(held: Sequence[Printed], cells: Sequence[Printed]) -> str:
    """Rows and columns of some cells in words: "DisCo: L1, FVD" or "all rows: L1"."""
    rows: dict[_Line, list[str]] = {}
    for cell in held:
        rows.setdefault((cell.row["method"], cell.row["variant"]), []).append(cell.row["metric"])
    full = [cell.row["metric"] for cell in cells]
    by_columns: dict[tuple[str, ...], list[str]] = {}
    for line, metrics in rows.items():
        by_columns.setdefault(tuple(dict.fromkeys(metrics)), []).append(_name(line))
    everyone = len({(cell.row["method"], cell.row["variant"]) for cell in cells})
    parts = []
    for columns, names in by_columns.items():
        who = "all rows" if len(names) == everyone else ", ".join(names)
        parts.append(who if set(columns) == set(full) else f"{who} ({', '.join(columns)})")
    return "; ".join(parts)


def _name(line: _Line) -> str:
    return " ".join(part for part in (line[0], f"({line[1]})" if line[1] else "") if part)


def _our_lines(columns: Mapping[_Column, Printed], ours: Sequence[Mapping[str, Any]], labels: Labels) -> list[tuple[str, ...]]:
    """Our methods, one line each, values in the column's scale; only rows under the table's own protocol and split."""
    some = next(iter(columns.values())).row
    source = source_of(some["paper"], some["table"])
    found: dict[tuple[int, str], dict[_Column, str]] = {}
    for row in ours:
        split = source.splits.get(row["dataset"], ("",))[0]
        named = (row["method"], row["variant"])
        if row["protocol"] != source.protocol or row["split"] != split or row["value"] is None or (labels and named not in labels):
            continue
        place = (list(labels).index(named) if labels else 0, _our_name(row, labels.get(named)))
        for column, cell in columns.items():
            if cell.row["metric_id"] == row["metric"] and column[1] == row["dataset"]:
                found.setdefault(place, {})[column] = _shown(row["value"] / column_scale(cell.row), cell.text)
    return [(name, *(cells.get(column, "–") for column in columns)) for (_, name), cells in sorted(found.items())]


def _our_name(row: Mapping[str, Any], label: str | None) -> str:
    detail = ", ".join(part for part in (row["variant"] or "", f"seed {row['seed']}") if part)
    return f"{label or TITLES.get(row['method'], row['method'])} (measured here: {detail})"


def _shown(value: float, like: str) -> str:
    """A value with the digits of a printed one: 3.21E-04, 0.672, 284.8."""
    digits = len(re.sub(r"E.*", "", like).rpartition(".")[2]) if "." in like else 3
    return f"{value:.{digits}E}" if "E" in like else f"{value:.{digits}f}"
