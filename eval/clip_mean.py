"""The value of a column whose numbers are sums per clip: all sums over all frames, with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from eval.benchmark_notes import no_value
from eval.uncertainty import FEW_CLIPS, bootstrap_ratio


def mean_over_frames(rows: Sequence[Mapping[str, Any]], notes: Sequence[str]) -> dict[str, Any]:
    """value, low, high, clips, frames, windows, note. rows: of `scores` with a number; notes: what is said already."""
    good = [row for row in rows if row["count"]]
    frames = sum(row["count"] for row in good)
    if not frames:
        return no_value([*notes, "no frame has a score"])
    interval = bootstrap_ratio([row["sum"] for row in good], [row["count"] for row in good])
    said = list(notes)
    if interval is None:
        said.append("no interval: one clip says nothing about other clips")
    elif len(good) < FEW_CLIPS:
        said.append(f"rough interval: {len(good)} clips only")
    low, high = interval or (None, None)
    return {
        "value": math.fsum(row["sum"] for row in good) / frames,
        "low": low,
        "high": high,
        "clips": len(good),
        "frames": frames,
        "windows": None,
        "note": "; ".join(said) or None,
    }
