"""Loss curves as inline SVG that follows the page's colours."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_INK = "#010203"  # replaced by the colour of the surrounding text
_ACCENT, _SECOND = "#5b7cfa", "#e0803f"  # legible on light and on dark
_STYLE = {"svg.fonttype": "none", "svg.hashsalt": "rotoscope", "font.family": "sans-serif", "font.size": 9.0,
          "text.color": _INK, "axes.labelcolor": _INK, "xtick.color": _INK, "ytick.color": _INK, "axes.edgecolor": _INK}  # fmt: skip


def loss_curve(log: Sequence[Mapping[str, Any]]) -> str:
    """SVG of `loss` (thin: each step, thick: moving mean) and `probe_loss` over `step`; rows of `training_log`, one stage."""
    rows = sorted((row for row in log if row["loss"] is not None), key=lambda row: row["step"])
    if not rows:
        raise ValueError("no row of the training log has a loss")
    with rc_context(_STYLE):
        figure = Figure(figsize=(5.2, 2.7), layout="constrained")
        axes = figure.add_subplot()
        _draw(axes, rows)
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    return _inline(text.getvalue())


def _draw(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    steps, losses = np.array([row["step"] for row in rows]), np.array([row["loss"] for row in rows], dtype=np.float64)
    axes.plot(steps, losses, color=_ACCENT, alpha=0.3, linewidth=0.8)
    axes.plot(steps, _moving_mean(losses), color=_ACCENT, linewidth=1.8, label="loss (moving mean)")
    probes = [(row["step"], row["probe_loss"]) for row in rows if row.get("probe_loss") is not None]
    if probes:
        axes.plot(
            *zip(*probes, strict=True),
            color=_SECOND,
            linewidth=1.4,
            marker="o",
            markersize=3,
            label="probe loss (fixed noise and timesteps)",
        )
    positive = losses[losses > 0]
    if len(positive) == len(losses) and positive.max() > 20 * positive.min():
        axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=_INK, alpha=0.12, linewidth=0.6)
    axes.legend(frameon=False, fontsize=8, loc="upper right")


def _moving_mean(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Mean over the last twentieth of the steps, of what there is at the start."""
    width = max(1, len(values) // 20)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    last = np.arange(1, len(values) + 1)
    first = np.maximum(0, last - width)
    return np.asarray((sums[last] - sums[first]) / (last - first))


def _inline(svg: str) -> str:
    """Only the <svg> element, without metadata and namespaces (which HTML does not need), in the page's colours."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", body).replace("xlink:href", "href")
    body = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", body, count=1), count=1)
    return body.replace(_INK, "currentColor")


def loss_curve_png(log: Sequence[Mapping[str, Any]]) -> bytes:
    """The same as a PNG, for pages that take no SVG."""
    rows = sorted((row for row in log if row["loss"] is not None), key=lambda row: row["step"])
    with rc_context({**_STYLE, "text.color": "#333333", "axes.labelcolor": "#333333", "xtick.color": "#333333", "ytick.color": "#333333"}):
        figure = Figure(figsize=(5.2, 2.7), layout="constrained")
        _draw(figure.add_subplot(), rows)
        image = io.BytesIO()
        figure.savefig(image, format="png", dpi=110, facecolor="white")
    return image.getvalue()
