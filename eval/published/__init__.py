"""The papers' own numbers: every cell of every table of the five papers, as printed, with ids, corrections and notes."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.errors import UserError
from pipelines.lake import Lake

PUBLISHED_CSV = Path(__file__).with_name("published_results.csv")
_NUMBERS = ("value", "scale", "corrected_value")


def published_rows(path: Path = PUBLISHED_CSV) -> list[dict[str, Any]]:
    """Rows of the `published` table. Raises UserError, which names the line, for a cell that is no number."""
    with path.open(newline="", encoding="utf-8") as stream:
        return [_row(path, number, row) for number, row in enumerate(csv.DictReader(stream), start=2)]


def _row(path: Path, line: int, row: Mapping[str, str]) -> dict[str, Any]:
    """`value` is the number as printed; its unit sign (5.4G, 95.6%) is in the metric's id and the note."""
    try:
        numbers = {name: float(row[name].rstrip("G%")) if row[name] else None for name in _NUMBERS}
    except ValueError:
        raise UserError(f"{path}, line {line}: {', '.join(_NUMBERS)} must be numbers or empty, not {dict(row)}") from None
    percent = "; printed in percent" if row["value"].endswith("%") else ""
    return {**row, **numbers, "note": row["note"] + percent}


def load_published(lake: Lake, lineage: Mapping[str, Any] | None = None) -> int:
    """Write the `published` table; returns its version."""
    return lake.write("published", published_rows(), lineage)
