"""Curves as inline SVG that follows the page's colours: losses over steps, a metric over the frames of a clip, a number over time."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape
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


_WIDTH, _HEIGHT, _LEFT, _PAD = 360.0, 92.0, 58.0, 8.0  # of a small curve, in its own units
Values = Sequence[float | None]


def frame_curve(values: Values, others: Sequence[Values], text: Callable[[float], str], *, over: str = "frame") -> Markup:
    """SVG of a metric over the frames of a clip; a frame without a value leaves a gap. The range is that of
    `values`. others: drawn thin behind it where they are in that range.

    text: how a value is written at the axis. over: what the values are counted in. Raises ValueError where no value is.
    """
    there = [value for value in values if value is not None]
    if not there:
        raise ValueError("the curve has no value")
    low, high, last = min(there), max(there), max(1, len(values) - 1)
    width, height = _WIDTH - _LEFT - _PAD, _HEIGHT - 20 - _PAD

    def place(index: int, value: float) -> str:
        share = (value - low) / (high - low) if high > low else 0.5
        return f"{width * index / last:.1f},{2 + (height - 4) * (1 - share):.1f}"

    thin = "".join(_paths(line[: len(values)], place, 'stroke="currentColor" stroke-opacity=".35"') for line in others)
    thick = _paths(values, place, f'stroke="{_ACCENT}" stroke-width="1.8"')
    marks = [(_LEFT - 6, _PAD + 6, "end", text(high)), (_LEFT - 6, _PAD + height, "end", text(low) if high > low else ""),
             (_LEFT, _HEIGHT - 5, "start", f"{over} 0"), (_WIDTH - _PAD, _HEIGHT - 5, "end", f"{last}")]  # fmt: skip
    words = "".join(f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{side}">{escape(word)}</text>' for x, y, side, word in marks)
    return Markup(
        f'<svg class="frames" viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" role="img" aria-label="value over {escape(over)}s">'
        f'<path d="M{_LEFT},{_PAD}v{height}h{width}" fill="none" stroke="currentColor" stroke-opacity=".25"/>'
        f'<svg x="{_LEFT}" y="{_PAD}" width="{width}" height="{height}">{thin}</svg>'  # an inner svg cuts off what is outside it
        f'<g transform="translate({_LEFT} {_PAD})">{thick}</g><g>{words}</g></svg>'
    )


def _paths(values: Values, place: Callable[[int, float], str], stroke: str) -> str:
    """Polylines between gaps; a value alone between two gaps is a dot."""
    runs: list[list[str]] = [[]]
    for index, value in enumerate(values):
        if value is None:
            runs.append([])
        else:
            runs[-1].append(place(index, value))
    lines = "".join(f'<polyline points="{" ".join(run)}" fill="none" stroke-linejoin="round" {stroke}/>' for run in runs if len(run) > 1)
    alone = [run[0].split(",") for run in runs if len(run) == 1]
    return lines + "".join(f'<circle cx="{x}" cy="{y}" r="1.6" fill="none" {stroke}/>' for x, y in alone)
