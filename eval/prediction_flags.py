"""What the clips of a method say of themselves: lost something in a lossy file, or made with something measured on the truth."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from eval.strips import Predictions
from eval.table import BenchmarkTable

Rows = Sequence[Mapping[str, Any]]


def said_of_clips(rows: Rows) -> str:
    """One method's clips in a few words. rows: of `predictions`."""
    usable = [row for row in rows if row["status"] == "ok"]
    lossy, sharp = (sum(bool(row[name]) for row in usable) for name in ("lossy", "truth_sharpness"))
    texts = ["lossless" if not lossy else "lossy" if lossy == len(usable) else f"{lossy} of {len(usable)} lossy"]
    texts += [f"{sharp} of {len(usable)} with the truth's sharpness"] if sharp else []
    refused = len(rows) - len(usable)
    return ", ".join([*(texts if usable else []), *([f"{refused} not usable"] if refused else [])]) or "none"


def handicaps(table: BenchmarkTable, predictions: Predictions) -> list[str]:
    """Sentences for methods whose numbers hold more than the method: a codec, or knowledge of the truth.

    That a file is lossy is no difference where every method's is.
    """
    rows = {line.prediction_id: [row for row in predictions[line.prediction_id].values() if row["status"] == "ok"] for line in table.lines}
    names = _names(table)
    lossy = [name for key, name in names.items() if any(row["lossy"] for row in rows[key])]
    sharp = [name for key, name in names.items() if any(row["truth_sharpness"] for row in rows[key])]
    texts = []
    if lossy and len(lossy) < len(names):
        texts.append(f"{', '.join(lossy)}: clips came as lossy files, so their numbers hold what compression took.")
    if sharp:
        given = "something of the true clip (its sharpness, or its frames as the motion to follow)"
        texts.append(f"{', '.join(sharp)}: the method was given {given}, which a method that only sees poses is not.")
    return texts


def departures(table: BenchmarkTable, predictions: Predictions) -> list[str]:
    """Sentences that name what methods have and their papers have not, as their predictions' sampler says; methods with the same in one."""
    named: dict[tuple[str, ...], list[str]] = {}
    for prediction_id, name in _names(table).items():
        row = next(iter(predictions[prediction_id].values()), {})
        try:
            sampler = json.loads(row.get("sampler") or "{}")
        except json.JSONDecodeError:  # another lab's words
            continue
        if isinstance(sampler, dict) and (additions := sampler.get("additions")):
            named.setdefault(tuple(additions), []).append(name)
    return [f"{', '.join(names)}: beside what the paper says, this has {', '.join(additions)}." for additions, names in named.items()]


def _names(table: BenchmarkTable) -> dict[str, str]:
    """prediction id -> method and variant."""
    return {line.prediction_id: f"{line.title} ({line.detail})" if line.detail else line.title for line in table.lines}
