"""The benchmark table for people: columns with directions, cells with intervals, best values, and what it says in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.metrics import METRICS
from eval.metrics.metric import Metric
from pipelines.errors import UserError

FLOOR = "copy_reference"
TITLES: Mapping[str, str] = {
    "animate_anyone": "AnimateAnyone",
    "hfca": "HFCA",
    "hia": "HIA",
    "stable_animator": "StableAnimator",
    "pose_animate": "PoseAnimate",
    "copy_reference": "Copy of the reference",
    "ipc": "IPC",
    "sd_2v": "SD-2V",
    "ip_controlnet": "IP-Adapter + ControlNet",
}


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
class BenchmarkTable:
    """A table of one protocol, data set and split."""

    columns: tuple[Metric, ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...]
    verdicts: tuple[str, ...]
    coverage: str


def benchmark_table(rows: Sequence[Mapping[str, Any]]) -> BenchmarkTable:
    """Lay rows of `benchmark` out. Raises UserError for no rows, and for rows of two protocols, data sets or splits."""
    groups = sorted({(row["protocol"], row["dataset"], row["split"]) for row in rows})
    if len(groups) != 1:
        named = ", ".join("/".join(group) for group in groups) or "none"
        raise UserError(f"one table holds one protocol, data set and split, but the rows are of: {named}; make one report for each")
    columns = tuple(metric for metric in METRICS.values() if any(row["metric"] == metric.id for row in rows))
    by_method: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in sorted(rows, key=_order):
        by_method.setdefault(row["prediction_id"], {})[row["metric"]] = row
    best = {metric.id: _best(metric, [cells[metric.id] for cells in by_method.values() if metric.id in cells]) for metric in columns}
    lines = tuple(_line(prediction_id, cells, columns, best) for prediction_id, cells in by_method.items())
    return BenchmarkTable(columns=columns, lines=lines, notes=_notes(rows), verdicts=_verdicts(by_method), coverage=_coverage(rows))


def _order(row: Mapping[str, Any]) -> tuple[bool, str, str, int, str]:
    return (row["method"] != FLOOR, row["method"], row["variant"] or "", row["seed"] or 0, row["prediction_id"])


def method_title(row: Mapping[str, Any]) -> str:
    """What people call the method."""
    return TITLES.get(row["method"], row["method"])


def method_detail(row: Mapping[str, Any]) -> str:
    """Variant and seed."""
    if row["method"] == FLOOR:
        return "the floor"
    return ", ".join(part for part in (row["variant"] or "", f"seed {row['seed']}") if part)


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
    interval = "" if row["low"] is None else f"{shown(metric, row['low'])} – {shown(metric, row['high'])}"
    return Cell(
        value=shown(metric, row["value"]),
        interval=interval,
        best=best is not None and row["value"] == best,
        note=row["note"] or "",
    )


def shown(metric: Metric, value: float) -> str:
    """A value with the metric's decimals."""
    return f"{value:.{metric.digits}f}"


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


def _notes(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Each distinct note once, with the columns (and, unless all have it, the methods) that it is about."""
    about: dict[str, dict[str, set[str]]] = {}
    for row in sorted(rows, key=lambda r: (list(METRICS).index(r["metric"]), r["prediction_id"])):
        for note in (row["note"] or "").split("; "):
            if note:
                entry = about.setdefault(note, {"metrics": set(), "methods": set()})
                entry["metrics"].add(METRICS[row["metric"]].title)
                entry["methods"].add(method_title(row))
    everyone = {method_title(row) for row in rows}
    texts = []
    for note, entry in about.items():
        whose = "" if entry["methods"] == everyone else f" of {', '.join(sorted(entry['methods']))}"
        titles = [metric.title for metric in METRICS.values() if metric.title in entry["metrics"]]
        texts.append(f"{', '.join(titles)}{whose}: {note}")
    return tuple(texts)


def _coverage(rows: Sequence[Mapping[str, Any]]) -> str:
    clips = max((row["clips"] or 0 for row in rows), default=0)
    frames = max((row["frames"] or 0 for row in rows), default=0)
    windows = max((row["windows"] or 0 for row in rows), default=0)
    return f"{clips} clips, {frames} frames, {windows} windows per method"


def _verdicts(by_method: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> tuple[str, ...]:
    """One plain sentence per method: does it beat copying the reference frame, and where."""
    floors = [cells for cells in by_method.values() if next(iter(cells.values()))["method"] == FLOOR]
    if not floors:
        return ("Copying the reference frame was not scored, so whether a method beats it cannot be said.",)
    return tuple(_verdict(cells, floors[0]) for cells in by_method.values() if next(iter(cells.values()))["method"] != FLOOR)


def beats_floor(cells: Mapping[str, Mapping[str, Any]], floor: Mapping[str, Mapping[str, Any]]) -> dict[str, bool]:
    """metric id -> is the method better than copying the reference; metrics that judge and that both have."""
    answer = {}
    for metric in METRICS.values():
        mine, theirs = cells.get(metric.id), floor.get(metric.id)
        if metric.judges and mine and theirs and mine["value"] is not None and theirs["value"] is not None:
            answer[metric.id] = bool(mine["value"] > theirs["value"]) if metric.better == "up" else bool(mine["value"] < theirs["value"])
    return answer


def _verdict(cells: Mapping[str, Mapping[str, Any]], floor: Mapping[str, Mapping[str, Any]]) -> str:
    some = next(iter(cells.values()))
    name = " ".join(part for part in (method_title(some), f"({method_detail(some)})") if part)
    answer = beats_floor(cells, floor)
    if not answer:
        return f"{name} shares no number with copying the reference frame."
    won, lost = [m for m, better in answer.items() if better], [m for m, better in answer.items() if not better]
    start = {
        0: "does not beat copying the reference frame on any metric",
        len(answer): "beats copying the reference frame on every metric",
    }
    text = f"{name} {start.get(len(won), f'beats copying the reference frame on {len(won)} of {len(answer)} metrics')}."
    if won and lost:
        text += f" Better: {', '.join(METRICS[m].title for m in won)}."
    if lost:
        worse = [
            f"{METRICS[m].title} ({shown(METRICS[m], cells[m]['value'])} against {shown(METRICS[m], floor[m]['value'])})" for m in lost
        ]
        text += f" Not better: {', '.join(worse)}."
    return text


def table_text(table: BenchmarkTable) -> str:
    """The table for a terminal: aligned columns, best values starred, verdicts and notes below."""
    head = ["method", *(f"{metric.title} {'↑' if metric.better == 'up' else '↓'}" for metric in table.columns)]
    body = [[f"{line.title} ({line.detail})", *(cell.value + ("*" if cell.best else " ") for cell in line.cells)] for line in table.lines]
    widths = [max(len(row[i]) for row in [head, *body]) for i in range(len(head))]
    lines = [
        "  ".join(
            text.ljust(width) if i == 0 else text.rjust(width) for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in [head, *body]
    ]
    return "\n".join(
        [
            lines[0],
            "-" * sum([*widths, 2 * len(widths) - 2]),
            *lines[1:],
            "",
            *table.verdicts,
            *(f"note: {note}" for note in table.notes),
        ]
    )
