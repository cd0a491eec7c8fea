"""Frechet distance: theorems, and clean-fid as the oracle."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from eval.frechet import FeatureStatistics, frechet_distance, frechet_distance_of_rows, stream


def _rows(n: int, d: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(n, d)) @ generator.normal(size=(d, d)) + generator.normal(size=d)


def _oracle(a: np.ndarray, b: np.ndarray) -> float:
    from cleanfid.fid import frechet_distance as clean

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SciPy announces the removal of an argument that clean-fid passes
        return float(clean(a.mean(0), np.cov(a, rowvar=False), b.mean(0), np.cov(b, rowvar=False)))


@pytest.mark.parametrize(("n", "m", "d"), [(200, 150, 16), (400, 400, 48)])
def test_equals_clean_fid(n: int, m: int, d: int) -> None:
    a, b = _rows(n, d, 1), _rows(m, d, 2)
    assert frechet_distance_of_rows(a, b) == pytest.approx(_oracle(a, b), rel=1e-9)


@pytest.mark.parametrize(("n", "m"), [(12, 20), (12, 200), (200, 12)])
def test_fewer_rows_than_dimensions_equals_scipy_roots(n: int, m: int) -> None:
    """Both forms, nuclear norm and covariance, against eigenvalues of the plain product."""
    a, b = _rows(n, 40, 3), _rows(m, 40, 4)
    roots = np.sqrt(np.abs(np.linalg.eigvals(np.cov(a, rowvar=False) @ np.cov(b, rowvar=False)))).sum()
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + a.var(0, ddof=1).sum() + b.var(0, ddof=1).sum() - 2 * roots
    assert frechet_distance_of_rows(a, b) == pytest.approx(expected, rel=1e-5)
    assert frechet_distance(FeatureStatistics.of(a), FeatureStatistics.of(b)) == pytest.approx(frechet_distance_of_rows(a, b), rel=1e-6)


@pytest.mark.parametrize("n", [10, 300])
def test_distance_to_itself_is_zero(n: int) -> None:
    x = _rows(n, 32, 5)
    assert frechet_distance_of_rows(x, x) == pytest.approx(0, abs=1e-9 * np.trace(np.cov(x, rowvar=False)))


@pytest.mark.parametrize("n", [10, 300])
def test_a_constant_shift_costs_its_squared_length(n: int) -> None:
    x, shift = _rows(n, 32, 6), np.linspace(-3, 3, 32)
    assert frechet_distance_of_rows(x, x + shift) == pytest.approx(shift @ shift, rel=1e-9)


@pytest.mark.parametrize("n", [10, 300])
def test_scaling_by_k_costs_the_trace_times_one_minus_k_squared(n: int) -> None:
    x = _rows(n, 32, 7)
    x -= x.mean(0)
    assert frechet_distance_of_rows(x, 3 * x) == pytest.approx(4 * np.trace(np.cov(x, rowvar=False)), rel=1e-9)


def test_the_distance_is_symmetric() -> None:
    a, b = _rows(60, 24, 8), _rows(90, 24, 9)
    assert frechet_distance_of_rows(a, b) == pytest.approx(frechet_distance_of_rows(b, a), rel=1e-10)


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_streaming_equals_two_passes_in_any_order(offset: float) -> None:
    x = _rows(500, 20, 10) + offset
    batches = np.array_split(x, [1, 7, 100, 101, 333])
    for order in (batches, batches[::-1]):
        streamed = stream(order)
        np.testing.assert_allclose(streamed.mean, x.mean(0), rtol=1e-12)
        np.testing.assert_allclose(
            streamed.covariance, np.cov(x, rowvar=False), rtol=1e-9, atol=1e-9 * np.abs(np.cov(x, rowvar=False)).max()
        )


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        FeatureStatistics.of([[np.nan, 1.0]])
    with pytest.raises(ValueError, match="N >= 2"):
        frechet_distance_of_rows(np.ones((1, 3)), np.ones((5, 3)))
    with pytest.raises(ValueError, match="2 rows"):
        _ = FeatureStatistics.of(np.ones((1, 3))).covariance
    with pytest.raises(ValueError, match="NaN"):
        frechet_distance_of_rows(np.full((3, 8), np.inf), np.ones((3, 8)))
    with pytest.raises(ValueError, match="no features"):
        stream([])
