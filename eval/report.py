"""write_report(): one self-contained HTML page for one protocol, data set and split, and its Markdown, LaTeX and Parquet twins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from eval.ablation import ablation_tables
from eval.accuracy_section import accuracy_rows
from eval.cross_table import cross_sections
from eval.drill_down import cautions, changes, comparisons, extremes, scores_of, timelines
from eval.latex import table_latex
from eval.networks import current_digests
from eval.page import render, write_file
from eval.prediction_flags import departures, handicaps, said_of_clips
from eval.protocol_facts import protocol_facts
from eval.protocols import protocol_named
from eval.strips import Predictions, clip_strips
from eval.table import BenchmarkTable, benchmark_table, measured_rows
from eval.table_files import printed_markdown, rows_parquet
from eval.training_curves import checkpoint_chain, stage_curves
from eval.worst_and_best import worst_and_best
from pipelines.errors import UserError
from pipelines.lake import Lake
from pipelines.tables import one_of

ALWAYS_SHOWN = "performers_"  # data sets of drawn people: nobody's picture
_TABLES = (
    "videos",
    "clips",
    "poses",
    "training_rows",
    "checkpoints",
    "training_log",
    "predictions",
    "scores",
    "metric_features",
    "benchmark",
)


def write_report(
    lake: Lake,
    *,
    protocol: str,
    dataset: str,
    split: str,
    path: Path,
    ran: Sequence[Mapping[str, Any]] = (),
    include_media: bool = False,
    max_clips: int = 6,
    drill: str | None = None,
) -> Path:
    """Write `path` (.html), and the same name with .md, .tex and .parquet beside it; returns the path of the HTML.

    ran: what the run did, one mapping per step; its keys become columns. include_media: embed frames of real people;
    data sets of drawn performers always show theirs. drill: the metric whose worst and best clips are shown; None is LPIPS,
    else PSNR. Raises UserError when nothing was benchmarked, for two protocols, and for a `drill` without values per clip.
    """
    chosen = protocol_named(protocol)
    rows = lake.rows(
        "benchmark",
        (pc.field("protocol") == chosen.name) & (pc.field("dataset") == dataset) & (pc.field("split") == split),
    )
    if not rows:
        raise UserError(f"nothing is benchmarked under {chosen.name} on {dataset}/{split}; run `python -m eval benchmark` first")
    table = benchmark_table(rows)
    shown = include_media or dataset.startswith(ALWAYS_SHOWN)
    page = {
        "protocol": chosen,
        "dataset": dataset,
        "split": split,
        "facts": protocol_facts(chosen, current_digests(lake, chosen)),
        "media_hidden": not shown,
        "ran": [dict(row) for row in ran],
        "ran_columns": list(dict.fromkeys(key for row in ran for key in row)),
        "versions": {name: lake.version(name) for name in _TABLES},
        "time": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        **_findings(lake, table, rows, shown, drill, max_clips),
    }
    write_file(path, render("report.html", page))
    beside = [*page["ablations"], *page["crossed"]]
    write_file(path.with_suffix(".md"), render("report.md", {**page, "ablations": beside}))
    write_file(path.with_suffix(".tex"), table_latex(table, beside))
    write_file(path.with_suffix(".parquet"), rows_parquet(rows))
    return path


def _findings(
    lake: Lake, table: BenchmarkTable, rows: Sequence[Mapping[str, Any]], shown: bool, drill: str | None, max_clips: int
) -> dict[str, Any]:
    """Everything on the page that comes from the table and the rows behind it."""
    predictions = _predictions(lake, [line.prediction_id for line in table.lines])
    clips, scores = lake.clips(table.dataset, table.split), scores_of(lake, table)
    compared = comparisons(table, scores)
    return {
        "table": table,
        "published": printed_markdown(table),
        "measured": measured_rows(table),
        "ablations": ablation_tables(rows),
        "crossed": [] if protocol_named(table.protocol).driven_by == "cross" else cross_sections(lake, table.dataset, table.split),
        "strips": clip_strips(lake, table.dataset, clips[:max_clips], predictions) if shown else [],
        "drill": worst_and_best(lake, table, scores, clips, predictions, metric=drill, show=shown),
        "curves": stage_curves(lake, _used(predictions)),
        "comparisons": compared,
        "cautions": [*cautions(rows, compared), *handicaps(table, predictions), *departures(table, predictions)],
        "extremes": extremes(table, scores),
        "changes": changes(lake, table),
        "timelines": timelines(lake, table),
        "accuracy": accuracy_rows(lake, table.dataset, table.split),
        "made": _made_from(lake, table, predictions),
    }


def _predictions(lake: Lake, ids: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """prediction id -> clip id -> row, methods in the table's order."""
    found: dict[str, dict[str, dict[str, Any]]] = {prediction_id: {} for prediction_id in ids}
    for row in lake.rows("predictions", one_of("prediction_id", ids)):
        found[row["prediction_id"]][row["clip_id"]] = row
    return found


def _used(predictions: Predictions) -> list[tuple[str, str]]:
    """(checkpoint id, variant) of each model that made clips with one."""
    firsts = [next(iter(rows.values())) for rows in predictions.values() if rows]
    return [(row["checkpoint_id"], row["variant"]) for row in firsts if row["checkpoint_id"]]


def _made_from(lake: Lake, table: BenchmarkTable, predictions: Predictions) -> dict[str, Any]:
    methods = []
    for line in table.lines:
        row = next(iter(predictions[line.prediction_id].values()), {})
        methods.append(
            {
                "title": line.title,
                "detail": line.detail,
                "prediction": line.prediction_id,
                "sampler": row.get("sampler") or "–",
                "checkpoint": row.get("checkpoint_id") or "–",
                "clips": said_of_clips(list(predictions[line.prediction_id].values())),
            }
        )
    names = ("checkpoint_id", "method", "variant", "stage", "seed", "steps", "parameters", "digest", "code_version")
    checkpoints = [{name: row[name] for name in names} for row, _ in checkpoint_chain(lake, _used(predictions))]
    return {"methods": methods, "checkpoints": checkpoints}
