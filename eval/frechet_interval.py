"""How sure a Frechet distance is: a 95 % interval by the delete-group jackknife over clips.

The plug-in distance of finite samples is biased upwards (Chong and Forsyth 2020), so a percentile bootstrap of it can exclude
its own point estimate. The jackknife estimates that bias and the spread from the same values (Quenouille 1956; Tukey 1958;
groups and clusters: Kott 2001). Clips are the unit, because frames and windows of one clip are not independent.

N = samples, D = feature dimensions, G = groups
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from eval.frechet import Array, distance, nuclear_norm_of_product, trace_root
from eval.frechet_groups import HELD_BYTES, LOW_RANK, GroupedClips, GroupedRows, Groups, rows_of
from eval.frechet_left_out import BalancedGroups, exact_root

GROUPS = 20  # in simulations they cover as well as one group per clip
MOST_GROUPS = 100  # where one decomposition serves them all: the more, the less of the interval's width is chance
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


@dataclass(frozen=True, slots=True)
class FrechetEstimate:
    """The distance of all rows; its interval, or the reason why there is none. Both from the same means and covariances."""

    value: float
    interval: FrechetInterval | str


def frechet_interval(generated: Sequence[npt.ArrayLike], truth: Sequence[npt.ArrayLike]) -> FrechetInterval | str:
    """The interval, or the reason why there is none.

    generated, truth: per clip, in the same order, [n_i, D] feature rows. Clips are put into groups in turn, so the order of clips
    should be fixed (sorted ids). The interval is for the distance that infinitely many such clips would have; it is centred at the
    corrected value and cut at 0.
    """
    rows = max(sum(len(rows_of(clip)) for clip in clips) for clips in (generated, truth))
    a, b = (grouped(clips, len(clips), rows) for clips in (generated, truth))
    reason = _why_none(a, b)
    return reason if reason is not None else jackknife(*left_out_distances(a.groups(), b.groups()))


def grouped(clips: Iterable[npt.ArrayLike], count: int, rows: int, *, float32_means: bool = False) -> GroupedClips:
    """`count` clips, read one after another into the jackknife's groups.

    rows: how many there will be in all, or a bound, the same for both sets; where that is few, all are held and groups may be many.
    float32_means: as GroupedClips has it.
    """
    found: GroupedClips | None = None
    for clip in clips:
        features = rows_of(clip)
        if found is None:
            few = rows <= most_rows_held(features.shape[1])
            found = GroupedClips(min(count, MOST_GROUPS if few else GROUPS), hold_rows=few, float32_means=float32_means)
        found.add(features)
    return found or GroupedClips(0, float32_means=float32_means)


def most_rows_held(dimensions: int) -> int:
    """Rows of a set up to which all are held: MOST_GROUPS of them are still of low rank, and they take no more than HELD_BYTES."""
    return min(int(MOST_GROUPS * LOW_RANK * dimensions), HELD_BYTES // (4 * dimensions))


def frechet_estimate(a: GroupedClips, b: GroupedClips) -> FrechetEstimate:
    """Distance and interval of two sets of the same clips, read in the same order by `grouped`; 2 rows or more in each."""
    reason = _why_none(a, b)
    if reason is not None:
        return FrechetEstimate(whole_distance(a.groups(), b.groups()), reason)
    whole, left_out = left_out_distances(a.groups(), b.groups())
    return FrechetEstimate(whole, jackknife(whole, left_out))


def _why_none(a: GroupedClips, b: GroupedClips) -> str | None:
    if a.clips != b.clips:
        raise ValueError(f"{a.clips} generated clips, {b.clips} true ones: an interval needs pairs")
    if a.clips < FEWEST_CLIPS:
        return f"no interval: {a.clips} clips, the jackknife needs {FEWEST_CLIPS}"
    if a.dimensions != b.dimensions:
        raise ValueError(f"feature dimensions differ: {a.dimensions} and {b.dimensions}")
    fewest = min((side.n - side.counts).min() for side in (a, b))
    if fewest < SAMPLES_PER_DIMENSION * a.dimensions:
        return f"no interval: {fewest} samples for {a.dimensions} dimensions leave the covariances without full rank"
    return None


def whole_distance(a: Groups, b: Groups) -> float:
    """The distance of all rows, as `frechet_distance_of_rows` has it."""
    return distance(a.shift(b), a.trace, b.trace, _whole_root(a, b))


def _whole_root(a: Groups, b: Groups) -> float:
    few, many = sorted((a, b), key=lambda side: side.n)
    if few.n > a.dimensions:
        return trace_root(a.covariance, b.covariance)
    # Not from the covariances, which have no full rank: the roots of what should be zero would add up to something.
    return nuclear_norm_of_product(few.centred, many.centred) / float(np.sqrt((a.n - 1) * (b.n - 1)))


def left_out_distances(a: Groups, b: Groups) -> tuple[float, Array]:
    """(distance of all rows, [G] distances without each group).

    The quick way is taken where its error, measured in the same call, would move no end of the interval by more than
    ACCEPTED_ERROR of its reach; otherwise every distance is computed by itself, in GROUPS groups where there were more (float32 sums
    are of the groups that they were taken in).
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
    return exact_left_out_distances(*(_fewer_groups(side) for side in (a, b)))


def _fewer_groups(side: Groups) -> Groups:
    if isinstance(side, GroupedRows) and side.float32_means is None and len(side.counts) > GROUPS:
        return side.merged(GROUPS)
    return side


def exact_left_out_distances(a: Groups, b: Groups) -> tuple[float, Array]:
    """The same, one eigenvalue problem for each."""
    roots = np.array([exact_root(a, b, group) for group in range(len(a.counts))])
    return _distances(a, b, trace_root(a.covariance, b.covariance), roots)


def _distances(a: Groups, b: Groups, root: float, roots_left: Array) -> tuple[float, Array]:
    terms = zip(a.shifts_left(b), a.traces_left, b.traces_left, roots_left, strict=True)
    return distance(a.shift(b), a.trace, b.trace, root), np.array([distance(*map(float, term)) for term in terms])


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
