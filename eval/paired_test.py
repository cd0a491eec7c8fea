"""Is one method better than another: paired permutation test over clips, Holm over the metrics."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from eval.common_frames import CommonFrames, common_frames
from eval.metrics import METRICS

FEW_FRAMES = 8  # a clip's mean over fewer frames is mostly chance
SIGNIFICANT = 0.05
EXACT_CLIPS = 14  # up to here all 2**n sign flips are counted
PERMUTATIONS = 20_000
_SEED = 0
_SLACK = 1e-12  # flips whose statistic is the observed one up to rounding count as equal


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """One metric of method `a` against method `b` on the clips that both have."""

    metric: str
    difference: float  # mean over clips of a - b, in the metric's unit
    p_value: float  # two-sided
    p_holm: float  # adjusted for the number of metrics tested together
    least_p: float  # the smallest p_holm that so many clips and metrics can give
    clips: int
    frames: int
    warnings: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """better | worse | no difference shown: of method a."""
        if self.p_holm > SIGNIFICANT or self.difference == 0:
            return "no difference shown"
        return "better" if (self.difference > 0) == (METRICS[self.metric].better == "up") else "worse"


def permutation_p(differences: npt.ArrayLike) -> float:
    """Two-sided p-value of mean(differences) = 0 when each clip's sign is chance (Fisher 1935; Good 2005, 3.2).

    differences: [N] one per clip. Exact for N <= EXACT_CLIPS; else PERMUTATIONS random flips with a fixed seed, and
    (hits + 1) / (flips + 1), which is never 0. 1.0 when all are zero. Raises ValueError for none or for NaN.
    """
    values = np.asarray(differences, dtype=np.float64)
    if not len(values) or not np.isfinite(values).all():
        raise ValueError("differences must be finite, and at least one")
    observed, slack = abs(values.sum()), _SLACK * np.abs(values).sum()
    if len(values) <= EXACT_CLIPS:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=len(values))))
        return float(np.mean(np.abs(signs @ values) >= observed - slack))
    signs = np.random.default_rng(_SEED).choice((1.0, -1.0), size=(PERMUTATIONS, len(values)))
    return float((np.count_nonzero(np.abs(signs @ values) >= observed - slack) + 1) / (PERMUTATIONS + 1))


def smallest_p(clips: int) -> float:
    """The smallest p-value that `permutation_p` can give: 2 of the 2**clips sign flips are as extreme as all of one sign."""
    return max(2.0 ** (1 - clips), 1 / (PERMUTATIONS + 1) if clips > EXACT_CLIPS else 0.0)


def clips_needed(metrics: int) -> int:
    """Fewest clips with which a difference can become significant when so many metrics are tested together."""
    return next(clips for clips in itertools.count(1) if metrics * smallest_p(clips) <= SIGNIFICANT)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for testing them together (Holm 1979); keeps the order given."""
    order = np.argsort(p_values, kind="stable")
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def compare(a: Sequence[Mapping[str, Any]], b: Sequence[Mapping[str, Any]]) -> list[Comparison]:
    """Method a against method b. a, b: rows of `scores` of one protocol and split, each one method.

    A clip's value is its mean over the frames that count for both; clips without one are left out. Set metrics (FID,
    FVD) have no value per clip, so they are not tested; nor are metrics that judge nobody. Raises ValueError for rows of two protocols, splits or methods.
    """
    for rows in (a, b):
        if len({row["prediction_id"] for row in rows}) > 1:
            raise ValueError("rows of several methods; pass one method on each side")
    if len({(row["protocol"], row["split"]) for row in [*a, *b]}) > 1:
        raise ValueError("rows of several protocols or splits cannot be compared")
    pairs = {metric: _pairs(a, b, metric) for metric in METRICS if METRICS[metric].judges}
    tested = {metric: found for metric, found in pairs.items() if found}
    p_values = [permutation_p([pair.difference for pair in found]) for found in tested.values()]
    least = holm([smallest_p(len(found)) for found in tested.values()])  # Holm is monotone, so nothing can come out lower
    return [_comparison(metric, found, p, adjusted, lowest, len(tested))
            for (metric, found), p, adjusted, lowest in zip(tested.items(), p_values, holm(p_values), least, strict=True)]  # fmt: skip


def _pairs(a: Sequence[Mapping[str, Any]], b: Sequence[Mapping[str, Any]], metric: str) -> list[CommonFrames]:
    """What both have of each common clip, sorted by clip id."""
    mine, theirs = (
        {row["clip_id"]: row for row in rows if row["metric"] == metric and row["status"] == "ok" and row["count"]} for rows in (a, b)
    )
    found = [common_frames(mine[clip], theirs[clip]) for clip in sorted(mine.keys() & theirs.keys())]
    return [pair for pair in found if pair is not None]


def _comparison(metric: str, pairs: Sequence[CommonFrames], p_value: float, p_holm: float, least_p: float, tested: int) -> Comparison:
    warnings = []
    if least_p > SIGNIFICANT:
        warnings.append(f"{len(pairs)} clips are too few: tested together, {tested} metrics can give no p under {least_p:.2g}, so no "
                        f"difference can be significant (at least {clips_needed(tested)} clips are needed)")  # fmt: skip
    if min(pair.frames for pair in pairs) < FEW_FRAMES:
        warnings.append(f"a clip has fewer than {FEW_FRAMES} scored frames")
    return Comparison(metric=metric, difference=float(np.mean([pair.difference for pair in pairs])), p_value=p_value, p_holm=p_holm,
                      least_p=least_p, clips=len(pairs), frames=sum(pair.frames for pair in pairs), warnings=tuple(warnings))  # fmt: skip
