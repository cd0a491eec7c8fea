"""C5: the Frechet distance of two sets of features, against clean-fid's function and torchmetrics', from the same rows.

Beside it the distance alone, from means and covariances that are there already; and the bound: the ratio that ours would have if it
were over after the product that it begins with (X Y^T up to D rows, above it X^T X and Y^T Y), in float64 by the faster of PyTorch and
NumPy. Where the bound is under the gate, no way that forms this product reaches the gate on the machine.

python -m benchmarks.c5_frechet [--rows 200 500 1000 2000 2500 5000 10000] [--dimensions 2048] [--rounds 3]
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from benchmarks.side_by_side import alternate, report
from eval.frechet import distance, frechet_distance_of_rows, lower_scatter, trace_root

Rows = npt.NDArray[np.float64]
REST = 0.1  # seconds; ours computes with PyTorch, clean-fid with SciPy


def features(rows: int, dimensions: int, seed: int) -> Rows:
    """Correlated, not centred, with a spectrum that falls as that of network features does."""
    rng = np.random.default_rng(seed)
    scale = np.arange(1, dimensions + 1) ** -0.5
    mixed = rng.normal(size=(rows, dimensions)) * scale
    return np.abs(mixed @ np.linalg.qr(np.random.default_rng(9).normal(size=(dimensions, dimensions)))[0]) + 0.1 * seed


def by_clean_fid(a: Rows, b: Rows) -> float:
    """Means, covariances and clean-fid's own distance (SciPy's matrix root)."""
    from cleanfid.fid import frechet_distance

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(frechet_distance(a.mean(0), np.cov(a, rowvar=False), b.mean(0), np.cov(b, rowvar=False)))


def by_torchmetrics(a: Rows, b: Rows) -> float:
    """Its function of means and covariances (eigenvalues of the product), in float64."""
    import torch
    from torchmetrics.image.fid import _compute_fid

    parts = [torch.from_numpy(part) for x in (a, b) for part in (x.mean(0), np.cov(x, rowvar=False))]
    return float(_compute_fid(*parts))


def first_product(a: Rows, b: Rows) -> dict[str, Callable[[], object]]:
    """The product of centred rows that `frechet_distance_of_rows` begins with, by each library."""
    import torch

    x, y = a - a.mean(0), b - b.mean(0)
    if min(len(a), len(b)) > a.shape[1]:
        return {"product_torch": lambda: (lower_scatter(x), lower_scatter(y)), "product_numpy": lambda: (x.T @ x, y.T @ y)}
    return {"product_torch": lambda: torch.from_numpy(x) @ torch.from_numpy(y).T, "product_numpy": lambda: x @ y.T}


def from_statistics(a: Rows, b: Rows, rounds: int) -> None:
    """Only the distance: both sides are given what they compute it from."""
    from cleanfid.fid import frechet_distance

    means = [x.mean(0) for x in (a, b)]
    full = [np.cov(x, rowvar=False) for x in (a, b)]
    lower = [lower_scatter(x - x.mean(0)).div_(len(x) - 1) for x in (a, b)]

    def ours() -> float:
        shift = means[0] - means[1]
        return distance(float(shift @ shift), float(lower[0].trace()), float(lower[1].trace()), trace_root(*lower))

    def peer() -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return float(frechet_distance(means[0], full[0], means[1], full[1]))

    off = abs(ours() - peer()) / peer()
    assert off < 1e-6, off
    seconds = alternate({"ours": ours, "clean_fid": peer}, rounds, rest=REST)
    ratios = {"clean_fid": (seconds["clean_fid"] / seconds["ours"], 10.0)}
    report(f"C5 from statistics D={a.shape[1]}", seconds, ratios, f"relative difference {off:.1e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[200, 500, 1000, 2000, 2500, 5000, 10000])
    parser.add_argument("--dimensions", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for rows in options.rows:
        a, b = features(rows, options.dimensions, 0), features(rows, options.dimensions, 1)
        ours, peer = frechet_distance_of_rows(a, b), by_clean_fid(a, b)
        off = abs(ours - peer) / peer
        assert off < (1e-6 if rows > options.dimensions else 1e-3), (ours, peer)  # a rank-deficient root is only so good
        seconds = alternate(
            {"ours": lambda a=a, b=b: frechet_distance_of_rows(a, b), "clean_fid": lambda a=a, b=b: by_clean_fid(a, b),
             "torchmetrics": lambda a=a, b=b: by_torchmetrics(a, b), **first_product(a, b)}, options.rounds, rest=REST,
        )  # fmt: skip
        gate = 10.0 if rows > options.dimensions else 100.0
        ratios = {
            "clean_fid": (seconds["clean_fid"] / seconds["ours"], gate),
            "torchmetrics": (seconds["torchmetrics"] / seconds["ours"], None),
            "bound": (seconds["clean_fid"] / min(seconds["product_torch"], seconds["product_numpy"]), None),
        }
        report(f"C5 N={rows} D={options.dimensions}", seconds, ratios, f"relative difference {off:.1e}")
        if rows == max(options.rows) and rows > options.dimensions:
            from_statistics(a, b, options.rounds)


if __name__ == "__main__":
    main()
