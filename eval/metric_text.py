"""How a metric and its values are written."""

from __future__ import annotations

from eval.metrics.metric import Metric

SMALL = 1e-3  # below it, decimals hide the number (DisCo's L1 is about 3e-4)


def heading(metric: Metric) -> str:
    """Column head with the direction: PSNR ↑."""
    return f"{metric.title} {'↑' if metric.better == 'up' else '↓'}"


def shown(metric: Metric, value: float, *, like: float | None = None, sign: bool = False) -> str:
    """A value with the metric's decimals, a small one as 2.93E-04. like: the value whose notation to use; sign: + too.

    A Frechet distance of equal sets is rounding noise, so small ones stay decimals.
    """
    small = metric.kind != "set" and 0 < abs(value if like is None else like) < SMALL
    return f"{value:{'+' if sign else ''}{'.2E' if small else f'.{metric.digits}f'}}"
