"""Scoring one model's predictions, and comparing with the scores that were stored."""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from assets.predicted import of_model
from assets.step import Step
from eval.benchmark import rescore_differences
from eval.cross_protocols import cross_protocol_of
from eval.score import ScoreReport, score
from pipelines.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """One set of predictions under its protocol. compared: how many scores were there before; differences: those of them that changed
    although their inputs did not.
    """

    report: ScoreReport
    rows: pa.Table
    compared: int
    differences: list[str]


def score_predictions(step: Step, *, ignore_cache: bool) -> list[Scored]:
    """The model's clips of their own motion under the data set's protocol, those that others drive under the cross-identity one.

    Raises UserError where there are neither.
    """
    return [_score(step, *current, ignore_cache=ignore_cache) for current in _current(step)]


def _score(step: Step, prediction_id: str, split: str, protocol: str, *, ignore_cache: bool) -> Scored:
    mine = (pc.field("protocol") == protocol) & (pc.field("split") == split) & (pc.field("prediction_id") == prediction_id)
    before = step.lake.read("scores", where=mine)
    report = score(
        step.lake,
        protocol=protocol,
        dataset=step.dataset.name,
        split=split,
        prediction_id=prediction_id,
        ignore_cache=ignore_cache,
        lineage=step.lineage(["predictions", "clips"], protocol=protocol),
    )
    rows = step.lake.read("scores", where=mine)
    differences = rescore_differences(before.to_pylist(), rows.to_pylist())
    return Scored(report=report, rows=rows, compared=before.num_rows, differences=differences)


def _current(step: Step) -> list[tuple[str, str, str]]:
    """(prediction_id, split, protocol) of the model's newest predictions, its own motion's first."""
    protocol = step.dataset.protocol
    found = sorted(
        {
            (row["driving_clip_id"] is not None, row["prediction_id"], row["split"])
            for row in of_model(step).select(["driving_clip_id", "prediction_id", "split"]).to_pylist()
        }
    )
    kinds = [crossed for crossed, _, _ in found]
    if not found or len(set(kinds)) < len(kinds):
        raise UserError(f"{step.model} has {len(found) or 'no'} predictions on {step.dataset.name}; materialize predictions first")
    return [(prediction_id, split, cross_protocol_of(protocol) if crossed else protocol) for crossed, prediction_id, split in found]
