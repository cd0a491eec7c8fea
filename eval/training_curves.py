"""The loss curves of the stages behind some predictions, and the loss by noise level, as the training log has them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc
from markupsafe import Markup

from eval.chart import frame_curve, loss_curve
from eval.method_names import method_title
from pipelines.lake import Lake


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """One stage. `variants`: all that build on it, because variants share the stages in which they do not differ.

    noise: the training loss per noise level, the lowest first, in the last third of the run (thin: in the first); None where the log has none.
    """

    title: str
    variants: str
    svg: Markup
    noise: Markup | None
    steps: int | None
    seconds: float | None


def stage_curves(lake: Lake, used: Iterable[tuple[str, str]]) -> list[Curve]:
    """One chart per training stage behind (checkpoint id, variant), parents first, each stage once."""
    curves = []
    for row, variants in checkpoint_chain(lake, used):
        log = lake.rows("training_log", pc.field("checkpoint_id") == row["checkpoint_id"])
        if any(entry["loss"] is not None for entry in log):
            title = f"{method_title(row)} · {row['stage']} · seed {row['seed']}"
            svg, noise = Markup(loss_curve(log)), noise_curve([json.loads(entry["by_noise"]) for entry in log if entry["by_noise"]])
            curves.append(
                Curve(title=title, variants=", ".join(variants), svg=svg, noise=noise, steps=row["steps"], seconds=row["seconds"])
            )
    return curves


def noise_curve(notes: Sequence[Mapping[str, Sequence[float]]]) -> Markup | None:
    """SVG of the mean loss per bin of the noise level. notes: bin -> (sum, count), in the order of the steps; None for fewer than three."""
    if len(notes) < 3:
        return None
    bins = sorted({name for note in notes for name in note}, key=_start)
    third = len(notes) // 3
    first, last = (_means(part, bins) for part in (notes[:third], notes[-third:]))
    if all(value is None for value in last):
        return None
    return frame_curve(last, [first], lambda value: f"{value:.3g}", over="noise level")


def _start(name: str) -> float:
    """Where a bin begins: 100 of "100-199", -0.5 of "-0.50..0.25"."""
    found = re.match(r"-?\d+(\.\d+)?", name)
    return float(found.group()) if found else 0.0


def _means(notes: Sequence[Mapping[str, Sequence[float]]], bins: Sequence[str]) -> list[float | None]:
    """Sums over counts, divided once."""
    totals = [[sum(note[name][part] for note in notes if name in note) for part in (0, 1)] for name in bins]
    return [total / count if count else None for total, count in totals]


def checkpoint_chain(lake: Lake, used: Iterable[tuple[str, str]]) -> list[tuple[dict[str, Any], list[str]]]:
    """(row of `checkpoints`, variants that build on it), each after its parents."""
    known = {row["checkpoint_id"]: row for row in lake.rows("checkpoints")}
    variants: dict[str, list[str]] = {}
    for checkpoint_id, variant in used:
        for row in checkpoint_line(known, checkpoint_id):
            held = variants.setdefault(row["checkpoint_id"], [])
            held += [variant] if variant not in held else []
    return [(known[checkpoint_id], names) for checkpoint_id, names in variants.items()]


def checkpoint_line(known: Mapping[str, dict[str, Any]], checkpoint_id: str) -> list[dict[str, Any]]:
    """A checkpoint's row behind those of its parents; nothing for an id that is not among `known` (checkpoint id -> row of `checkpoints`)."""
    line: list[dict[str, Any]] = []
    current = known.get(checkpoint_id)
    while current is not None and current not in line:
        line.append(current)
        current = known.get(current["parent"])
    return line[::-1]
