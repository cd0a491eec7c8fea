"""What became of a data set's links: counts by availability, as a Markdown table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

AVAILABILITIES: tuple[str, ...] = ("ok", "private", "removed", "region", "age", "other")


def availability_counts(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """split -> availability -> rows of `videos` that came from the web (those with a source_url)."""
    counts: dict[str, Counter[str]] = {}
    for row in rows:
        if row.get("source_url"):
            counts.setdefault(row.get("split") or "all", Counter())[row.get("availability") or "other"] += 1
    return {split: {name: found[name] for name in AVAILABILITIES} for split, found in sorted(counts.items())}


def availability_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: one line per split, one column per availability, and the share that is there."""
    lines = [f"| split | {' | '.join(AVAILABILITIES)} | share ok |", f"|---|{'---:|' * (len(AVAILABILITIES) + 1)}"]
    for split, counts in availability_counts(rows).items():
        total = sum(counts.values())
        plain = split.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
        lines.append(f"| {plain} | {' | '.join(str(counts[name]) for name in AVAILABILITIES)} | {counts['ok'] / total:.1%} |")
    return "\n".join(lines) + "\n"
