"""An ablation as it was run here: each row's mean over seeds, its difference to the full method, and whether that is beyond the interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from eval.common_frames import common_frames
from eval.metrics import METRICS
from eval.uncertainty import bootstrap_seeds, interval_of_seeds
from pipelines.lake import Lake
from pipelines.tables import one_of

Interval = tuple[float, float]
Sums = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """A row of the table: what the paper calls it, which model it is here, and the metrics that its part is for."""

    label: str
    method: str
    variant: str | None  # None: not ours
    aims: tuple[str, ...] = ()
    why_not: str = ""  # why it was not run; "" = it can be


@dataclass(frozen=True, kw_only=True, slots=True)
class Number:
    """A mean over seeds; `interval` is None where there is too little to say.

    sides: of a difference, what it is the difference of: this row and the other on the seeds, clips and frames that both have.
    """

    value: float
    interval: Interval | None
    seeds: int
    clips: int
    sides: tuple[float, float] | None = None

    @property
    def beyond(self) -> bool:
        """Of a difference: whether 0 is outside the interval."""
        return self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]


class Run:
    """One row's numbers: the rows of `benchmark` and `scores` of its predictions, one prediction per seed."""

    def __init__(self, wanted: Wanted, benchmark: Sequence[Mapping[str, Any]], scores: Sequence[Mapping[str, Any]]) -> None:
        self.wanted = wanted
        self._values = {(row["seed"], row["metric"]): row for row in benchmark}
        self._seed_of = {row["prediction_id"]: row["seed"] for row in benchmark}
        self._scores: dict[str, dict[int, dict[str, Mapping[str, Any]]]] = {}
        self._numbers: dict[str, Number | None] = {}
        for row in scores:
            if row["status"] == "ok" and row["count"]:
                seed = self._seed_of[row["prediction_id"]]
                self._scores.setdefault(row["metric"], {}).setdefault(seed, {})[row["clip_id"]] = row

    @property
    def predictions(self) -> tuple[str, ...]:
        """Their ids, one per seed."""
        return tuple(self._seed_of)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds that have predictions."""
        return tuple(sorted(set(self._seed_of.values())))

    def metrics(self) -> set[str]:
        """Metrics of which a seed has a value."""
        return {metric for (_, metric), row in self._values.items() if row["value"] is not None and metric in METRICS}

    def value_of(self, seed: int, metric: str) -> float | None:
        """The benchmark's number of one seed."""
        row = self._values.get((seed, metric))
        return None if row is None or row["value"] is None else float(row["value"])

    def number(self, metric: str) -> Number | None:
        """The mean over seeds of the benchmark's numbers, with the interval over clips and seeds."""
        if metric not in self._numbers:
            self._numbers[metric] = self._number(metric)
        return self._numbers[metric]

    def _number(self, metric: str) -> Number | None:
        found = {seed: value for seed in self.seeds if (value := self.value_of(seed, metric)) is not None}
        if not found:
            return None
        mean = math.fsum(found.values()) / len(found)
        if METRICS[metric].kind == "set":
            clips = max(self._values[seed, metric]["clips"] or 0 for seed in found)
            return Number(value=mean, interval=interval_of_seeds([*found.values()]), seeds=len(found), clips=clips)
        seeds, clip_ids = self._common(metric, self)
        sums, counts = self._tables(self, metric, seeds, clip_ids)[0]
        interval = bootstrap_seeds(sums, counts) if len(seeds) == len(found) and clip_ids else None
        return Number(value=mean, interval=interval, seeds=len(found), clips=len(clip_ids))

    def less(self, full: Run, metric: str) -> Number | None:
        """This row minus the full method, on the seeds, clips and frames that both have."""
        if METRICS[metric].kind == "set":
            return self._less_of_sets(full, metric)
        seeds, clips = self._common(metric, full)
        if not seeds or not clips:
            return None
        mine, theirs = self._tables(full, metric, seeds, clips)
        ratios = [sums.sum(axis=1) / counts.sum(axis=1) for sums, counts in (mine, theirs)]
        return Number(value=float((ratios[0] - ratios[1]).mean()), interval=bootstrap_seeds(*mine, less=theirs), seeds=len(seeds),
                      clips=len(clips), sides=(float(ratios[0].mean()), float(ratios[1].mean())))  # fmt: skip

    def _less_of_sets(self, full: Run, metric: str) -> Number | None:
        pairs = {seed: (self.value_of(seed, metric), full.value_of(seed, metric)) for seed in self.seeds if seed in full.seeds}
        both = [(mine, theirs) for mine, theirs in pairs.values() if mine is not None and theirs is not None]
        if not both:
            return None
        found, clips = [mine - theirs for mine, theirs in both], max(int(self._values[seed, metric]["clips"] or 0) for seed in pairs)
        mine, theirs = (math.fsum(values) / len(both) for values in zip(*both, strict=True))
        return Number(
            value=math.fsum(found) / len(found), interval=interval_of_seeds(found), seeds=len(found), clips=clips, sides=(mine, theirs)
        )

    def _common(self, metric: str, other: Run) -> tuple[list[int], list[str]]:
        """(seeds, clips) of which both have a score of the same true clip, with a frame that both count, in every one of the seeds."""
        mine, theirs = self._scores.get(metric, {}), other._scores.get(metric, {})
        seeds = sorted(mine.keys() & theirs.keys())
        clips = set.intersection(*(mine[seed].keys() & theirs[seed].keys() for seed in seeds)) if seeds else set[str]()
        return seeds, sorted(clip for clip in clips if all(common_frames(mine[seed][clip], theirs[seed][clip]) for seed in seeds))

    def _tables(self, other: Run, metric: str, seeds: Sequence[int], clips: Sequence[str]) -> tuple[Sums, Sums]:
        """(sums, counts) [S, N] of this run and of the other, over the frames that both count."""
        pairs = [common_frames(self._scores[metric][seed][clip], other._scores[metric][seed][clip]) for seed in seeds for clip in clips]
        sums = [(pair.mine, pair.theirs, pair.frames) for pair in pairs if pair is not None]
        numbers = np.array(sums, dtype=np.float64).reshape(len(seeds), len(clips), 3)
        return (numbers[..., 0], numbers[..., 2]), (numbers[..., 1], numbers[..., 2])


