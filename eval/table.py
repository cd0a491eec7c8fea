"""The benchmark table for people: columns with directions, cells with intervals, best values, and what it says in words.

One table per group of metrics (`Metric.group`), the main one first, so that none becomes too wide.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from eval.grid import as_text
from eval.method_names import FLOORS, method_detail, method_title
from eval.metric_text import heading as heading
from eval.metric_text import shown as shown
from eval.metrics import METRICS
from eval.metrics.metric import Metric
from eval.published.beside import Beside, printed_beside
from eval.verdicts import MAIN as MAIN
from eval.verdicts import beats_floor as beats_floor
from eval.verdicts import verdicts
from pipelines.errors import UserError

GROUPS: Mapping[str, str] = MappingProxyType(
    {MAIN: "", "people": "The person: identity and pose", "regions": "Parts of the frame", "time": "Over time"}
)
WIDEST = 8  # columns of a table beside the main one; a group with more is cut into several


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One number as text."""

    value: str
    interval: str  # "" when there is none
    best: bool
    note: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One method."""

    prediction_id: str
    title: str
    detail: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """The columns of one group, or a part of a wide one. Every section has the same methods in the same order."""

    title: str  # "" for the main one
    columns: tuple[Metric, ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchmarkTable:
    """The tables of one protocol, data set and split; `sections` has at least one."""

    protocol: str
    dataset: str
    split: str
    sections: tuple[Section, ...]
    verdicts: tuple[str, ...]
    coverage: str
    published: Beside  # the papers' numbers under the same protocol and split

    @property
    def columns(self) -> tuple[Metric, ...]:
        """Of the first section."""
        return self.sections[0].columns

    @property
    def lines(self) -> tuple[Line, ...]:
        """Of the first section."""
        return self.sections[0].lines

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Columns of all sections."""
        return tuple(metric for section in self.sections for metric in section.columns)

    @property
    def notes(self) -> tuple[str, ...]:
        """Of all sections."""
        return tuple(note for section in self.sections for note in section.notes)


def benchmark_table(rows: Sequence[Mapping[str, Any]]) -> BenchmarkTable:
    """Lay rows of `benchmark` out. Raises UserError for no rows, and for rows of two protocols, data sets or splits."""
    named = sorted({(row["protocol"], row["dataset"], row["split"]) for row in rows})
    if len(named) != 1 or not any(row["metric"] in METRICS for row in rows):
        found = ", ".join("/".join(group) for group in named) or "none"
        raise UserError(f"one table holds one protocol, data set and split, but the rows are of: {found}; make one report for each")
    protocol, dataset, split = named[0]
    known = sorted((row for row in rows if row["metric"] in METRICS), key=_order)
    by_method: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in known:
        by_method.setdefault(row["prediction_id"], {})[row["metric"]] = row
    return BenchmarkTable(protocol=protocol, dataset=dataset, split=split, sections=_sections(by_method, known),
                          verdicts=verdicts(by_method), coverage=_coverage(known),
                          published=printed_beside(protocol, dataset, split))  # fmt: skip


def _sections(by_method: Mapping[str, Mapping[str, Mapping[str, Any]]], rows: Sequence[Mapping[str, Any]]) -> tuple[Section, ...]:
    """The parts that have a value; why a part has none is said under the first."""
    parts = _parts([metric for metric in METRICS.values() if any(row["metric"] == metric.id for row in rows)])
    valued = {row["metric"] for row in rows if row["value"] is not None}
    there = [part for part in parts if any(metric.id in valued for metric in part[1])] or parts[:1]
    absent = [metric for part in parts if part not in there for metric in part[1]]
    sections: list[Section] = []
    for title, columns in there:
        lines = tuple(_line(prediction_id, cells, columns, _bests(columns, by_method)) for prediction_id, cells in by_method.items())
        notes = (*_notes(rows, columns), *(() if sections else _notes(rows, absent)))
        sections.append(Section(title=title, columns=columns, lines=lines, notes=notes))
    return tuple(sections)


def _parts(metrics: Sequence[Metric]) -> list[tuple[str, tuple[Metric, ...]]]:
    """(title, columns): groups in their order, regions apart, none but the main one wider than WIDEST."""
    found: dict[tuple[str, str], list[Metric]] = {}
    for metric in sorted(metrics, key=lambda m: list(GROUPS).index(m.group)):
        region = (metric.region or "") if metric.group == "regions" else ""
        found.setdefault((metric.group, region), []).append(metric)
    steps = {key: len(columns) if key[0] == MAIN else WIDEST for key, columns in found.items()}
    return [(key[1].capitalize() or GROUPS[key[0]], tuple(columns[start : start + steps[key]]))
            for key, columns in found.items() for start in range(0, len(columns), steps[key])]  # fmt: skip


def _bests(columns: Sequence[Metric], by_method: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, float | None]:
    return {metric.id: _best(metric, [cells[metric.id] for cells in by_method.values() if metric.id in cells]) for metric in columns}


def _order(row: Mapping[str, Any]) -> tuple[bool, str, str, int, str]:
    return (row["method"] not in FLOORS, row["method"], row["variant"] or "", row["seed"] or 0, row["prediction_id"])


