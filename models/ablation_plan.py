"""What an ablation has to train before its table can be laid out, and about how long that takes."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from models.ablations import OWN_BASES, Ablation
from models.methods import method_named
from models.model_key import ModelKey
from models.train import checkpoint_ids, checkpoint_row
from pipelines.lake import Lake
from pipelines.sources.registry import Dataset

DEMO_MINUTES = 3
"""What training one model at the demo's size may take on one CPU; the demo's sizes and steps are chosen by it."""


def minutes_of(base: str) -> int | None:
    """CPU-minutes that one model of this size may train for; None for a size that has no such budget."""
    return DEMO_MINUTES if base in ("demo", *OWN_BASES.values()) else None


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedStage:
    """One stage of one seed that is not there yet; `models` need it. seconds: None where nothing like it was trained here before."""

    checkpoint_id: str
    stage: str
    models: tuple[str, ...]
    steps: int | None
    seconds: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Models in the order in which they run, seed after seed; the stages that are missing, each once; how many are there already."""

    base: str
    models: tuple[ModelKey, ...]
    missing: tuple[PlannedStage, ...]
    there: int

    def lines(self) -> list[str]:
        """For people, before anything runs."""
        needed = sum(len(stage.models) for stage in self.missing)
        shared = f" ({needed - len(self.missing)} others are shared)" if needed > len(self.missing) else ""
        said = [f"{len(self.models)} models; {self.there} stages are trained already, {len(self.missing)} are not{shared}"]
        said += [f"  train {stage.stage} for {', '.join(stage.models)}: {_length(stage)}" for stage in self.missing]
        return [*said, self.estimate()]

    def estimate(self) -> str:
        """How long the training takes, from what was trained here before; without that, what the demo's size is made for."""
        if not self.missing:
            return "nothing to train; clips and scores that are there are kept"
        known = [stage.seconds for stage in self.missing if stage.seconds is not None]
        unknown = len(self.missing) - len(known)
        said = [f"about {sum(known) / 60:.1f} min, as such stages took here before"] if known else []
        if unknown:
            models = {model for stage in self.missing if stage.seconds is None for model in stage.models}
            minutes = minutes_of(self.base)
            most = f"; the demo's size is made for at most {minutes} CPU-minutes a model, {minutes * len(models)} min" if minutes else ""
            said.append(f"{unknown} stages of a kind that was never trained here{most}")
        return f"training: {'; and '.join(said)}"


def _length(stage: PlannedStage) -> str:
    steps = f"{stage.steps} steps" if stage.steps else "steps not known"
    return steps + (f", about {stage.seconds:.0f} s" if stage.seconds is not None else "")


def plan(lake: Lake, dataset: Dataset, ablation: Ablation, base: str, seeds: Sequence[int], labels: Iterable[str]) -> Plan:
    """The plan for the rows `labels`. Ids are those of the training rows that the lake holds now; without rows nothing is there yet."""
    variants = dict.fromkeys(variant for label in labels if (variant := ablation.row(label).variant(base)) is not None)
    keys = [ModelKey(method=ablation.method, variant=variant, seed=seed) for seed in seeds for variant in variants]
    speed, needed, there = _speeds(lake, ablation.method), dict[str, list[tuple[ModelKey, str]]](), set[str]()
    for key in keys:
        for stage, checkpoint_id in checkpoint_ids(lake, dataset, key).items():
            if checkpoint_id in there or checkpoint_row(lake, checkpoint_id) is not None:
                there.add(checkpoint_id)
            else:
                needed.setdefault(checkpoint_id, []).append((key, stage))
    missing = [_planned(checkpoint_id, users, speed) for checkpoint_id, users in needed.items()]
    return Plan(base=base, models=tuple(keys), missing=tuple(missing), there=len(there))


def _planned(checkpoint_id: str, users: Sequence[tuple[ModelKey, str]], speed: Mapping[str, float]) -> PlannedStage:
    key, stage = users[0]
    steps = steps_of(method_named(key.method).stage_config(key.variant, stage))
    seconds = steps * speed[stage] if steps is not None and stage in speed else None
    return PlannedStage(
        checkpoint_id=checkpoint_id, stage=stage, models=tuple(str(user) for user, _ in users), steps=steps, seconds=seconds
    )


def steps_of(settings: Any) -> int | None:
    """The steps of a stage's loop, wherever its settings hold the loop; None where they do not."""
    if not isinstance(settings, Mapping):
        return None
    loop = settings.get("loop")
    if isinstance(loop, Mapping) and isinstance(loop.get("steps"), int):
        return int(loop["steps"])
    return next((steps for value in settings.values() if (steps := steps_of(value)) is not None), None)


def _speeds(lake: Lake, method: str) -> dict[str, float]:
    """Stage -> median seconds per step of the method's checkpoints in this lake, whatever their data set."""
    found: dict[str, list[float]] = {}
    for row in lake.rows("checkpoints", pc.field("method") == method, ["stage", "steps", "seconds"]):
        if row["steps"] and row["seconds"]:
            found.setdefault(row["stage"], []).append(row["seconds"] / row["steps"])
    return {stage: statistics.median(values) for stage, values in found.items()}
