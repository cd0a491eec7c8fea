"""What stands behind a table: methods against each other with significance, worst and best clips, and the history of its numbers."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow.compute as pc

from eval.chart import frame_curve
from eval.metric_text import shown
from eval.metrics import METRICS
from eval.paired_test import compare
from eval.table import BenchmarkTable
from eval.worst_and_best import Scores
from pipelines.lake import Lake
from pipelines.tables import one_of

_RANK_NOTE = "than feature dimensions"  # in the note of a set metric with too few samples
_RANK_DEFICIENT = ("fewer samples than feature dimensions, so the covariances are rank-deficient: the distances are biased upwards. "
                   "Compare methods with equal counts only, and nothing outside this table.")  # fmt: skip


def scores_of(lake: Lake, table: BenchmarkTable) -> Scores:
    """The table's rows of `scores`."""
    where = (pc.field("protocol") == table.protocol) & (pc.field("split") == table.split) & (pc.field("dataset") == table.dataset)
    found: dict[str, list[Mapping[str, Any]]] = {line.prediction_id: [] for line in table.lines}
    for row in lake.rows("scores", where & one_of("prediction_id", found)):
        found[row["prediction_id"]].append(row)
    return dict(found)


def comparisons(table: BenchmarkTable, scores: Scores) -> list[dict[str, str]]:
    """One row per pair of methods and metric: who is better, by how much, and how sure that is. `group` is the metric's."""
    rows = []
    for a, b in itertools.combinations(table.lines, 2):
        for found in compare(scores[b.prediction_id], scores[a.prediction_id]):  # the floor is the first line: others against it
            metric = METRICS[found.metric]
            rows.append({"method": _name(b.title, b.detail), "against": _name(a.title, a.detail), "metric": metric.title,
                         "group": metric.group, "difference": shown(metric, found.difference, sign=True), "p": f"{found.p_value:.3g}",
                         "holm": f"{found.p_holm:.3g}", "verdict": found.verdict, "clips": str(found.clips),
                         "warning": "; ".join(found.warnings)})  # fmt: skip
    return rows


def cautions(rows: Sequence[Mapping[str, Any]], compared: Sequence[Mapping[str, str]]) -> list[str]:
    """What a reader must know before reading the numbers: too few clips for any test, covariances without full rank.

    rows: of `benchmark`; compared: what `comparisons` returned.
    """
    about: dict[str, list[str]] = {}
    for row in compared:
        for text in row["warning"].split("; "):
            if "too few" in text and row["metric"] not in about.setdefault(text, []):
                about[text].append(row["metric"])
    tested = {row["metric"] for row in compared}
    said = [f"{'All metrics' if set(metrics) == tested else ', '.join(metrics)}: {text}." for text, metrics in about.items()]
    short = {row["metric"] for row in rows if _RANK_NOTE in (row["note"] or "")}
    titles = ", ".join(metric.title for metric in METRICS.values() if metric.id in short)
    return [*said, f"{titles}: {_RANK_DEFICIENT}"] if short else said


def extremes(table: BenchmarkTable, scores: Scores) -> list[dict[str, str]]:
    """Worst and best clip of each method and per-clip metric, with their values."""
    rows = []
    for line in table.lines:
        for metric in table.metrics:
            values = {r["clip_id"]: r["sum"] / r["count"] for r in scores[line.prediction_id]
                      if r["metric"] == metric.id and r["status"] == "ok" and r["count"]}  # fmt: skip
            if len(values) > 1:
                ranked = [clip for _, clip in sorted((value, clip) for clip, value in values.items())]
                worst, best = (ranked[-1], ranked[0]) if metric.better == "down" else (ranked[0], ranked[-1])
                rows.append({"method": _name(line.title, line.detail), "metric": metric.title, "worst": worst, "best": best,
                             "worst_value": shown(metric, values[worst]), "best_value": shown(metric, values[best])})  # fmt: skip
    return rows


def changes(lake: Lake, table: BenchmarkTable) -> list[dict[str, str]]:
    """The history of the table's numbers, newest first, without the digests that the text ends with."""
    names = {line.prediction_id: _name(line.title, line.detail) for line in table.lines}
    rows = sorted(_history(lake, table), key=lambda row: (row["time"], row["metric"]), reverse=True)
    return [{"time": row["time"][:16].replace("T", " "), "method": names[row["prediction_id"]], "metric": METRICS[row["metric"]].title,
             "value": "–" if row["value"] is None else shown(METRICS[row["metric"]], row["value"]),
             "what": re.sub(r" \[[^\]]*\]$", "", row["what_changed"])} for row in rows if row["metric"] in METRICS]  # fmt: skip


def timelines(lake: Lake, table: BenchmarkTable) -> list[dict[str, Any]]:
    """A curve for every number of the first section that had two values or more, in the table's order."""
    found: dict[tuple[str, str], list[float]] = {}
    for row in sorted(_history(lake, table), key=lambda row: str(row["time"])):
        held = found.setdefault((row["prediction_id"], row["metric"]), [])
        if row["value"] is not None and held[-1:] != [row["value"]]:
            held.append(row["value"])
    return [{"title": f"{metric.title}, {_name(line.title, line.detail)}",
             "svg": frame_curve(values, [], partial(shown, metric), over="change")}
            for line in table.lines for metric in table.columns
            if len(values := found.get((line.prediction_id, metric.id), [])) > 1]  # fmt: skip


def _history(lake: Lake, table: BenchmarkTable) -> list[dict[str, Any]]:
    ids = [line.prediction_id for line in table.lines]
    return lake.rows(
        "history", one_of("prediction_id", ids) & (pc.field("protocol") == table.protocol) & (pc.field("split") == table.split)
    )


def _name(title: str, detail: str) -> str:
    return f"{title} ({detail})" if detail else title
