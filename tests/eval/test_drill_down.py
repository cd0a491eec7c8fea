"""What stands behind a table: tests, extremes and history agree with the rows."""

from __future__ import annotations

from typing import Any

from eval.benchmark import benchmark
from eval.drill_down import changes, comparisons, extremes
from eval.table import benchmark_table

GROUP = {"protocol": "demo_standin", "dataset": "performers_test", "split": "test"}


def test_comparisons_extremes_and_history_follow_the_rows(scored: Any) -> None:
    tiny, ids = scored
    table = benchmark_table(benchmark(tiny.lake, **GROUP).to_pylist())
    rows = comparisons(tiny.lake, table, "demo_standin", "test")
    assert {row["against"] for row in rows} == {"Copy of the reference (the floor)"}
    l1 = next(row for row in rows if row["metric"] == "L1")
    assert l1["difference"].startswith("-")
    assert l1["verdict"] == "no difference shown"
    assert "3 clips are too few" in l1["warning"]
    scores = tiny.lake.rows("scores")
    for metric, title, pick in (("l1", "L1", max), ("ssim", "SSIM", min)):
        values = {r["clip_id"]: r["sum"] / r["count"] for r in scores if r["metric"] == metric and r["prediction_id"] == ids["soft"]}
        found = next(r for r in extremes(tiny.lake, table, "demo_standin", "test") if r["metric"] == title and "soft" in r["method"])
        assert found["worst"] == pick(values, key=lambda clip, v=values: v[clip])
    history = changes(tiny.lake, table, "demo_standin", "test")
    assert len(history) == 14
    assert {row["what"] for row in history} == {"first value"}
    assert all("[" not in row["what"] for row in history)
