"""Frechet distance between two sets of features, and the streaming statistics that it needs.

FID and FVD are this arithmetic on rows of features (Heusel et al. 2017, Eq. 6; Dowson and Landau 1982):

    d = |mu_a - mu_b|^2 + tr S_a + tr S_b - 2 tr (S_a S_b)^(1/2)

(Papers and code call d "the FID", although it is the square of a distance.) S is the unbiased covariance (N - 1), as in
pytorch-fid, clean-fid and DisCo. The trace of the root is taken without forming a matrix root: S_a S_b has the same
eigenvalues as the symmetric F^T S_b F for any F with F F^T = S_a.

N = samples, D = feature dimensions
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class FeatureStatistics:
    """Count, mean and centred scatter of feature rows, in float64; merging two of them is exact up to rounding.

    n: rows seen;  mean: [D];  scatter: [D, D] = sum (x - mean)(x - mean)^T. The centred form (Chan, Golub and LeVeque 1983)
    does not cancel, as sum and sum of squares would where the mean is large against the spread.
    """

    n: int
    mean: Array
    scatter: Array

    @classmethod
    def of(cls, features: npt.ArrayLike) -> FeatureStatistics:
        """Statistics of one batch [N, D], N >= 1."""
        x = np.asarray(features, dtype=np.float64)
        if x.ndim != 2 or len(x) == 0:
            raise ValueError(f"features must be [N, D] with N >= 1, got shape {x.shape}")
        if not np.isfinite(x).all():
            raise ValueError("features hold NaN or infinity; a distance of them means nothing")
        mean = x.mean(axis=0)
        return cls(len(x), mean, (x - mean).T @ (x - mean))

    def merge(self, other: FeatureStatistics) -> FeatureStatistics:
        """Statistics of the union of two disjoint sets of rows."""
        n = self.n + other.n
        delta = other.mean - self.mean
        scatter = self.scatter + other.scatter + np.outer(delta, delta) * (self.n * other.n / n)
        return FeatureStatistics(n, self.mean + delta * (other.n / n), scatter)

    def without(self, part: FeatureStatistics) -> FeatureStatistics:
        """Statistics of the rows that are not in `part`, one of the merged sets: the inverse of `merge`."""
        n = self.n - part.n
        if n < 1:
            raise ValueError(f"nothing is left of {self.n} rows without {part.n}")
        mean = (self.mean * self.n - part.mean * part.n) / n
        delta = part.mean - mean
        return FeatureStatistics(n, mean, self.scatter - part.scatter - np.outer(delta, delta) * (n * part.n / self.n))

    @property
    def covariance(self) -> Array:
        """[D, D] unbiased covariance; needs two rows."""
        if self.n < 2:
            raise ValueError("a covariance needs at least 2 rows")
        return self.scatter / (self.n - 1)


def stream(batches: Iterable[npt.ArrayLike]) -> FeatureStatistics:
    """Statistics over batches [n_i, D] in constant memory; the merge order is the order of the batches."""
    total: FeatureStatistics | None = None
    for batch in batches:
        part = FeatureStatistics.of(batch)
        total = part if total is None else total.merge(part)
    if total is None:
        raise ValueError("no features at all")
    return total


def frechet_distance(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """Frechet distance of two Gaussians with these statistics (equation above); >= 0, 0 when they are equal."""
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"feature dimensions differ: {a.mean.size} and {b.mean.size}")
    cov_a, cov_b = a.covariance, b.covariance
    return _distance(a.mean - b.mean, float(np.trace(cov_a)), float(np.trace(cov_b)), _trace_root(cov_a, cov_b))


def frechet_distance_of_rows(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """The same from the rows themselves, [N_a, D] and [N_b, D], N >= 2; picks the cheaper and better conditioned form.

    With fewer rows than dimensions the covariances are rank-deficient. Then S = X^T X / (N - 1) with centred X, and

        tr (S_a S_b)^(1/2) = || X_a X_b^T ||_nuclear / sqrt((N_a - 1)(N_b - 1))

    which needs only an [N_a, N_b] matrix.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise ValueError(f"need two [N, D] arrays with N >= 2 and one D, got {x.shape} and {y.shape}")
    if min(len(x), len(y)) > x.shape[1]:
        return frechet_distance(FeatureStatistics.of(x), FeatureStatistics.of(y))
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("features hold NaN or infinity; a distance of them means nothing")
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    x, y = (x - mean_x) / np.sqrt(len(x) - 1), (y - mean_y) / np.sqrt(len(y) - 1)
    trace_root = float(np.linalg.svd(x @ y.T, compute_uv=False).sum())
    return _distance(mean_x - mean_y, float(np.sum(x * x)), float(np.sum(y * y)), trace_root)


def _distance(shift: Array, trace_a: float, trace_b: float, trace_root: float) -> float:
    # Rounding can leave a tiny negative number for equal inputs; a distance is not negative.
    return max(0.0, float(shift @ shift) + trace_a + trace_b - 2.0 * trace_root)


def _trace_root(cov_a: Array, cov_b: Array) -> float:
    """tr (cov_a cov_b)^(1/2) = sum of the roots of the eigenvalues of F^T cov_b F, F F^T = cov_a."""
    factor = _factor(cov_a)
    eigenvalues = np.linalg.eigvalsh(factor.T @ cov_b @ factor)
    return float(np.sqrt(np.clip(eigenvalues, 0.0, None)).sum())


def _factor(cov: Array) -> Array:
    """F with F F^T = cov: Cholesky where cov is positive definite, else from its eigenvectors."""
    try:
        return np.linalg.cholesky(cov)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(cov)
        return np.asarray(vectors * np.sqrt(np.clip(values, 0.0, None)))
