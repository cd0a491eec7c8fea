"""What stands behind a table: methods against each other with significance, worst and best clips, and the history of its numbers."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow.compute as pc

from eval.metrics import METRICS
from eval.paired_test import compare
from eval.table import BenchmarkTable
from pipelines.lake import Lake
from pipelines.tables import one_of


def comparisons(lake: Lake, table: BenchmarkTable, protocol: str, split: str) -> list[dict[str, str]]:
    """One row per pair of methods and metric: who is better, by how much, and how sure that is."""
    scores = _scores(lake, table, protocol, split)
    rows = []
    for a, b in itertools.combinations(table.lines, 2):
        for found in compare(scores[b.prediction_id], scores[a.prediction_id]):  # the floor is the first line: others against it
            metric = METRICS[found.metric]
            rows.append({"method": _name(b.title, b.detail), "against": _name(a.title, a.detail), "metric": metric.title,
                         "difference": f"{found.difference:+.{metric.digits}f}", "p": f"{found.p_value:.3g}", "holm": f"{found.p_holm:.3g}",
                         "verdict": found.verdict, "clips": str(found.clips), "warning": "; ".join(found.warnings)})  # fmt: skip
    return rows


def extremes(lake: Lake, table: BenchmarkTable, protocol: str, split: str) -> list[dict[str, str]]:
    """Worst and best clip of each method and per-clip metric, with their values."""
    rows = []
    scores = _scores(lake, table, protocol, split)
    for line in table.lines:
        for metric in table.columns:
            values = {r["clip_id"]: r["sum"] / r["count"] for r in scores[line.prediction_id]
                      if r["metric"] == metric.id and r["status"] == "ok" and r["count"]}  # fmt: skip
            if len(values) > 1:
                ranked = [clip for _, clip in sorted((value, clip) for clip, value in values.items())]
                worst, best = (ranked[-1], ranked[0]) if metric.better == "down" else (ranked[0], ranked[-1])
                rows.append({"method": _name(line.title, line.detail), "metric": metric.title, "worst": worst, "best": best,
                             "worst_value": f"{values[worst]:.{metric.digits}f}", "best_value": f"{values[best]:.{metric.digits}f}"})  # fmt: skip
    return rows


def changes(lake: Lake, table: BenchmarkTable, protocol: str, split: str) -> list[dict[str, str]]:
    """The history of the table's numbers, newest first, without the digests that the text ends with."""
    names = {line.prediction_id: _name(line.title, line.detail) for line in table.lines}
    where = one_of("prediction_id", names) & (pc.field("protocol") == protocol) & (pc.field("split") == split)
    rows = sorted(lake.rows("history", where), key=lambda row: (row["time"], row["metric"]), reverse=True)
    return [{"time": row["time"][:16].replace("T", " "), "method": names[row["prediction_id"]], "metric": METRICS[row["metric"]].title,
             "value": "–" if row["value"] is None else f"{row['value']:.{METRICS[row['metric']].digits}f}",
             "what": re.sub(r" \[[^\]]*\]$", "", row["what_changed"])} for row in rows if row["metric"] in METRICS]  # fmt: skip


def _scores(lake: Lake, table: BenchmarkTable, protocol: str, split: str) -> dict[str, Sequence[Mapping[str, Any]]]:
    where = (pc.field("protocol") == protocol) & (pc.field("split") == split)
    found: dict[str, list[Mapping[str, Any]]] = {line.prediction_id: [] for line in table.lines}
    for row in lake.rows("scores", where & one_of("prediction_id", found)):
        found[row["prediction_id"]].append(row)
    return dict(found)


def _name(title: str, detail: str) -> str:
    return f"{title} ({detail})" if detail else title
