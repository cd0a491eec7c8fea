"""The cells of the papers' tables: the text as printed, and what `published` says of it."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from eval.published import PUBLISHED_CSV, published_rows


@dataclass(frozen=True, kw_only=True, slots=True)
class Printed:
    """A cell: the text as the paper prints it, and what `published` says of it."""

    text: str
    row: Mapping[str, Any]


@cache
def printed_cells(path: Path = PUBLISHED_CSV) -> tuple[Printed, ...]:
    """Every cell of the papers' tables in their order."""
    with path.open(newline="", encoding="utf-8") as stream:
        texts = [row["value"] for row in csv.DictReader(stream)]
    return tuple(Printed(text=text, row=row) for text, row in zip(texts, published_rows(path), strict=True))
