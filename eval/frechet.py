"""Frechet distance between two sets of features, and the statistics that it needs.

FID and FVD are this arithmetic on rows of features (Heusel et al. 2017, Eq. 6; Dowson and Landau 1982):

    d = |mu_a - mu_b|^2 + tr S_a + tr S_b - 2 tr (S_a S_b)^(1/2)

(Papers and code call d "the FID", although it is the square of a distance.) S is the unbiased covariance (N - 1), as in
pytorch-fid, clean-fid and DisCo. The trace of the root is taken without forming a matrix root: S_a S_b has the same
eigenvalues as the symmetric F^T S_b F for any F with F F^T = S_a.

The linear algebra is torch's, all of it, because a second library's threads go on spinning after each call. (Which one is
the faster depends on the processor: an eigenvalue problem has taken MKL, torch's on x86, from less than half to 1.6 times
NumPy's time.) A matrix called `lower` holds a symmetric one in its lower triangle; the rest of it is not read.

N = samples, D = feature dimensions
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

Array = npt.NDArray[np.float64]
BLOCK = 256  # columns at a time where half of a product is enough
LARGE = 400  # rows from which singular values are worth a way around them


@dataclass(frozen=True, slots=True, eq=False)
class FeatureStatistics:
    """Count, mean and centred scatter of feature rows, in float64; merging two of them is exact up to rounding.

    n: rows seen;  mean: [D];  packed: [D (D + 1) / 2] lower triangle of sum (x - mean)(x - mean)^T. The centred form (Chan, Golub
    and LeVeque 1983) does not cancel, as sum and sum of squares would where the mean is large against the spread.
    """

    n: int
    mean: Array
    packed: torch.Tensor

    @classmethod
    def of(cls, features: npt.ArrayLike) -> FeatureStatistics:
        """Statistics of one batch [N, D], N >= 1."""
        x = np.asarray(features, dtype=np.float64)
        if x.ndim != 2 or len(x) == 0:
            raise ValueError(f"features must be [N, D] with N >= 1, got shape {x.shape}")
        refuse_non_numbers(x)
        mean = x.mean(axis=0)
        return cls(len(x), mean, packed_scatter(x - mean))

    def merge(self, other: FeatureStatistics) -> FeatureStatistics:
        """Statistics of the union of two disjoint sets of rows."""
        n = self.n + other.n
        delta = other.mean - self.mean
        between = packed_scatter(delta[None] * np.sqrt(self.n * other.n / n))
        return FeatureStatistics(n, self.mean + delta * (other.n / n), between.add_(self.packed).add_(other.packed))

    def extend(self, features: npt.ArrayLike) -> FeatureStatistics:
        """Statistics of these rows [N, D] too. Takes over the memory of this object, which is not to be used again."""
        x = np.asarray(features, dtype=np.float64)
        refuse_non_numbers(x)
        mean, n = x.mean(axis=0), self.n + len(x)
        delta = mean - self.mean
        between = delta[None] * np.sqrt(self.n * len(x) / n)  # one more row
        self.packed.add_(packed_scatter(np.concatenate([x - mean, between])))
        return FeatureStatistics(n, self.mean + delta * (len(x) / n), self.packed)

    @property
    def covariance(self) -> Array:
        """[D, D] unbiased covariance; needs two rows."""
        if self.n < 2:
            raise ValueError("a covariance needs at least 2 rows")
        return np.asarray(_both_triangles(unpacked(self.packed, self.mean.size)).numpy() / (self.n - 1))


def frechet_distance_of_rows(a: npt.ArrayLike, b: npt.ArrayLike, *, float32_means: bool = False) -> float:
    """The same from the rows themselves, [N_a, D] and [N_b, D], N >= 2; picks the cheaper and better conditioned form.

    float32_means: the means and |mu_a - mu_b|^2 in float32, as DisCo's FID-VID and FVD take them from float32 features with
    np.mean, while np.cov goes over to float64. For numbers that are compared with the literature only.

    With fewer rows than dimensions the covariances are rank-deficient. Then S = X^T X / (N - 1) with centred X, and

        tr (S_a S_b)^(1/2) = || X_a X_b^T ||_nuclear / sqrt((N_a - 1)(N_b - 1))

    which needs only an [N_a, N_b] matrix.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise ValueError(f"need two [N, D] arrays with N >= 2 and one D, got {x.shape} and {y.shape}")
    refuse_non_numbers(x)
    refuse_non_numbers(y)
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    shift = _float32_shift(a, b) if float32_means else float((mean_x - mean_y) @ (mean_x - mean_y))
    x, y = x - mean_x, y - mean_y
    if min(len(x), len(y)) > x.shape[1]:
        cov_x, cov_y = lower_scatter(x).div_(len(x) - 1), lower_scatter(y).div_(len(y) - 1)
        return distance(shift, float(cov_x.trace()), float(cov_y.trace()), trace_root(cov_x, cov_y))
    trace_x, trace_y = float(np.square(x).sum()) / (len(x) - 1), float(np.square(y).sum()) / (len(y) - 1)
    root = nuclear_norm_of_product(x, y) / float(np.sqrt((len(x) - 1) * (len(y) - 1)))
    return distance(shift, trace_x, trace_y, root)


def distance(shift: float, trace_a: float, trace_b: float, root: float) -> float:
    """d from |mu_a - mu_b|^2, the traces, and the trace of the root."""
    # Rounding can leave a tiny negative number for equal inputs; a distance is not negative.
    return max(0.0, shift + trace_a + trace_b - 2.0 * root)


