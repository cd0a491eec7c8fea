"""What stands behind a table: tests, extremes and history agree with the rows."""

from __future__ import annotations

import re
from typing import Any

import pytest

from eval.benchmark import benchmark
from eval.chart import frame_curve
from eval.drill_down import cautions, changes, comparisons, extremes, scores_of, timelines
from eval.table import benchmark_table
from eval.worst_and_best import worst_and_best
from pipelines.errors import UserError

GROUP = {"protocol": "demo_standin", "dataset": "performers_test", "split": "test"}


@pytest.fixture
def made(scored: Any) -> tuple[Any, dict[str, str], list[dict[str, Any]], Any]:
    """(lake, method -> prediction id, rows of the benchmark, table)."""
    tiny, ids = scored
    rows = benchmark(tiny.lake, **GROUP).to_pylist()
    return tiny, ids, rows, benchmark_table(rows)


def _drill(made: Any, metric: str | None = None, show: bool = True) -> Any:
    tiny, ids, _, table = made
    predictions: dict[str, dict[str, Any]] = {name: {} for name in ids.values()}
    for row in tiny.lake.rows("predictions"):
        predictions[row["prediction_id"]][row["clip_id"]] = row
    clips = tiny.lake.clips(tiny.dataset, tiny.split)
    return worst_and_best(tiny.lake, table, scores_of(tiny.lake, table), clips, predictions, metric=metric, show=show)


def test_comparisons_and_extremes_follow_the_rows(made: Any) -> None:
    tiny, ids, _, table = made
    scores = scores_of(tiny.lake, table)
    rows = comparisons(table, scores)
    assert {row["against"] for row in rows} == {"Copy of the reference (the floor)"}
    assert {row["group"] for row in rows} > {"frames"}
    l1 = next(row for row in rows if row["metric"] == "L1")
    assert l1["difference"].startswith("-")
    assert l1["verdict"] == "no difference shown"
    assert "3 clips are too few" in l1["warning"]
    for metric, title, pick in (("l1", "L1", max), ("ssim", "SSIM", min)):
        values = {r["clip_id"]: r["sum"] / r["count"] for r in scores[ids["soft"]] if r["metric"] == metric}
        found = next(r for r in extremes(table, scores) if r["metric"] == title and "soft" in r["method"])
        assert found["worst"] == pick(values, key=lambda clip, v=values: v[clip])


def test_few_clips_and_deficient_covariances_are_said(made: Any) -> None:
    tiny, _, rows, table = made
    said = cautions(rows, comparisons(table, scores_of(tiny.lake, table)))
    assert any("3 clips are too few" in text and "no difference can be significant" in text for text in said)
    assert sum("rank-deficient" in text for text in said) == 1
    assert said[-1].startswith("FID, FVD: ")
    assert cautions([{**row, "note": None} for row in rows], []) == []


def test_worst_and_best_are_the_ends_of_the_rows(made: Any) -> None:
    tiny, ids, _, table = made
    for metric, worst, best in ((None, max, min), ("psnr", min, max)):
        drill = _drill(made, metric)
        assert drill.metric.id == (metric or "lpips")
        assert [item.rank for item in drill.extremes] == ["worst", "best"] * 2
        rows = {r["clip_id"]: r for r in scores_of(tiny.lake, table)[ids["soft"]] if r["metric"] == drill.metric.id}
        values = {clip: r["sum"] / r["count"] for clip, r in rows.items()}
        found = {item.rank: item for item in drill.extremes if item.method.startswith("soft")}
        assert found["worst"].clip_id == worst(values, key=lambda clip, v=values: v[clip])
        assert found["best"].clip_id == best(values, key=lambda clip, v=values: v[clip])
        points = found["worst"].curve.split('points="')[-1].split('"')[0].split()
        assert len(points) == sum(value is not None for value in rows[found["worst"].clip_id]["per_frame"])


def test_pictures_only_where_they_may_be_shown(made: Any) -> None:
    shown, hidden = _drill(made), _drill(made, show=False)
    assert all([panel.kind for panel in item.panels] == ["video", "video"] for item in shown.extremes)
    assert all(item.panels == () for item in hidden.extremes)
    assert [item.curve for item in hidden.extremes] == [item.curve for item in shown.extremes]


def test_a_metric_without_values_per_clip_is_refused(made: Any) -> None:
    for metric in ("fvd", "beauty"):
        with pytest.raises(UserError, match="lpips"):
            _drill(made, metric)


def test_the_history_shows_what_changed(made: Any) -> None:
    tiny, ids, rows, table = made
    history = changes(tiny.lake, table)
    assert len(history) == len(rows)
    assert {row["what"] for row in history} == {"first value"}
    assert timelines(tiny.lake, table) == []
    old = {"protocol": "demo_standin", "split": "test", "prediction_id": ids["soft"], "metric": "l1", "run_id": ""}
    tiny.lake.write("history", [{**old, "time": "2020-01-01T00:00:00", "value": 0.5, "what_changed": "first value"}])
    (line,) = timelines(tiny.lake, table)
    assert line["title"] == "L1, soft (seed 0)"
    assert "0.5000" in line["svg"]
    assert changes(tiny.lake, table)[-1]["time"] == "2020-01-01 00:00"


def test_a_curve_has_gaps_and_stays_text() -> None:
    others = [[100.0] * 7, [4.5] * 3 + [None] * 4]
    curve = frame_curve([1.0, 2.0, None, 3.0, None, 5.0, 4.0], others, lambda value: f"<{value}>")
    assert curve.count("<polyline") == 4  # two runs, and the others
    inner = re.search(r'<svg x="58.0" y="8.0" width="294.0" height="64.0">(.*?)</svg>', curve)
    assert inner is not None
    assert inner[1].count("<polyline") == 2  # where they leave the range, an inner svg cuts them off
    assert curve.count("<circle") == 1
    assert "&lt;5.0&gt;" in curve
    assert "http" not in curve
    assert "<polyline" in frame_curve([1.0, 1.0], [], str)
    with pytest.raises(ValueError, match="no value"):
        frame_curve([None], [[1.0]], str)
