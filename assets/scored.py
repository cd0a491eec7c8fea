"""Scoring one model's predictions, and comparing with the scores that were stored."""

import pyarrow as pa
import pyarrow.compute as pc

from assets.step import Step
from eval.benchmark import rescore_differences
from eval.score import ScoreReport, score
from pipelines.errors import UserError


def score_predictions(step: Step, *, ignore_cache: bool) -> tuple[pa.Table, ScoreReport, list[str]]:
    """(scores before, what was done, numbers that changed although their inputs did not)."""
    prediction_id, split = _current(step)
    protocol = step.dataset.protocol
    mine = (pc.field("protocol") == protocol) & (pc.field("split") == split) & (pc.field("prediction_id") == prediction_id)
    before = step.lake.read("scores", where=mine)
    lineage = step.lineage(["predictions", "clips"], protocol=protocol)
    report = score(
        step.lake,
        protocol=protocol,
        dataset=step.dataset.name,
        split=split,
        prediction_id=prediction_id,
        ignore_cache=ignore_cache,
        lineage=lineage,
    )
    return before, report, rescore_differences(before.to_pylist(), step.lake.read("scores", where=mine).to_pylist())


def _current(step: Step) -> tuple[str, str]:
    """(prediction_id, split) of the model's newest predictions; those that another person drives have no true clips."""
    where = (pc.field("dataset") == step.dataset.name) & pc.field("driving_clip_id").is_null()
    for column in ("method", "variant", "seed"):
        where = where & (pc.field(column) == getattr(step.model, column))
    found = {(row["prediction_id"], row["split"]) for row in step.lake.rows("predictions", where, ["prediction_id", "split"])}
    if len(found) != 1:
        raise UserError(f"{step.model} has {len(found) or 'no'} predictions on {step.dataset.name}; materialize predictions first")
    return next(iter(found))