def lower_scatter(centred: Array) -> torch.Tensor:
    """X^T X of X [N, D], as `lower`."""
    import torch

    x = torch.from_numpy(centred)
    scatter = torch.empty(x.shape[1], x.shape[1], dtype=x.dtype)
    for start in range(0, x.shape[1], BLOCK):  # rows of the scatter: by its columns it takes a third longer
        end = start + BLOCK
        torch.matmul(x[:, start:end].T, x[:, :end], out=scatter[start:end, :end])
    return scatter


def packed_scatter(centred: Array) -> torch.Tensor:
    """[D (D + 1) / 2] lower triangle of X^T X, row after row."""
    import torch

    lower = lower_scatter(centred)
    return lower.masked_select(torch.ones_like(lower, dtype=torch.bool).tril_())


def unpacked(packed: torch.Tensor, dimensions: int) -> torch.Tensor:
    """[D, D], as `lower`, from its packed triangle."""
    import torch

    lower = torch.zeros(dimensions, dimensions, dtype=packed.dtype)
    return lower.masked_scatter_(torch.ones_like(lower, dtype=torch.bool).tril_(), packed)


def square_root_rows(lower: torch.Tensor) -> Array:
    """[D, D] rows R with R^T R = the matrix, a positive semi-definite one."""
    import torch

    values, vectors = torch.linalg.eigh(lower, UPLO="L")
    return np.asarray((vectors * values.clip(min=0).sqrt()).T.numpy())


def trace_root(lower_a: torch.Tensor, lower_b: torch.Tensor) -> float:
    """tr (A B)^(1/2) = sum of the roots of the eigenvalues of F^T B F, F F^T = A, of two positive semi-definite matrices."""
    import torch

    factor = cholesky(lower_a)
    if factor is not None:
        product = symmetric_product(factor, lower_b)
    else:  # A is singular: F from its eigenvectors
        root = torch.from_numpy(square_root_rows(lower_a)).T
        product = root.T @ _both_triangles(lower_b) @ root
    return float(torch.linalg.eigvalsh(product, UPLO="L").clip(min=0).sqrt().sum())


def cholesky(lower: torch.Tensor) -> torch.Tensor | None:
    """L, lower triangular, with L L^T = the matrix; None where it is not positive definite."""
    import torch

    factor, failed = torch.linalg.cholesky_ex(lower)
    return None if failed else factor


def symmetric_product(factor: torch.Tensor, lower: torch.Tensor) -> torch.Tensor:
    """L^T B L as `lower`, for a lower triangular factor L and B as `lower`."""
    import torch

    full, columns, product = _both_triangles(lower), torch.empty_like(lower), torch.empty_like(lower)
    parts = [slice(start, start + BLOCK) for start in range(0, len(lower), BLOCK)]
    for part in parts:  # B L; what is zero in L, and what is above the diagonal of the product, is left out
        torch.matmul(full[part.start :, part.start :], factor[part.start :, part], out=columns[part.start :, part])
    for part in parts:
        torch.matmul(factor[part.start :, part].T, columns[part.start :, : part.stop], out=product[part, : part.stop])
    return product


def _both_triangles(lower: torch.Tensor) -> torch.Tensor:
    return lower.tril() + lower.tril(-1).T


def nuclear_norm_of_product(x: Array, y: Array) -> float:
    """|| X Y^T ||_nuclear, X [N, D], Y [M, D], the smaller of N and M (of two equal ones X) of centred rows and not over D."""
    import torch

    few, many = sorted((torch.from_numpy(x), torch.from_numpy(y)), key=len)
    if len(many) > many.shape[1]:  # the norm depends on Y^T Y alone: D rows with the same
        many = torch.from_numpy(square_root_rows(lower_scatter(many.numpy())))
    product = few @ many.T
    norm = _sum_of_singular_values_by_gram(product) if len(few) >= LARGE else None
    return float(torch.linalg.svdvals(product).sum()) if norm is None else norm


def _sum_of_singular_values_by_gram(matrix: torch.Tensor) -> float | None:
    """The sum from the roots of the eigenvalues of M M^T, in half the time; None where squaring could cost more than 1e-9 of it.

    matrix: [N, M], N <= M, whose columns add up to nothing, as those of centred rows do; that one zero is taken out first.
    """
    import torch

    n = len(matrix)
    rows = matrix[:-1] - matrix[-1] * ((n**0.5 - 1) / (n - 1))  # n - 1 rows R with R^T R = M^T M
    squares = torch.linalg.eigvalsh(lower_scatter(rows.T.numpy()), UPLO="L").clip(min=0)
    noise = n**0.5 * torch.finfo(squares.dtype).eps * squares[-1]  # rounding of sums of n terms, as it behaves
    values = squares.sqrt()
    lost = squares < noise  # their roots are all too large, by up to that of the noise; others err to both sides
    wrong_by = lost.sum() * noise.sqrt() + (noise / (2 * values[~lost])).square().sum().sqrt()
    return float(values.sum()) if float(wrong_by) <= 1e-9 * float(values.sum()) else None


def _float32_shift(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """|mu_a - mu_b|^2 of float32 features, every step in float32 (np.mean of [N, D] float32 adds row after row)."""
    shift = np.ascontiguousarray(a, dtype=np.float32).mean(axis=0) - np.ascontiguousarray(b, dtype=np.float32).mean(axis=0)
    return float(shift.dot(shift))


def refuse_non_numbers(x: Array) -> None:
    if not np.isfinite(x).all():
        raise ValueError("features hold NaN or infinity; a distance of them means nothing")
