"""The Frechet distance without each group of rows in turn, for the jackknife of `frechet_interval`.

One distance is an eigenvalue problem. Where a group has far fewer rows than there are dimensions, all G come out of one: without
a group the covariances are, up to a factor, A - U^T U and B - V^T V with few rows in U and V. In balanced coordinates (Moore 1981)
A and B are one and the same diagonal matrix, diag(root), root_i^2 = eigenvalue_i of A B. To first order the trace of the root falls
by (|U|^2 + |V|^2) / 2, which is taken exactly; the rest comes from

    x^(1/2) ~ (a0 x + sum_j w_j log(x + t_j)) / 2 + constant                                    with few poles t_j, and
    tr log((A - U^T U)(B - V^T V) + t) - tr log(A B + t) = log det [[I - X, Z], [-Z^T, I - Y]]
    X = U P U^T,  Y = V P V^T,  Z = t^(1/2) U P diag(1 / root) V^T,  P = root / (root^2 + t)

(the matrix determinant lemma for [[A, t^(1/2) I], [-t^(1/2) I, B]]). No eigenvalue rises without the group, so a relative error e
of the derivative, on the range of the eigenvalues, is a relative error of at most e of what the trace falls by. What it really
is, rounding included, is measured in each call at the group that takes most away, whose root is computed by itself too; that
error is nearly the same for every group, and is taken off all of them.

N = samples, D = feature dimensions, G = groups, r = most rows in a group
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from eval.frechet import Array, cholesky, symmetric_product, trace_root
from eval.frechet_groups import LOW_RANK, GroupedRows, Groups

if TYPE_CHECKING:
    import torch

FEWEST_DIMENSIONS = 64  # below it nothing is gained
SHARE_KEPT = 0.1  # of the lowest eigenvalue of A B, taken to be left without a group; a wrong guess shows in the measured error
MOST_POLES = 32


def exact_root(a: Groups, b: Groups, group: int) -> float:
    """tr (A B)^(1/2) of the covariances without this group."""
    return trace_root(a.covariance_without(group), b.covariance_without(group))


@dataclass(frozen=True, eq=False)
class BalancedGroups:
    """Two sets in their balanced coordinates (top of this file).

    root: [D] float64, ascending;  u, v: [G, r, D] float32;  scale: [G] from (A - U^T U, B - V^T V) to the covariances without a group
    """

    a: GroupedRows
    b: GroupedRows
    root: torch.Tensor
    u: torch.Tensor
    v: torch.Tensor
    scale: Array

    @classmethod
    def of(cls, a: Groups, b: Groups) -> BalancedGroups | None:
        """None where groups are too large to gain anything (or too large to be held), or a covariance is singular."""
        import torch

        if not (isinstance(a, GroupedRows) and isinstance(b, GroupedRows)):
            return None
        if a.dimensions < FEWEST_DIMENSIONS or max(a.counts.max(), b.counts.max()) > LOW_RANK * a.dimensions:
            return None
        factor = cholesky(a.covariance)
        if factor is None:
            return None
        eigenvalues, vectors = torch.linalg.eigh(symmetric_product(factor, b.covariance), UPLO="L")
        if float(eigenvalues[0]) <= 1e-15 * len(eigenvalues) * float(eigenvalues[-1]):
            return None
        quarter = eigenvalues.pow(0.25)
        u = a.lost_in(torch.linalg.solve_triangular(factor.T, vectors, upper=True) * quarter)
        v = b.lost_in(factor @ vectors / quarter)
        scale = np.sqrt((a.n - 1) / (a.counts_left - 1) * (b.n - 1) / (b.counts_left - 1))
        return cls(a, b, eigenvalues.sqrt(), u, v, scale)

    @cached_property
    def first_order(self) -> Array:
        """[G] what the trace of the root falls by without each group, to first order."""
        import torch

        of_u, of_v = (lost.square().sum((1, 2), dtype=torch.float64) for lost in (self.u, self.v))
        return np.asarray((of_u + of_v).numpy() / 2)

    @cached_property
    def exact(self) -> tuple[int, float]:
        """(the group that takes most away, tr (A B)^(1/2) without it)."""
        group = int(self.first_order.argmax())
        return group, exact_root(self.a, self.b, group)

    def roots(self, precision: float) -> tuple[float, Array, float] | None:
        """(tr (A B)^(1/2), [G] the same without each group, the error that was measured and taken off); None: no rule is that precise."""
        rule = _inverse_root_rule(SHARE_KEPT * float(self.root[0]) ** 2, float(self.root[-1]) ** 2, precision)
        if rule is None:
            return None
        whole = float(self.root.sum())
        left_out = (whole - self.first_order + _beyond_first_order(self.root, self.u, self.v, *rule)) * self.scale
        group, exact = self.exact
        error = float(left_out[group]) - exact
        return whole, left_out - error, abs(error)


def _beyond_first_order(root: torch.Tensor, u: torch.Tensor, v: torch.Tensor, a0: float, t: Array, w: Array) -> Array:
    """[G] what the first order leaves of the change of the trace; NaN for a group that cannot be had this way."""
    import torch

    total = a0 * (u @ v.mT).square().sum((1, 2), dtype=torch.float64)
    v_over_root, scaled_u, scaled_v = v / root.float(), torch.empty_like(u), torch.empty_like(v)
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:  # factorisations too small for more than one core each
        for pole, weight in zip(t, w, strict=True):
            p = (root / (root.square() + pole)).float()
            torch.mul(u, p, out=scaled_u)
            torch.mul(v, p, out=scaled_v)
            blocks = (scaled_u @ u.mT, scaled_v @ v.mT, float(pole) ** 0.5 * (scaled_u @ v_over_root.mT))
            parts = zip(*(block.double().chunk(torch.get_num_threads()) for block in blocks), strict=True)
            total += weight * torch.cat(list(threads.map(lambda part: _log_determinants(*part), parts)))
    return np.asarray(total.numpy() / 2)


def _log_determinants(x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """[G] log det [[I - X, Z], [-Z^T, I - Y]] + tr X + tr Y, by the Schur complement of I - X; NaN where it is not positive."""
    import torch

    left, failed = torch.linalg.cholesky_ex(torch.eye(x.shape[1], dtype=x.dtype) - x)
    inner = torch.linalg.solve_triangular(left, z, upper=False)
    right, failed_too = torch.linalg.cholesky_ex(torch.eye(y.shape[1], dtype=y.dtype) - y + inner.mT @ inner)
    total = 2 * (_diagonal(left).log().sum(1) + _diagonal(right).log().sum(1)) + _diagonal(x).sum(1) + _diagonal(y).sum(1)
    return total.masked_fill((failed > 0) | (failed_too > 0), float("nan"))


def _diagonal(matrices: torch.Tensor) -> torch.Tensor:
    return matrices.diagonal(dim1=1, dim2=2)


def _inverse_root_rule(low: float, high: float, precision: float) -> tuple[float, Array, Array] | None:
    """(a0, t [n], w [n]) with |x^(1/2) (a0 + sum_j w_j / (x + t_j)) - 1| <= precision on [low, high], fewest poles; None: too many.

    Zolotarev's best rational approximation of the inverse root (van den Eshof et al. 2002, section 4).
    """
    from scipy.special import ellipj, ellipkm1

    points = np.geomspace(low, high, 4000)
    for poles in range(3, MOST_POLES + 1):
        sine, cosine, _, _ = ellipj(np.arange(1, 2 * poles + 1) * ellipkm1(low / high) / (2 * poles + 1), 1 - low / high)
        t, zeros = np.reshape(low * np.square(sine / cosine), (poles, 2)).T
        residues = np.prod((zeros - t[:, None]) / (t - t[:, None] + np.eye(poles)), axis=1)
        # of the product over j of (x + zeros_j) / (x + t_j) = 1 + sum_j residues_j / (x + t_j)
        values = np.sqrt(points) * (1 + (residues / (points[:, None] + t)).sum(axis=1))
        scale = 2 / (values.max() + values.min())
        if values.max() * scale - 1 <= precision:
            return float(scale), t, residues * scale
    return None
