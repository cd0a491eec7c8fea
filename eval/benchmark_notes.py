"""What a row of the benchmark says of missing clips, and a row without a number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def missing_note(codes: Mapping[str, int], clips: int) -> list[str]:
    """One line, or none where nothing is missing. codes: reason -> clips;  clips: of the split."""
    missing = {code: number for code, number in codes.items() if number}
    detail = ", ".join(f"{code}: {number}" for code, number in sorted(missing.items()))
    return [f"{sum(missing.values())} of {clips} clips missing ({detail})"] if missing else []


def truth_note(by_truth: int, clips: int) -> list[str]:
    """One line where the place of a region was not found by a network. by_truth: clips of which `truth` said where it is;  clips: of the split."""
    return [f"region from truth in {by_truth} of {clips} clips, not found by a network"] if by_truth else []


def no_value(notes: Sequence[str]) -> dict[str, Any]:
    """value, low, high, clips, frames, windows, note of a metric that has no value."""
    return {"value": None, "low": None, "high": None, "clips": 0, "frames": None, "windows": None, "note": "; ".join(notes)}
