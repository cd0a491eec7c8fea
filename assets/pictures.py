"""Pictures for the page of a run."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pyarrow as pa

_COLUMNS = 4


def histograms(rows: pa.Table, names: Sequence[str]) -> bytes:
    """A PNG with one histogram per column; nulls are counted in its title."""
    from matplotlib.figure import Figure

    lines = -(-len(names) // _COLUMNS)
    figure = Figure(figsize=(3 * _COLUMNS, 1.9 * lines), layout="constrained")
    axes = figure.subplots(lines, _COLUMNS, squeeze=False).ravel()
    for axis, name in zip(axes, names, strict=False):
        values = [value for value in rows[name].to_pylist() if value is not None]
        missing = rows.num_rows - len(values)
        axis.hist(values, bins=24, color="#3f5fe0")
        axis.set_title(name + (f" ({missing} not measured)" if missing else ""), fontsize=9)
        axis.tick_params(labelsize=7)
    for axis in axes[len(names) :]:
        axis.set_axis_off()
    sink = io.BytesIO()
    figure.savefig(sink, format="png", dpi=80)
    return sink.getvalue()
