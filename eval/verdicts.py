"""What the main table says in words: does a method beat copying the reference frame, and where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eval.method_names import FLOOR, method_detail, method_title
from eval.metric_text import shown
from eval.metrics import METRICS

MAIN = "frames"  # the group whose numbers the verdicts speak of, and whose table comes first


def verdicts(by_method: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> tuple[str, ...]:
    """One plain sentence per method: does it beat copying the reference frame, and where."""
    floors = [cells for cells in by_method.values() if next(iter(cells.values()))["method"] == FLOOR]
    if not floors:
        return ("Copying the reference frame was not scored, so whether a method beats it cannot be said.",)
    return tuple(_verdict(cells, floors[0]) for cells in by_method.values() if next(iter(cells.values()))["method"] != FLOOR)


def beats_floor(cells: Mapping[str, Mapping[str, Any]], floor: Mapping[str, Mapping[str, Any]]) -> dict[str, bool]:
    """metric id -> is the method better than copying the reference; metrics of the main table that judge and that both have."""
    answer = {}
    for metric in METRICS.values():
        mine, theirs = cells.get(metric.id), floor.get(metric.id)
        if metric.group == MAIN and metric.judges and mine and theirs and mine["value"] is not None and theirs["value"] is not None:
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
