"""What the training behind the rows of an ablation took: the price beside the numbers."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from eval.ablation_study import Study
from eval.grid import Grid
from eval.training_curves import checkpoint_line
from pipelines.lake import Lake
from pipelines.tables import one_of

_NOTES = (
    "seconds by the clock of the machine that trained, median over seeds; what ran beside it on the same cores is in them",
    "a stage that several rows share was trained once, and stands in each of them",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelCost:
    """One model of the table: its stages' names, the first one first, with (steps, seconds) each; a row that was imported has no seconds."""

    label: str
    variant: str
    seed: int
    stages: Mapping[str, tuple[int | None, float | None]]

    @property
    def seconds(self) -> float | None:
        """All stages together, None where one of them is not known."""
        known = [seconds for _, seconds in self.stages.values() if seconds is not None]
        return sum(known) if known and len(known) == len(self.stages) else None


def used_checkpoints(lake: Lake, study: Study) -> dict[str, dict[str, Any]]:
    """prediction id -> checkpoint_id, variant and seed of the model behind it; without those that needed no training."""
    ids = {prediction for run in study.runs.values() for prediction in run.predictions}
    columns = ["prediction_id", "checkpoint_id", "variant", "seed"]
    rows = lake.rows("predictions", one_of("prediction_id", ids) & (pc.field("checkpoint_id") != ""), columns)
    return {row["prediction_id"]: row for row in rows}


def training_costs(lake: Lake, study: Study) -> tuple[ModelCost, ...]:
    """Every trained model of the table, row after row and seed after seed."""
    known, used = {row["checkpoint_id"]: row for row in lake.rows("checkpoints")}, used_checkpoints(lake, study)
    costs = []
    for label, run in study.runs.items():
        models = sorted((used[one] for one in run.predictions if one in used), key=lambda row: int(row["seed"]))
        for model in models:
            line = checkpoint_line(known, model["checkpoint_id"])
            stages = {row["stage"]: (row["steps"], row["seconds"]) for row in line}
            costs.append(ModelCost(label=label, variant=model["variant"], seed=model["seed"], stages=stages))
    return tuple(cost for cost in costs if cost.stages)


def cost_grid(costs: Sequence[ModelCost]) -> Grid | None:
    """A line per row of the table: seconds and steps of each stage, then of all. None where nothing was trained."""
    stages = tuple(dict.fromkeys(stage for cost in costs for stage in cost.stages))
    rows = []
    for label in dict.fromkeys(cost.label for cost in costs):
        mine = [cost for cost in costs if cost.label == label]
        rows.append((label, *(_cell(mine, stage) for stage in stages), _seconds([cost.seconds for cost in mine])))
    if not rows:
        return None
    return Grid(title="What training took", head=("Row", *stages, "all stages"), rows=tuple(rows), notes=_NOTES)


def _cell(costs: Sequence[ModelCost], stage: str) -> str:
    there = [cost.stages[stage] for cost in costs if stage in cost.stages]
    if not there:
        return "–"
    steps = {steps for steps, _ in there if steps is not None}
    said = f" ({'/'.join(map(str, sorted(steps)))} steps)" if steps else ""
    return _seconds([seconds for _, seconds in there]) + said


def _seconds(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{statistics.median(known):.0f} s" if known else "–"