@dataclass(frozen=True, kw_only=True)
class Study:
    """All rows of one table on one data set under one protocol; `full` is the label of the method in full."""

    protocol: str
    dataset: str
    split: str
    full: str
    runs: Mapping[str, Run]  # label -> numbers, in the table's order; rows that were not run have none

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """Every metric that judges and that some row has, in the order of the tables."""
        there = set().union(*(run.metrics() for run in self.runs.values()))
        return tuple(metric for metric in METRICS if metric in there and METRICS[metric].judges)

    @cached_property
    def differences(self) -> Mapping[tuple[str, str], Number]:
        """(label, metric) -> that row minus the full method."""
        full = self.runs[self.full]
        found = {
            (label, metric): run.less(full, metric) for label, run in self.runs.items() if label != self.full for metric in self.metrics
        }
        return {key: number for key, number in found.items() if number is not None}

    def verdict(self, label: str, metric: str) -> str:
        """worse | better | "" of a row against the full method: only beyond the interval."""
        number = self.differences.get((label, metric))
        if number is None or not number.beyond:
            return ""
        return "better" if (number.value > 0) == (METRICS[metric].better == "up") else "worse"


def run_study(lake: Lake, rows: Sequence[Wanted], *, full: str, protocol: str, dataset: str, split: str, seeds: Sequence[int]) -> Study:
    """What the lake holds of these rows: the newest predictions of each variant and seed. Rows that were not run stay without numbers."""
    where = (pc.field("protocol") == protocol) & (pc.field("dataset") == dataset) & (pc.field("split") == split)
    benchmark = [row for row in lake.rows("benchmark", where) if row["seed"] in seeds]
    scores = lake.rows("scores", where & one_of("prediction_id", {row["prediction_id"] for row in benchmark}), _SCORE_COLUMNS)
    return Study(protocol=protocol, dataset=dataset, split=split, full=full,
                 runs={wanted.label: _run(wanted, benchmark, scores) for wanted in rows})  # fmt: skip


_SCORE_COLUMNS = ["prediction_id", "clip_id", "metric", "sum", "count", "per_frame", "truth_sha256", "status"]


def _run(wanted: Wanted, benchmark: Sequence[Mapping[str, Any]], scores: Sequence[Mapping[str, Any]]) -> Run:
    mine = [row for row in benchmark if (row["method"], row["variant"]) == (wanted.method, wanted.variant)]
    ids = {row["prediction_id"] for row in mine}
    return Run(wanted, mine, [row for row in scores if row["prediction_id"] in ids])
