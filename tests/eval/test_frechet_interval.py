"""The interval of a Frechet distance covers the true distance as often as it says."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

import eval.frechet_left_out
from eval.frechet import frechet_distance_of_rows
from eval.frechet_groups import GroupedRows
from eval.frechet_interval import (
    FrechetInterval,
    exact_left_out_distances,
    frechet_interval,
    grouped,
    jackknife,
    left_out_distances,
    most_rows_held,
)
from eval.frechet_left_out import BalancedGroups, exact_root

Clips = list[npt.NDArray[np.float64]]


def _clips(rng: np.random.Generator, clips: int, frames: int, dims: int, within: float, shift: float) -> tuple[Clips, Clips, float]:
    """(generated, true, the distance of their populations): frames of a clip are alike, generated and true clips correlate."""
    spread = np.sqrt(np.linspace(0.5, 2.0, dims))
    mean, scale = np.full(dims, shift / np.sqrt(dims)), np.sqrt(1.3)
    noise = rng.normal(size=(2, clips, frames, dims)) * np.sqrt(1 - within) + rng.normal(size=(2, clips, 1, dims)) * np.sqrt(within)
    generated, truth = 0.5 * noise[0] + np.sqrt(0.75) * noise[1], noise[0]
    # both covariances are diagonal: d = |mean|^2 + sum (sqrt(1.3) - 1)^2 * spread^2
    distance = float(mean @ mean + ((scale - 1) ** 2 * spread**2).sum())
    return list(generated * spread * scale + mean), list(truth * spread), distance


def _covered(clips: int, frames: int, dims: int, within: float, shift: float, trials: int) -> tuple[float, float]:
    """(share of intervals that hold the true distance, share that plain percentile thinking would: plug-in inside its own corrected interval)."""
    rng, hits, plug_in = np.random.default_rng(7), 0, 0
    for _ in range(trials):
        generated, truth, distance = _clips(rng, clips, frames, dims, within, shift)
        found = frechet_interval(generated, truth)
        assert isinstance(found, FrechetInterval)
        hits += found.low <= distance <= found.high
        plug_in += found.low <= frechet_distance_of_rows(np.concatenate(generated), np.concatenate(truth)) <= found.high
    return hits / trials, plug_in / trials


@pytest.mark.parametrize(
    ("clips", "frames", "dims", "within", "shift"),
    [
        (20, 16, 8, 0.3, 1.0),
        pytest.param(40, 16, 16, 0.3, 1.0, marks=pytest.mark.slow),
        pytest.param(30, 8, 16, 0.8, 1.0, marks=pytest.mark.slow),
        (20, 16, 8, 0.3, 0.0),
    ],
)
def test_ninety_five_of_a_hundred_intervals_hold_the_truth(clips: int, frames: int, dims: int, within: float, shift: float) -> None:
    covered, _ = _covered(clips, frames, dims, within, shift, trials=200)
    assert 0.90 <= covered <= 0.99


@pytest.mark.slow
@pytest.mark.parametrize(
    ("clips", "frames", "dims", "within", "shift"),
    [(100, 16, 32, 0.3, 1.0), (130, 8, 32, 0.3, 1.0), (100, 16, 64, 0.3, 2.0), (40, 16, 32, 0.1, 1.0), (25, 2, 16, 0.1, 1.0)],
)
def test_coverage_over_more_dimensions(clips: int, frames: int, dims: int, within: float, shift: float) -> None:
    covered, _ = _covered(clips, frames, dims, within, shift, trials=200)
    assert 0.90 <= covered <= 0.98 + 0.01


def test_the_plain_estimate_is_biased_and_the_interval_knows() -> None:
    _, plug_in = _covered(40, 16, 32, 0.3, 1.0, trials=20)
    assert plug_in < 0.5


def _grouped(clips: Clips, groups: int = 20) -> GroupedRows:
    return GroupedRows.of([clips[group::groups] for group in range(groups)])


def _spread_clips(seed: int, *, dims: int = 90, clips: int = 60, uneven: bool = False) -> tuple[Clips, Clips]:
    """Correlated features whose covariances range over three orders of magnitude, with a large mean."""
    rng = np.random.default_rng(seed)
    generated, truth, _ = _clips(rng, clips, 8, dims, 0.2, 1.0)
    mix = np.linalg.qr(rng.normal(size=(dims, dims)))[0] * np.geomspace(1, 30, dims)
    pairs = [(a @ mix + 5, b @ mix + 5) for a, b in zip(generated, truth, strict=True)]
    if uneven:
        pairs = [(a[: 8 - index % 4], b[: 8 - index % 3]) for index, (a, b) in enumerate(pairs)]
    return [a for a, _ in pairs], [b for _, b in pairs]


@pytest.mark.parametrize("uneven", [False, True])
def test_each_exact_distance_is_that_of_the_rows_that_are_left(uneven: bool) -> None:
    sides = _spread_clips(1, dims=20, uneven=uneven)
    whole, left_out = exact_left_out_distances(*map(_grouped, sides))
    assert whole == pytest.approx(frechet_distance_of_rows(*map(np.concatenate, sides)), rel=1e-11)
    for group in range(20):
        rest = [np.concatenate([clip for index, clip in enumerate(side) if index % 20 != group]) for side in sides]
        assert left_out[group] == pytest.approx(frechet_distance_of_rows(*rest), rel=1e-11)


@pytest.mark.parametrize("groups", [20, 60])
@pytest.mark.parametrize("uneven", [False, True])
@pytest.mark.parametrize("seed", [2, 3])
def test_the_quick_way_equals_the_exact_one(seed: int, uneven: bool, groups: int) -> None:
    a, b = (_grouped(clips, groups) for clips in _spread_clips(seed, uneven=uneven))
    balanced = BalancedGroups.of(a, b)
    assert balanced is not None
    whole, exact = exact_left_out_distances(a, b)
    quick_whole, quick = left_out_distances(a, b)
    assert not np.array_equal(quick, exact)
    assert quick_whole == pytest.approx(whole, rel=1e-11)
    np.testing.assert_allclose(quick, exact, rtol=2e-5)
    found, expected = jackknife(whole, quick), jackknife(whole, exact)
    reach = expected.high - expected.corrected
    assert found.low == pytest.approx(expected.low, abs=2e-3 * reach)
    assert found.high == pytest.approx(expected.high, abs=2e-3 * reach)
    precise = balanced.roots(1e-8)
    assert precise is not None
    roots = [exact_root(a, b, group) for group in range(groups)]
    np.testing.assert_allclose(precise[1], roots, rtol=1e-8)
    assert precise[2] < 1e-7 * precise[0]


def test_a_quick_way_that_is_wrong_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = map(_grouped, _spread_clips(4))
    monkeypatch.setattr(eval.frechet_left_out, "_inverse_root_rule", lambda *_: (0.1, np.ones(1), np.ones(1)))
    np.testing.assert_array_equal(left_out_distances(a, b)[1], exact_left_out_distances(a, b)[1])
    monkeypatch.setattr(eval.frechet_left_out, "_inverse_root_rule", lambda *_: (0.1, np.array([np.nan]), np.ones(1)))
    np.testing.assert_array_equal(left_out_distances(a, b)[1], exact_left_out_distances(a, b)[1])


@pytest.mark.parametrize("span", [1e2, 1e6, 1e11])
@pytest.mark.parametrize("precision", [1e-3, 1e-5, 1e-8])
def test_the_rule_is_an_inverse_root(span: float, precision: float) -> None:
    rule = eval.frechet_left_out._inverse_root_rule(0.3, 0.3 * span, precision)
    assert rule is not None
    a0, t, w = rule
    x = 0.3 * span ** np.random.default_rng(5).uniform(size=20000)
    assert np.abs(np.sqrt(x) * (a0 + (w / (x[:, None] + t)).sum(1)) - 1).max() <= 1.01 * precision
    assert eval.frechet_left_out._inverse_root_rule(1e-30, 1e30, 1e-12) is None


def test_what_the_quick_way_cannot_do_is_done_exactly() -> None:
    generated, truth = _spread_clips(6)
    still = [[np.insert(clip, 3, 1.0, axis=1) for clip in side] for side in (generated, truth)]
    assert BalancedGroups.of(*map(_grouped, still)) is None
    found, expected = frechet_interval(*still), jackknife(*left_out_distances(_grouped(generated), _grouped(truth)))
    assert isinstance(found, FrechetInterval)
    assert found.corrected == pytest.approx(expected.corrected, abs=2e-3 * (expected.high - expected.corrected))
    same = frechet_interval(generated, generated)
    assert isinstance(same, FrechetInterval)
    assert same.high == pytest.approx(0.0, abs=1e-6 * sum(np.concatenate(generated).var(0)))


@pytest.mark.slow
def test_coverage_by_the_quick_way() -> None:
    covered, _ = _covered(100, 4, 64, 0.3, 1.0, trials=100)
    assert 0.90 <= covered <= 0.99


def test_few_rows_get_a_group_for_each_clip_and_many_get_twenty() -> None:
    assert {dims: most_rows_held(dims) for dims in (64, 400, 2048)} == {64: 2133, 400: 13333, 2048: 13671}
    clips = [np.ones((2, 64))] * 120
    assert [len(grouped(clips[:n], n, 2133).counts) for n in (10, 37, 120)] == [10, 37, 100]
    assert [len(grouped(clips[:n], n, 2134).counts) for n in (10, 37, 120)] == [10, 20, 20]


def test_what_one_decomposition_cannot_serve_is_put_into_twenty_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every k-th clip without the group's, whichever way the rows were read."""
    sides = _spread_clips(5, clips=60)
    many = [_grouped(clips, 60) for clips in sides]
    monkeypatch.setattr(BalancedGroups, "of", lambda *_: None)
    whole, left_out = left_out_distances(*many)
    expected, expected_left_out = exact_left_out_distances(*map(_grouped, sides))
    assert whole == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(left_out, expected_left_out, rtol=1e-11)


