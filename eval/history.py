"""The history of a number: a row whenever a value, or what it was made from, changed, saying what did."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from eval.metrics import METRICS
from pipelines.lake import Lake
from pipelines.tables import one_of

_PARTS = ("predictions", "truth", "network")


def write_history(lake: Lake, rows: Sequence[Mapping[str, Any]], *, run_id: str, lineage: Mapping[str, Any] | None) -> None:
    """Append to `history`. rows: benchmark rows with `inputs` = {predictions, truth, network}, anything JSON can hold."""
    latest = _latest(lake, [row["prediction_id"] for row in rows])
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    changed = []
    for row in rows:
        key = tuple(row[name] for name in ("protocol", "split", "prediction_id", "metric"))
        text = what_changed(latest.get(key), row)
        if text is not None:
            named = {name: row[name] for name in ("protocol", "split", "prediction_id", "metric", "value")}
            changed.append({**named, "time": now, "run_id": run_id, "what_changed": text})
    lake.write("history", changed, lineage)


def _latest(lake: Lake, prediction_ids: Sequence[str]) -> dict[tuple[str, ...], dict[str, Any]]:
    latest: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in lake.rows("history", one_of("prediction_id", set(prediction_ids))):  # sorted by key, so by time
        latest[tuple(row[name] for name in ("protocol", "split", "prediction_id", "metric"))] = row
    return latest


def what_changed(previous: Mapping[str, Any] | None, row: Mapping[str, Any]) -> str | None:
    """None when neither the value nor its inputs changed.

    The text ends with short digests of the inputs, "[predictions 1a2b3c4d, truth ..., network ...]", which the next
    comparison reads: it is how a change of the number is told from a change of what it was made from.
    """
    digests = {part: _short(row["inputs"][part]) for part in _PARTS}
    mark = "[" + ", ".join(f"{part} {digest}" for part, digest in digests.items()) + "]"
    if previous is None:
        return f"first value {mark}"
    before = dict(re.findall(r"(\w+) ([0-9a-f]{8})\b", previous["what_changed"]))
    moved = [part for part in _PARTS if before.get(part) != digests[part]]
    if moved:
        return f"{_values(previous['value'], row)}: {' and '.join(moved)} changed {mark}"
    if _same(previous["value"], row["value"], METRICS[row["metric"]].tolerance):
        return None
    return f"{_values(previous['value'], row)} although predictions, truth and network are the same {mark}"


def _same(before: float | None, after: float | None, tolerance: float) -> bool:
    if before is None or after is None:
        return before is after
    return abs(before - after) <= tolerance * max(1.0, abs(before))


def _values(before: float | None, row: Mapping[str, Any]) -> str:
    digits = METRICS[row["metric"]].digits + 2
    shown = ["none" if value is None else f"{value:.{digits}f}" for value in (before, row["value"])]
    return "value unchanged" if shown[0] == shown[1] else f"{shown[0]} -> {shown[1]}"


def _short(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]
