"""How sure a Frechet distance is: a 95 % interval by the delete-group jackknife over clips.

The plug-in distance of finite samples is biased upwards (Chong and Forsyth 2020), so a percentile bootstrap of it can exclude
its own point estimate. The jackknife estimates that bias and the spread from the same values (Quenouille 1956; Tukey 1958;
groups and clusters: Kott 2001). Clips are the unit, because frames and windows of one clip are not independent.

N = samples, D = feature dimensions, G = groups
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eval.frechet import Array, distance, trace_root
from eval.frechet_left_out import BalancedGroups, GroupedRows, exact_root

GROUPS = 20  # in simulations 20 groups cover as well as one group per clip
FEWEST_CLIPS = 10
SAMPLES_PER_DIMENSION = 1.25  # below it covariances are (nearly) rank-deficient and the bias is no longer of order 1 / N
PRECISIONS = (5e-5, 1e-7)  # of the quick way, tried in turn
ACCEPTED_ERROR = 0.002  # of the interval's reach, before the measured error is taken off; more, and the quick way is not taken


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
    groups = min(GROUPS, len(generated))
    a, b = (GroupedRows.of([clips[g::groups] for g in range(groups)]) for clips in (generated, truth))
    if a.dimensions != b.dimensions:
        raise ValueError(f"feature dimensions differ: {a.dimensions} and {b.dimensions}")
    fewest = min(a.counts_left.min(), b.counts_left.min())
    if fewest < SAMPLES_PER_DIMENSION * a.dimensions:
        return f"no interval: {fewest} samples for {a.dimensions} dimensions leave the covariances without full rank"
    return jackknife(*left_out_distances(a, b))


def left_out_distances(a: GroupedRows, b: GroupedRows) -> tuple[float, Array]:
    """(distance of all rows, [G] distances without each group).

    The quick way is taken where its error, measured in the same call, would move no end of the interval by more than
    ACCEPTED_ERROR of its reach; otherwise every distance is computed by itself.
    """
    balanced = BalancedGroups.of(a, b)
    for precision in PRECISIONS if balanced is not None else ():
        assert balanced is not None
        roots = balanced.roots(precision)
        if roots is None:
            break
        whole, left_out = _distances(a, b, *roots[:2])
        if 2 * roots[2] * (len(left_out) - 1) <= ACCEPTED_ERROR * _reach(left_out):
            return whole, left_out
    return exact_left_out_distances(a, b)


def exact_left_out_distances(a: GroupedRows, b: GroupedRows) -> tuple[float, Array]:
    """The same, one eigenvalue problem for each."""
    roots = np.array([exact_root(a, b, group) for group in range(len(a.counts))])
    return _distances(a, b, trace_root(a.covariance, b.covariance), roots)


def _distances(a: GroupedRows, b: GroupedRows, root: float, roots_left: Array) -> tuple[float, Array]:
    shift, shifts = a.mean - b.mean, a.means_left - b.means_left
    whole = distance(float(shift @ shift), float(a.covariance.trace()), float(b.covariance.trace()), root)
    terms = zip(np.square(shifts).sum(axis=1), a.traces_left, b.traces_left, roots_left, strict=True)
    return whole, np.array([distance(*map(float, term)) for term in terms])


def jackknife(whole: float, left_out: Array) -> FrechetInterval:
    """Bias and variance of the delete-group jackknife; Student's t with G - 1 degrees of freedom."""
    groups = len(left_out)
    corrected = groups * whole - (groups - 1) * float(left_out.mean())
    reach = _reach(left_out)
    return FrechetInterval(low=max(0.0, corrected - reach), high=max(0.0, corrected + reach), corrected=max(0.0, corrected))


def _reach(left_out: Array) -> float:
    from scipy.stats import t

    groups = len(left_out)
    error = float(np.sqrt((groups - 1) / groups * np.square(left_out - left_out.mean()).sum()))
    return float(t.ppf(0.975, groups - 1)) * error