def _line(
    prediction_id: str,
    cells: Mapping[str, Mapping[str, Any]],
    columns: Sequence[Metric],
    best: Mapping[str, float | None],
) -> Line:
    some = next(iter(cells.values()))
    made = tuple(_cell(metric, cells.get(metric.id), best[metric.id]) for metric in columns)
    return Line(prediction_id=prediction_id, title=method_title(some), detail=method_detail(some), cells=made)


def _cell(metric: Metric, row: Mapping[str, Any] | None, best: float | None) -> Cell:
    if row is None or row["value"] is None:
        return Cell(value="–", interval="", best=False, note=(row or {}).get("note") or "not scored")
    interval = "" if row["low"] is None else " – ".join(shown(metric, row[end], like=row["value"]) for end in ("low", "high"))
    return Cell(
        value=shown(metric, row["value"]),
        interval=interval,
        best=best is not None and row["value"] == best,
        note=row["note"] or "",
    )


def _best(metric: Metric, rows: Sequence[Mapping[str, Any]]) -> float | None:
    """The best value among methods that delivered the most clips; None when there is nothing to compare, or no meaning in it."""
    if not metric.judges:
        return None
    found = [row for row in rows if row["value"] is not None]
    most = max((row["clips"] for row in found), default=0)
    values = [row["value"] for row in found if row["clips"] == most]
    if len(found) < 2 or not values:
        return None
    return float(max(values) if metric.better == "up" else min(values))


def _notes(rows: Sequence[Mapping[str, Any]], columns: Sequence[Metric]) -> tuple[str, ...]:
    """Each distinct note of the columns once, with the columns (and, unless all have it, the methods) that it is about."""
    names = _short_names(rows)
    about: dict[str, dict[str, set[str]]] = {}
    for row in sorted(rows, key=lambda r: (list(METRICS).index(r["metric"]), r["prediction_id"])):
        for note in (row["note"] or "").split("; ") if METRICS[row["metric"]] in columns else ():
            if note:
                entry = about.setdefault(note, {"metrics": set(), "methods": set()})
                entry["metrics"].add(METRICS[row["metric"]].title)
                entry["methods"].add(names[row["prediction_id"]])
    everyone = set(names.values())
    texts = []
    for note, entry in about.items():
        whose = "" if entry["methods"] == everyone else f" of {', '.join(sorted(entry['methods']))}"
        titles = [metric.title for metric in METRICS.values() if metric.title in entry["metrics"]]
        which = "All columns" if len(titles) == len(columns) > 1 else ", ".join(titles)
        texts.append(f"{which}{whose}: {note}")
    return tuple(texts)


def _short_names(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """prediction id -> title, with variant and seed where several have that title."""
    titles = {row["prediction_id"]: method_title(row) for row in rows}
    several = {title for title, number in Counter(titles.values()).items() if number > 1}
    return {row["prediction_id"]: f"{method_title(row)} ({method_detail(row)})" if method_title(row) in several else method_title(row)
            for row in rows}  # fmt: skip


def _coverage(rows: Sequence[Mapping[str, Any]]) -> str:
    clips = max((row["clips"] or 0 for row in rows), default=0)
    frames = max((row["frames"] or 0 for row in rows), default=0)
    windows = max((row["windows"] or 0 for row in rows), default=0)
    return f"{clips} clips, {frames} frames, {windows} windows per method"


def table_text(table: BenchmarkTable) -> str:
    """The tables for a terminal: aligned columns, best values starred; verdicts, notes and the papers' numbers below."""
    first, *others = table.sections
    said = {note.partition(": ")[2] for note in first.notes}
    parts = [section_text(first)]
    for section in others:
        new = [f"note: {note}" for note in section.notes if note.partition(": ")[2] not in said]
        parts.append("\n".join([section_text(section), *new]))
    printed = table.published.grid(measured_rows(table), ablations=False)
    below = table.published.line if printed is None else f"\n{as_text(printed)}".rstrip()
    return "\n".join(["\n\n".join(parts), "", *table.verdicts, *(f"note: {note}" for note in first.notes), below])


def measured_rows(table: BenchmarkTable) -> tuple[tuple[str, ...], ...]:
    """Our numbers once more, in the columns of the papers' numbers: (name, value ...) per method."""
    cells = {(line.prediction_id, metric.id): cell.value for section in table.sections for line in section.lines
             for metric, cell in zip(section.columns, line.cells, strict=True)}  # fmt: skip
    return tuple((f"{line.title} ({line.detail})", *(cells.get((line.prediction_id, metric.id), "–") for metric in table.published.columns))
                 for line in table.lines)  # fmt: skip


def section_text(section: Section, *, small: bool = False) -> str:
    """One section for a terminal. small: the small print of a cell in brackets behind its value."""
    head = ["method", *(heading(metric) for metric in section.columns)]
    body = [[f"{line.title} ({line.detail})", *(_cell_text(cell, small) for cell in line.cells)] for line in section.lines]
    widths = [max(len(row[i]) for row in [head, *body]) for i in range(len(head))]
    lines = ["  ".join(t.rjust(w) if i else t.ljust(w) for i, (t, w) in enumerate(zip(row, widths, strict=True))).rstrip()
             for row in [head, *body]]  # fmt: skip
    rule = "-" * sum([*widths, 2 * len(widths) - 2])
    return "\n".join([*([section.title] if section.title else []), lines[0], rule, *lines[1:]])


def _cell_text(cell: Cell, small: bool) -> str:
    return cell.value + (f" ({cell.interval})" if small and cell.interval else "") + ("*" if cell.best else " ")
