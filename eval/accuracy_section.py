"""How right the extractors behind a report are, beside the scores that rest on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from eval.extractor_accuracy import ACCURACIES, PROTOCOL
from pipelines.lake import Lake


@dataclass(frozen=True, kw_only=True, slots=True)
class AccuracyRow:
    """One extractor in one column, as text."""

    extractor: str
    what: str
    value: str
    interval: str  # "" where there is none
    unit: str
    better: str  # "higher" or "lower"
    note: str


def accuracy_rows(lake: Lake, dataset: str, split: str) -> list[AccuracyRow]:
    """Rows of `benchmark` under the protocol `extractor_accuracy` with the same data set and split; extractors by name, columns in their order."""
    where = (pc.field("protocol") == PROTOCOL) & (pc.field("dataset") == dataset) & (pc.field("split") == split)
    order = list(ACCURACIES)
    rows = [row for row in lake.rows("benchmark", where) if row["value"] is not None and row["metric"] in ACCURACIES]
    return [_row(row) for row in sorted(rows, key=lambda row: (row["method"], order.index(row["metric"])))]


def _row(row: Mapping[str, Any]) -> AccuracyRow:
    kind = ACCURACIES[row["metric"]]
    interval = "" if row["low"] is None else f"{row['low']:.3g} – {row['high']:.3g}"
    return AccuracyRow(
        extractor=row["method"],
        what=kind.title,
        value=f"{row['value']:.3g}",
        interval=interval,
        unit=kind.unit,
        better=kind.better,
        note=row["note"] or "",
    )
