"""The benchmark of one data set, under its protocol."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from assets.step import Step
from eval.benchmark import benchmark
from eval.published import load_published
from eval.report import write_report
from eval.table import beats_floor, benchmark_table, table_text
from pipelines.errors import UserError
from pipelines.lake import Lake

FLOOR = "copy_reference"


def split_of(lake: Lake, dataset: str) -> str:
    """The split that was animated. Raises UserError when there are no predictions."""
    splits = {row["split"] for row in lake.rows("predictions", pc.field("dataset") == dataset, ["split"])}
    if len(splits) != 1:
        raise UserError(
            f"data set {dataset} has predictions of {len(splits) or 'no'} splits ({', '.join(sorted(splits))}); materialize predictions first"
        )
    return str(next(iter(splits)))


def write_benchmark(step: Step) -> tuple[pa.Table, str]:
    """(rows, the table as text)."""
    load_published(step.lake)
    lineage = step.lineage(["scores", "metric_features", "predictions"], protocol=step.dataset.protocol)
    rows = benchmark(
        step.lake,
        protocol=step.dataset.protocol,
        dataset=step.dataset.name,
        split=split_of(step.lake, step.dataset.name),
        run_id=step.context.run.run_id,
        lineage=lineage,
    )
    return rows, table_text(benchmark_table(rows.to_pylist()))


def floor_verdict(rows: pa.Table) -> list[str]:
    """Models and metrics in which copying the reference is as good or better."""
    models: dict[tuple[str, str, int], dict[str, dict[str, Any]]] = {}
    for row in rows.to_pylist():
        models.setdefault((row["method"], row["variant"], row["seed"]), {})[row["metric"]] = row
    floors = [cells for (method, _, _), cells in models.items() if method == FLOOR]
    if not floors:
        return []
    return [
        f"{method}:{variant}:{seed} {metric}"
        for (method, variant, seed), cells in models.items()
        if method != FLOOR
        for metric, better in beats_floor(cells, floors[0]).items()
        if not better
    ]


def write_page(step: Step) -> Path:
    """The report of the data set, reports/<data set>_<protocol>.html."""
    lake, dataset = step.lake, step.dataset
    path = lake.root / "reports" / f"{dataset.name}_{dataset.protocol}.html"
    ran = [
        _commit(table, lake) for table in ("videos", "clips", "poses", "training_rows", "checkpoints", "predictions", "scores", "benchmark")
    ]
    page = write_report(
        lake,
        protocol=dataset.protocol,
        dataset=dataset.name,
        split=split_of(lake, dataset.name),
        path=path,
        ran=[row for row in ran if row],
    )
    for written in (page, *(page.with_suffix(suffix) for suffix in (".md", ".tex", ".parquet"))):
        lake.put(written)
    return page


def _commit(table: str, lake: Lake) -> dict[str, Any]:
    commits = [commit for commit in lake.lineage(table) if "run_id" in commit]
    if not commits:
        return {}
    newest = commits[0]
    versions = ", ".join(f"{name} {version}" for name, version in newest.get("inputs", {}).items()) or "files"
    codes = sorted({code for code in newest.get("code_version", {}).values() if code})
    return {
        "table": table,
        "version": newest["version"],
        "from": versions,
        "code": ", ".join(codes),
        "git": (newest.get("git_commit") or "")[:10],
        "run": newest["run_id"][:8],
    }
