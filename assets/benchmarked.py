"""The benchmark of one data set, under its protocol."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from assets.step import Step
from eval.benchmark import benchmark
from eval.cross_protocols import cross_protocol_of
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
    """(rows, the tables as text): of the clips' own motion, and of those that another person drives, where there are some."""
    load_published(step.lake)
    protocols = _protocols(step)
    tables = [_table(step, protocol) for protocol in protocols]
    titles = [f"{protocol}\n" if len(protocols) > 1 else "" for protocol in protocols]
    texts = [title + table_text(benchmark_table(rows.to_pylist())) for title, rows in zip(titles, tables, strict=True)]
    return pa.concat_tables(tables), "\n\n".join(texts)


def _table(step: Step, protocol: str) -> pa.Table:
    return benchmark(
        step.lake,
        protocol=protocol,
        dataset=step.dataset.name,
        split=split_of(step.lake, step.dataset.name),
        run_id=step.context.run.run_id,
        lineage=step.lineage(["scores", "metric_features", "predictions"], protocol=protocol),
    )


def _protocols(step: Step) -> list[str]:
    """The data set's own; the cross-identity one where somebody was driven by another. Raises UserError where there are no predictions."""
    split_of(step.lake, step.dataset.name)
    rows = step.lake.rows("predictions", pc.field("dataset") == step.dataset.name, ["driving_clip_id"])
    crossed = {row["driving_clip_id"] is not None for row in rows}
    own = step.dataset.protocol
    return [cross_protocol_of(own) if kind else own for kind in sorted(crossed)]


def floor_verdict(rows: pa.Table) -> list[str]:
    """Models and metrics in which copying the reference is as good or better; each protocol is compared with itself."""
    listed = rows.to_pylist()
    return [
        line
        for protocol in sorted({row["protocol"] for row in listed})
        for line in _losers([r for r in listed if r["protocol"] == protocol])
    ]


def _losers(rows: list[dict[str, Any]]) -> list[str]:
    models: dict[tuple[str, str, int], dict[str, dict[str, Any]]] = {}
    for row in rows:
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
    """The report of the data set, reports/<data set>_<protocol>.html: under its own protocol, with a section for clips that others drive."""
    lake, dataset = step.lake, step.dataset
    protocol = _protocols(step)[0]
    path = lake.root / "reports" / f"{dataset.name}_{protocol}.html"
    ran = [
        _commit(table, lake) for table in ("videos", "clips", "poses", "training_rows", "checkpoints", "predictions", "scores", "benchmark")
    ]
    page = write_report(
        lake,
        protocol=protocol,
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