@pytest.mark.slow
def test_more_groups_leave_less_of_the_width_to_chance() -> None:
    """The same clips, in 20 and in 100 groups: as wide on average, up to Student's factor, and steadier from sample to sample."""
    rng, widths = np.random.default_rng(9), {20: list[float](), 100: list[float]()}
    for _ in range(60):
        generated, truth, _ = _clips(rng, 100, 4, 16, 0.3, 1.0)
        for groups, found in widths.items():
            interval = jackknife(*exact_left_out_distances(_grouped(generated, groups), _grouped(truth, groups)))
            found.append(interval.high - interval.corrected)
    few, many = (np.array(widths[groups]) for groups in (20, 100))
    assert many.mean() / few.mean() == pytest.approx(1.984 / 2.093, abs=0.04)
    assert many.std() / many.mean() < 0.8 * few.std() / few.mean()


def test_what_cannot_be_had_says_why() -> None:
    rng = np.random.default_rng(0)
    few = [rng.normal(size=(16, 4)) for _ in range(5)]
    assert "5 clips, the jackknife needs 10" in str(frechet_interval(few, few))
    wide = [rng.normal(size=(2, 64)) for _ in range(12)]
    assert "22 samples for 64 dimensions" in str(frechet_interval(wide, wide))
    with pytest.raises(ValueError, match="needs pairs"):
        frechet_interval(few, few[1:])


def test_equal_sets_have_distance_zero() -> None:
    rng = np.random.default_rng(0)
    same = [rng.normal(size=(16, 4)) for _ in range(12)]
    found = frechet_interval(same, same)
    assert isinstance(found, FrechetInterval)
    assert found.high == pytest.approx(0.0, abs=1e-9)
