"""Scores per clip."""

import dagster as dg
import pyarrow as pa
from pydantic import Field

from assets.checks import schema_check, schema_spec, simple
from assets.generated import predictions
from assets.partitions import MODELS_ON_DATASETS, TO_DATASET
from assets.resources import LakeResource
from assets.step import Result, open_step, result
from pipelines.code_version import code_version

CODE = code_version(
    "eval/metrics", "eval/score.py", "eval/clip_scorer.py", "eval/sides.py", "eval/clip_regions.py", "eval/feature_rows.py", "eval/round_trip.py",
    "eval/score_digest.py", "eval/protocol.py", "eval/protocols.py", "eval/geometry.py", "eval/networks.py", "pipelines/extractors",
)  # fmt: skip


class ScoresConfig(dg.Config):
    """How to score."""

    ignore_cache: bool = Field(default=False, description="Compute every score again, as the weekly re-evaluation does.")


_CHECKS = [
    schema_spec("scores"),
    dg.AssetCheckSpec("coverage", asset="scores", description="Every clip of the split has a score in every metric."),
    dg.AssetCheckSpec(
        "reproduces", asset="scores", blocking=True, description="Scores of unchanged clips are the numbers that were stored."
    ),
]


@dg.asset(
    partitions_def=MODELS_ON_DATASETS,
    group_name="evaluation",
    kinds={"parquet"},
    code_version=CODE,
    check_specs=_CHECKS,
    deps=[predictions, dg.AssetDep("clips", partition_mapping=TO_DATASET)],
)
def scores(context: dg.AssetExecutionContext, config: ScoresConfig, lake: LakeResource) -> Result:
    """Every metric of the data set's protocol for every clip: sum and count, per frame where the metric has it. Clips that another person
    drives have the cross-identity protocol."""
    from assets.scored import score_predictions

    step = open_step(context, lake.open())
    scored = score_predictions(step, ignore_cache=config.ignore_cache)
    rows = pa.concat_tables([one.rows for one in scored])
    reports, differences = [one.report for one in scored], [line for one in scored for line in one.differences]
    failed = sum(len(report.failed) for report in reports)
    checks = [
        schema_check("scores", rows),
        simple("scores", "coverage", not failed, warn=True, failed=failed),
        simple("scores", "reproduces", not differences, compared=sum(one.compared for one in scored), differences=differences[:20]),
    ]
    return result(
        step,
        "scores",
        rows,
        ["protocol", "clip_id", "metric", "sum", "count", "status"],
        checks=checks,
        protocol=", ".join(report.protocol for report in reports),
        clips=sum(report.clips for report in reports),
        scored=sum(report.scored for report in reports),
        cached=sum(report.cached for report in reports),
        seconds=sum(report.seconds for report in reports),
    )
