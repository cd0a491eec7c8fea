"""How sure a Frechet distance is: a 95 % interval by the delete-group jackknife over clips.

The plug-in distance of finite samples is biased upwards (Chong and Forsyth 2020), so a percentile bootstrap of it can exclude
its own point estimate. The jackknife estimates that bias and the spread from the same values (Quenouille 1956; Tukey 1958;
groups and clusters: Kott 2001). Clips are the unit, because frames and windows of one clip are not independent.

N = samples, D = feature dimensions, G = groups
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import numpy.typing as npt

from eval.frechet import FeatureStatistics, frechet_distance

GROUPS = 20  # in simulations 20 groups cover as well as one group per clip
FEWEST_CLIPS = 10
SAMPLES_PER_DIMENSION = 1.25  # below it covariances are (nearly) rank-deficient and the bias is no longer of order 1 / N


@dataclass(frozen=True, slots=True)
class FrechetInterval:
    """low <= corrected <= high; `corrected` is the distance without the bias that finite samples add."""

    low: float
    high: float
    corrected: float


def frechet_interval(generated: Sequence[npt.ArrayLike], truth: Sequence[npt.ArrayLike]) -> FrechetInterval | str:
    """The interval, or the reason why there is none.

    generated, truth: per clip, in the same order, [n_i, D] feature rows. Clips are put into groups in turn, so the order of clips
    should be fixed (sorted ids). The interval is for the distance that infinitely many such clips would have; it is centred at the
    corrected value and cut at 0.
    """
    if len(generated) != len(truth):
        raise ValueError(f"{len(generated)} generated clips, {len(truth)} true ones: an interval needs pairs")
    if len(generated) < FEWEST_CLIPS:
        return f"no interval: {len(generated)} clips, the jackknife needs {FEWEST_CLIPS}"
    sides = [[FeatureStatistics.of(rows) for rows in side] for side in (generated, truth)]
    dimensions = sides[0][0].mean.size
    groups = min(GROUPS, len(generated))
    merged = [_grouped(side, groups) for side in sides]
    totals = [reduce(FeatureStatistics.merge, side) for side in merged]
    fewest = min(total.n - max(part.n for part in side) for total, side in zip(totals, merged, strict=True))
    if fewest < SAMPLES_PER_DIMENSION * dimensions:
        return f"no interval: {fewest} samples for {dimensions} dimensions leave the covariances without full rank"
    whole = frechet_distance(*totals)
    left_out = np.array(
        [frechet_distance(*(total.without(side[g]) for total, side in zip(totals, merged, strict=True))) for g in range(groups)]
    )
    return _jackknife(whole, left_out)


def _grouped(parts: Sequence[FeatureStatistics], groups: int) -> list[FeatureStatistics]:
    return [reduce(FeatureStatistics.merge, parts[g::groups]) for g in range(groups)]


def _jackknife(whole: float, left_out: npt.NDArray[np.float64]) -> FrechetInterval:
    """Bias and variance of the delete-group jackknife; Student's t with G - 1 degrees of freedom."""
    from scipy.stats import t

    groups = len(left_out)
    corrected = groups * whole - (groups - 1) * float(left_out.mean())
    error = float(np.sqrt((groups - 1) / groups * np.square(left_out - left_out.mean()).sum()))
    reach = float(t.ppf(0.975, groups - 1)) * error
    return FrechetInterval(low=max(0.0, corrected - reach), high=max(0.0, corrected + reach), corrected=max(0.0, corrected))
