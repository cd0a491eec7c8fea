"""Frechet distance: theorems, and clean-fid as the oracle."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from eval.frechet import (
    FeatureStatistics,
    frechet_distance_of_rows,
    lower_scatter,
    packed_scatter,
    square_root_rows,
    symmetric_product,
    trace_root,
    unpacked,
)


def _rows(n: int, d: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(n, d)) @ generator.normal(size=(d, d)) + generator.normal(size=d)


def _oracle(a: np.ndarray, b: np.ndarray) -> float:
    from cleanfid.fid import frechet_distance as clean

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SciPy announces the removal of an argument that clean-fid passes
        return float(clean(a.mean(0), np.cov(a, rowvar=False), b.mean(0), np.cov(b, rowvar=False)))


@pytest.mark.parametrize(("n", "m", "d"), [(200, 150, 16), (400, 400, 48), (700, 900, 270)])  # the last: more than one block of columns
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


@pytest.mark.parametrize("seed", range(5))
def test_parts_may_be_merged_in_any_order_and_in_any_tree(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = _rows(400, 20, 11) + 1e4
    parts = [FeatureStatistics.of(part) for part in np.array_split(x, sorted(rng.choice(np.arange(1, 400), 30, replace=False)))]
    while len(parts) > 1:
        first, second = (parts.pop(int(rng.integers(len(parts)))) for _ in range(2))
        parts.append(first.merge(second))
    expected = np.cov(x, rowvar=False)
    np.testing.assert_allclose(parts[0].mean, x.mean(0), rtol=1e-12)
    np.testing.assert_allclose(parts[0].covariance, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())
    assert parts[0].n == 400


def test_a_packed_triangle_is_the_whole_scatter() -> None:
    x = _rows(50, 300, 21)
    lower = unpacked(packed_scatter(x), 300).numpy()
    np.testing.assert_allclose(lower, np.tril(x.T @ x), rtol=1e-10, atol=1e-9)
    root = square_root_rows(torch.from_numpy(lower))
    np.testing.assert_allclose(root.T @ root, x.T @ x, rtol=1e-9, atol=1e-9 * np.abs(lower).max())


@pytest.mark.parametrize(("n", "d"), [(300, 32), (20, 64)])
def test_float32_means_are_those_of_the_published_code(n: int, d: int) -> None:
    """np.mean of float32 rows and |dmu|^2 in float32, np.cov in float64; the published function does the rest."""
    a, b = (_rows(n, d, seed).astype(np.float32) + np.float32(offset) for seed, offset in ((12, 300.0), (13, 301.0)))
    shift = a.mean(axis=0) - b.mean(axis=0)
    assert shift.dtype == np.float32
    rest = frechet_distance_of_rows(a.astype(np.float64) - a.mean(0, dtype=np.float64), b.astype(np.float64) - b.mean(0, dtype=np.float64))
    found = frechet_distance_of_rows(a, b, float32_means=True)
    assert found == pytest.approx(float(shift.dot(shift)) + rest, rel=1e-12)
    if n > d:
        assert found == pytest.approx(_oracle(a, b), rel=1e-9)
    assert abs(found - frechet_distance_of_rows(a, b)) > 1e-9 * found


def test_what_is_above_the_diagonal_is_not_read() -> None:
    a, b = (np.cov(_rows(400, 300, seed), rowvar=False) for seed in (14, 15))
    lower_a, lower_b = (torch.from_numpy(np.where(np.tri(300), cov, np.nan)) for cov in (a, b))
    assert trace_root(lower_a, lower_b) == pytest.approx(np.sqrt(np.linalg.eigvals(a @ b).real).sum(), rel=1e-9)
    factor = torch.linalg.cholesky(torch.from_numpy(a))
    found = symmetric_product(factor, lower_b).tril()
    torch.testing.assert_close(found, (factor.T @ torch.from_numpy(b) @ factor).tril(), rtol=1e-10, atol=1e-10 * float(found.abs().max()))
    x = _rows(50, 300, 16)
    np.testing.assert_allclose(lower_scatter(x).tril(), np.tril(x.T @ x), rtol=1e-10, atol=1e-9)


def test_a_dimension_that_never_changes_adds_nothing() -> None:
    a, b = _rows(200, 12, 17), _rows(200, 12, 18)
    still = [np.insert(rows, 5, 3.0, axis=1) for rows in (a, b)]
    assert frechet_distance_of_rows(*still) == pytest.approx(frechet_distance_of_rows(a, b), rel=1e-9)


@pytest.mark.parametrize(("n", "m"), [(420, 450), (450, 420), (420, 700), (495, 490)])
@pytest.mark.parametrize("repeats", [1, 7])
def test_many_rows_but_fewer_than_dimensions_equal_the_singular_values(n: int, m: int, repeats: int) -> None:
    """Repeated rows, as of a frozen clip, leave singular values of zero, which squares would blur."""
    a, b = _rows(n, 500, 19)[np.arange(n) // repeats], _rows(m, 500, 20)
    x, y = a - a.mean(0), b - b.mean(0)
    root = np.linalg.svd(x @ y.T, compute_uv=False).sum() / np.sqrt((n - 1) * (m - 1))
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + a.var(0, ddof=1).sum() + b.var(0, ddof=1).sum() - 2 * root
    assert frechet_distance_of_rows(a, b) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance_of_rows(a, a) == pytest.approx(0, abs=1e-8 * a.var(0).sum())


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        FeatureStatistics.of([[np.nan, 1.0]])
    with pytest.raises(ValueError, match="N >= 2"):
        frechet_distance_of_rows(np.ones((1, 3)), np.ones((5, 3)))
    with pytest.raises(ValueError, match="2 rows"):
        _ = FeatureStatistics.of(np.ones((1, 3))).covariance
    with pytest.raises(ValueError, match="NaN"):
        frechet_distance_of_rows(np.full((3, 8), np.inf), np.ones((3, 8)))
