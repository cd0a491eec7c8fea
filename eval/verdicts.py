"""What the main table says in words: does a method beat copying the reference frame, and where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eval.method_names import FLOOR, method_detail, method_title
from eval.metric_text import shown
from eval.metrics import METRICS

Cells = Mapping[str, Mapping[str, Any]]
"""metric id -> row of `benchmark`, of one method."""

MAIN = "frames"  # the group whose numbers the verdicts speak of, and whose table comes first


def verdicts(by_method: Mapping[str, Cells]) -> tuple[str, ...]:
    """Plain sentences: which methods beat copying the reference frame, and where; those that do so everywhere, or nowhere, share one."""
    floors = [cells for cells in by_method.values() if next(iter(cells.values()))["method"] == FLOOR]
    if not floors:
        return ("Copying the reference frame was not scored, so whether a method beats it cannot be said.",)
    others = [cells for cells in by_method.values() if next(iter(cells.values()))["method"] != FLOOR]
    (best, winners), (worst, losers) = (_shared(others, floors[0], better) for better in (True, False))
    told = {id(cells) for cells in (*winners, *losers)}
    single = [_verdict(cells, floors[0]) for cells in others if id(cells) not in told]
    return tuple(sentence for sentence in (best, *single, worst) if sentence)


def _shared(others: Sequence[Cells], floor: Cells, better: bool) -> tuple[str, list[Cells]]:
    """The sentence of two methods or more that beat the floor everywhere (better) or nowhere, and these methods; "" where there are fewer."""
    group = [cells for cells in others if (answer := beats_floor(cells, floor)) and set(answer.values()) == {better}]
    if len(group) < 2:
        return "", []
    names = [_name(cells) for cells in group]
    said = (
        "beat copying the reference frame on every metric of the main table"
        if better
        else "do not beat copying the reference frame on any metric of the main table"
    )
    return f"{', '.join(names[:-1])} and {names[-1]} {said}.", group


def beats_floor(cells: Cells, floor: Cells) -> dict[str, bool]:
    """metric id -> is the method better than copying the reference; metrics of the main table that judge and that both have.

    A number of fewer clips than the floor's is of other clips, so it is not compared.
    """
    return {metric: mine["value"] > theirs["value"] if METRICS[metric].better == "up" else mine["value"] < theirs["value"]
            for metric, (mine, theirs) in _both(cells, floor).items() if mine["clips"] == theirs["clips"]}  # fmt: skip


def _both(cells: Cells, floor: Cells) -> dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """metric id -> (row of the method, row of the floor), where both have a value that judges."""
    wanted = [
        metric.id for metric in METRICS.values() if metric.group == MAIN and metric.judges and metric.id in cells and metric.id in floor
    ]
    pairs = {metric: (cells[metric], floor[metric]) for metric in wanted}
    return {metric: pair for metric, pair in pairs.items() if None not in (pair[0]["value"], pair[1]["value"])}


def _name(cells: Cells) -> str:
    some = next(iter(cells.values()))
    return " ".join(part for part in (method_title(some), f"({method_detail(some)})") if part)


def _verdict(cells: Cells, floor: Cells) -> str:
    name, answer = _name(cells), beats_floor(cells, floor)
    other = {metric: pair for metric, pair in _both(cells, floor).items() if metric not in answer}
    if other and not answer:
        mine, theirs = next(iter(other.values()))
        return (f"{name} was scored on {mine['clips']} clips, copying the reference frame on {theirs['clips']}, so their numbers do not compare; "
                "method against method uses the clips that both have.")  # fmt: skip
    if not answer:
        return f"{name} shares no number with copying the reference frame."
    won, lost = [m for m, better in answer.items() if better], [m for m, better in answer.items() if not better]
    start = {
        0: "does not beat copying the reference frame on any metric of the main table",
        len(answer): "beats copying the reference frame on every metric of the main table",
    }
    text = f"{name} {start.get(len(won), f'beats copying the reference frame on {len(won)} of {len(answer)} metrics of the main table')}."
    if won and lost:
        text += f" Better: {', '.join(METRICS[m].title for m in won)}."
    if lost:
        worse = [
            f"{METRICS[m].title} ({shown(METRICS[m], cells[m]['value'])} against {shown(METRICS[m], floor[m]['value'])})" for m in lost
        ]
        text += f" Not better: {', '.join(worse)}."
    return text
