"""Scores per clip."""

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from assets.checks import schema_check, schema_spec, simple
from assets.generated import predictions
from assets.partitions import MODELS_ON_DATASETS, TO_DATASET
from assets.resources import LakeResource
from assets.step import Result, Step, open_step, result
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
    """Every metric of the data set's protocol for every clip: sum and count, per frame where the metric has it."""
    from assets.scored import score_predictions

    step = open_step(context, lake.open())
    before, report, differences = score_predictions(step, ignore_cache=config.ignore_cache)
    rows = _of(step, report.protocol, report.prediction_id)
    checks = [
        schema_check("scores", rows),
        simple("scores", "coverage", not report.failed, warn=True, failed=len(report.failed)),
        simple("scores", "reproduces", not differences, compared=before.num_rows, differences=differences[:20]),
    ]
    columns = ["clip_id", "metric", "sum", "count", "status"]
    return result(
        step,
        "scores",
        rows,
        columns,
        checks=checks,
        protocol=report.protocol,
        clips=report.clips,
        scored=report.scored,
        cached=report.cached,
        seconds=report.seconds,
    )


def _of(step: Step, protocol: str, prediction_id: str) -> pa.Table:
    return step.lake.read("scores", where=(pc.field("protocol") == protocol) & (pc.field("prediction_id") == prediction_id))
