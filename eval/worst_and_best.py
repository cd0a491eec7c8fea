"""The worst and the best clip of each method under one metric: what they look like, and where in time the number comes from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from markupsafe import Markup

from eval.chart import frame_curve
from eval.metric_text import shown
from eval.metrics import METRICS
from eval.metrics.metric import Metric
from eval.strips import Panel, Predictions, method_panel, truth_panel
from eval.table import BenchmarkTable
from pipelines.clip import Clip
from pipelines.errors import UserError
from pipelines.lake import Lake

_FIRST = ("lpips", "psnr")  # the first of these that has values is shown where nobody chose


@dataclass(frozen=True, kw_only=True, slots=True)
class Extreme:
    """One clip of one method."""

    rank: str  # worst | best
    method: str
    clip_id: str
    value: str
    panels: tuple[Panel, ...]  # prediction and truth; () where pictures may not be shown
    curve: Markup  # SVG: the metric over the clip's frames, the other methods thin


@dataclass(frozen=True, kw_only=True, slots=True)
class Drill:
    """Worst and best clip of every method under one metric."""

    metric: Metric
    extremes: tuple[Extreme, ...]


Scores = Mapping[str, Sequence[Mapping[str, Any]]]
"""prediction id -> its rows of `scores`."""


def worst_and_best(lake: Lake, table: BenchmarkTable, scores: Scores, clips: Sequence[Clip], predictions: Predictions, *,
                   metric: str | None, show: bool) -> Drill | None:  # fmt: skip
    """None where no metric has values per clip. show: embed the videos. Raises UserError for a metric without values per clip."""
    chosen = _chosen(scores, metric)
    if chosen is None:
        return None
    rows = {name: {row["clip_id"]: row for row in held if _counts(row, chosen.id)} for name, held in scores.items()}
    known = {clip.clip_id: clip for clip in clips}
    found = []
    for line in table.lines:
        values = {clip: row["sum"] / row["count"] for clip, row in rows[line.prediction_id].items() if clip in known}
        for rank, clip_id in _ends(values, chosen):
            panels = (method_panel(lake, known[clip_id], predictions[line.prediction_id]), truth_panel(known[clip_id])) if show else ()
            found.append(
                Extreme(rank=rank, method=f"{line.title} ({line.detail})" if line.detail else line.title, clip_id=clip_id,
                        value=shown(chosen, values[clip_id]), panels=panels, curve=_curve(rows, line.prediction_id, clip_id, chosen))
            )  # fmt: skip
    return Drill(metric=chosen, extremes=tuple(found))


def _chosen(scores: Scores, metric: str | None) -> Metric | None:
    there = {row["metric"] for held in scores.values() for row in held if row["metric"] in METRICS and _counts(row, row["metric"])}
    if metric is not None and metric not in there:
        raise UserError(f"no clip has a value of {metric!r}; there are values per clip of: {', '.join(sorted(there)) or 'no metric'}")
    name = metric or next((name for name in (*_FIRST, *METRICS) if name in there), None)
    return None if name is None else METRICS[name]


def _counts(row: Mapping[str, Any], metric: str) -> bool:
    return bool(row["metric"] == metric and row["status"] == "ok" and row["count"])


def _ends(values: Mapping[str, float], metric: Metric) -> list[tuple[str, str]]:
    """(rank, clip id) of the worst and the best; equal values by clip id; one clip is both, so it is shown once."""
    if not values:
        return []
    ranked = [clip for _, clip in sorted((value, clip) for clip, value in values.items())]
    worst, best = (ranked[-1], ranked[0]) if metric.better == "down" else (ranked[0], ranked[-1])
    return [("worst", worst), ("best", best)] if worst != best else [("only", worst)]


def _curve(rows: Mapping[str, Mapping[str, Mapping[str, Any]]], prediction_id: str, clip_id: str, metric: Metric) -> Markup:
    lines = {name: [v if v is not None and math.isfinite(v) else None for v in held[clip_id]["per_frame"]]
             for name, held in rows.items() if clip_id in held}  # fmt: skip
    return frame_curve(lines.pop(prediction_id), list(lines.values()), partial(shown, metric))
