"""The interval of a Frechet distance covers the true distance as often as it says."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from eval.frechet import FeatureStatistics, frechet_distance_of_rows
from eval.frechet_interval import FrechetInterval, frechet_interval

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
    [(20, 16, 8, 0.3, 1.0), (40, 16, 16, 0.3, 1.0), (30, 8, 16, 0.8, 1.0), (20, 16, 8, 0.3, 0.0)],
)
def test_ninety_five_of_a_hundred_intervals_hold_the_truth(clips: int, frames: int, dims: int, within: float, shift: float) -> None:
    covered, _ = _covered(clips, frames, dims, within, shift, trials=200)
    assert 0.90 <= covered <= 0.99


@pytest.mark.slow
@pytest.mark.parametrize(
    ("clips", "frames", "dims", "within", "shift"),
    [(100, 16, 32, 0.3, 1.0), (100, 16, 64, 0.3, 2.0), (40, 16, 32, 0.1, 1.0), (25, 2, 16, 0.1, 1.0)],
)
def test_coverage_over_more_dimensions(clips: int, frames: int, dims: int, within: float, shift: float) -> None:
    covered, _ = _covered(clips, frames, dims, within, shift, trials=200)
    assert 0.90 <= covered <= 0.98 + 0.01


def test_the_plain_estimate_is_biased_and_the_interval_knows() -> None:
    _, plug_in = _covered(40, 16, 32, 0.3, 1.0, trials=20)
    assert plug_in < 0.5


def test_without_undoes_merge() -> None:
    rng = np.random.default_rng(0)
    a, b = (FeatureStatistics.of(rng.normal(3, 1, size=(n, 5))) for n in (40, 7))
    again = a.merge(b).without(b)
    assert again.n == a.n
    np.testing.assert_allclose(again.mean, a.mean, rtol=1e-12)
    np.testing.assert_allclose(again.scatter, a.scatter, rtol=1e-10, atol=1e-10)
    with pytest.raises(ValueError, match="nothing is left"):
        b.without(b)


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
