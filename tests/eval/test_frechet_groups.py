"""Sets read clip by clip: the same numbers as from all rows at once, in memory that does not grow with the clips."""

from __future__ import annotations

import tracemalloc
import weakref

import numpy as np
import numpy.typing as npt
import pytest

from eval.frechet import frechet_distance_of_rows
from eval.frechet_groups import FEWEST_HELD, GroupedClips, GroupedRows, GroupedScatters
from eval.frechet_interval import (
    FrechetInterval,
    exact_left_out_distances,
    frechet_estimate,
    grouped,
    jackknife,
    most_rows_held,
    whole_distance,
)

Clips = list[npt.NDArray[np.float32]]


def _clips(clips: int, rows: int, dims: int, seed: int, offset: float = 0.0, uneven: int = 1) -> Clips:
    """Correlated float32 features; clips have `rows` rows, or up to uneven - 1 fewer."""
    rng = np.random.default_rng(seed)
    mix = np.linalg.qr(rng.normal(size=(dims, dims)))[0] * np.geomspace(1, 20, dims)
    means = rng.normal(size=(clips, 1, dims)) * 0.5
    drawn = [rng.normal(size=(rows - index % uneven, dims)) + means[index] for index in range(clips)]
    return [((one + 0.1 * seed) @ mix + offset).astype(np.float32) for one in drawn]


def _grouped(clips: Clips) -> GroupedClips:
    return grouped(clips, len(clips), sum(map(len, clips)))


def _in_rows(clips: Clips) -> GroupedRows:
    groups = min(len(clips), 100 if sum(map(len, clips)) <= most_rows_held(clips[0].shape[1]) else 20)
    return GroupedRows.of([clips[group::groups] for group in range(groups)])


@pytest.mark.parametrize("uneven", [1, 4])
@pytest.mark.parametrize(("clips", "rows", "dims"), [(40, 300, 16), (60, 260, 90)])
def test_scatters_give_the_numbers_of_the_rows(clips: int, rows: int, dims: int, uneven: int) -> None:
    """Point estimate, every left-out distance and the interval, against two passes over all rows."""
    sides = [_clips(clips, rows, dims, seed, offset=30.0, uneven=uneven) for seed in (1, 2)]
    a, b = (_grouped(side).groups() for side in sides)
    assert isinstance(a, GroupedScatters)
    whole, left_out = exact_left_out_distances(a, b)
    expected, expected_left_out = exact_left_out_distances(*map(_in_rows, sides))
    assert whole == pytest.approx(expected, rel=1e-9)
    assert whole == pytest.approx(frechet_distance_of_rows(*map(np.concatenate, sides)), rel=1e-9)
    np.testing.assert_allclose(left_out, expected_left_out, rtol=1e-9)
    found = frechet_estimate(*map(_grouped, sides))
    assert found.value == pytest.approx(whole, rel=1e-12)
    assert isinstance(found.interval, FrechetInterval)
    interval = jackknife(expected, expected_left_out)
    for end in ("low", "high", "corrected"):
        assert getattr(found.interval, end) == pytest.approx(getattr(interval, end), rel=1e-9)


@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_statistics_are_those_of_two_passes(offset: float) -> None:
    clips = _clips(50, 200, 12, 3, offset=offset)
    rows, groups = np.concatenate(clips).astype(np.float64), _grouped(clips).groups()
    assert isinstance(groups, GroupedScatters)
    assert groups.n == 10000
    np.testing.assert_allclose(groups.mean, rows.mean(0), rtol=1e-12)
    expected = np.cov(rows, rowvar=False)
    np.testing.assert_allclose(np.tril(groups.covariance.numpy()), np.tril(expected), rtol=1e-9, atol=1e-9 * np.abs(expected).max())
    assert groups.trace == pytest.approx(np.trace(expected), rel=1e-9)


def test_few_rows_are_held_and_give_the_distance_of_rows() -> None:
    """Fewer rows than dimensions: no covariance has full rank, so the rows themselves are used."""
    sides = [_clips(12, 20, 400, seed) for seed in (1, 2)]
    a, b = (_grouped(side) for side in sides)
    assert isinstance(a.groups(), GroupedRows)
    found = frechet_estimate(a, b)
    assert found.value == pytest.approx(frechet_distance_of_rows(*map(np.concatenate, sides)), rel=1e-9)
    assert "220 samples for 400 dimensions" in str(found.interval)


def test_a_small_set_against_a_large_one() -> None:
    sides = _clips(12, 20, 400, 1), _clips(12, 1200, 400, 2)
    a, b = (_grouped(side).groups() for side in sides)
    assert (type(a), type(b)) == (GroupedRows, GroupedScatters)
    expected = frechet_distance_of_rows(*map(np.concatenate, sides))
    assert whole_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert whole_distance(b, a) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("clips", "rows", "dims"), [(30, 8, 32), (30, 400, 32), (12, 4, 64)])
def test_float32_means_of_value_and_interval_are_those_of_float32_code(clips: int, rows: int, dims: int) -> None:
    """To the last bit np.mean of the float32 rows, of everything and without each group."""
    sides = [_clips(clips, rows, dims, seed, offset=300.0 + seed) for seed in (1, 2)]
    taken = [grouped(side, clips, clips * rows, float32_means=True) for side in sides]
    a, b = (groups.groups() for groups in taken)
    shift = np.concatenate(sides[0]).mean(axis=0) - np.concatenate(sides[1]).mean(axis=0)
    assert a.shift(b) == float(shift.dot(shift))
    for group, found in enumerate(a.shifts_left(b)):
        left = [np.concatenate([clip for index, clip in enumerate(side) if index % len(a.counts) != group]) for side in sides]
        shift = left[0].mean(axis=0) - left[1].mean(axis=0)
        assert found == float(shift.dot(shift))
    estimate = frechet_estimate(*taken)
    assert estimate.value == pytest.approx(frechet_distance_of_rows(*map(np.concatenate, sides), float32_means=True), rel=1e-9)
    if isinstance(estimate.interval, FrechetInterval):
        assert estimate.interval != frechet_estimate(*map(_grouped, sides)).interval
    else:
        assert rows == 4


def test_a_clip_is_let_go_once_its_group_is_large() -> None:
    alive: weakref.WeakSet[_Watched] = weakref.WeakSet()
    groups, most = GroupedClips(20), 0
    for index in range(40 * 20):
        clip = _clips(1, 32, 6, index)[0].view(_Watched)
        alive.add(clip)
        groups.add(clip)
        del clip
        most = max(most, len(alive))
    assert groups.n == 40 * 20 * 32
    assert most <= 20 * (FEWEST_HELD // 32 + 1) + 1


class _Watched(np.ndarray):
    """An array that can be put into a set."""

    __hash__ = object.__hash__  # type: ignore[assignment]


def test_memory_does_not_grow_with_clips() -> None:
    def peak(clips: int) -> int:
        groups = GroupedClips(20)
        tracemalloc.start()
        for index in range(clips):
            groups.add(np.random.default_rng(index).normal(size=(64, 48)).astype(np.float32))
        groups.groups()
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(1600) < 1.1 * peak(200)


def test_nonsense_is_refused() -> None:
    groups = GroupedClips(2)
    with pytest.raises(ValueError, match="NaN"):
        groups.add(np.full((3, 4), np.nan))
    with pytest.raises(ValueError, match="N >= 1"):
        groups.add(np.empty((0, 4)))
    groups.add(np.ones((3, 4)))
    with pytest.raises(ValueError, match="dimensions differ: 4 and 5"):
        groups.add(np.ones((3, 5)))
