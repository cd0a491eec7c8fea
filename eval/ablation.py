"""Ablation tables: the variants of one method against its base variant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from eval.method_names import FLOOR, method_title
from eval.metric_text import shown
from eval.metrics import METRICS
from eval.table import Cell, Line, Section, benchmark_table
from eval.verdicts import MAIN

Rows = Sequence[Mapping[str, Any]]


def ablation_tables(rows: Rows) -> tuple[Section, ...]:
    """One section per method of which there are several variants; rows of `benchmark`, one protocol, data set and split.

    The base is the variant with the shortest name (`paper` before `paper-no_pose_guider`), and comes first. Under a value stands
    its difference to the base with the same seed, where the interval stands in other tables. Columns: the main group.
    """
    methods = dict.fromkeys(row["method"] for row in rows if row["method"] != FLOOR)
    found = (_section([row for row in rows if row["method"] == method]) for method in methods)
    return tuple(section for section in found if section is not None)


def _section(rows: Rows) -> Section | None:
    variants = sorted({row["variant"] or "" for row in rows}, key=lambda name: (len(name), name))
    main = [row for row in rows if row["metric"] in METRICS and METRICS[row["metric"]].group == MAIN]
    if len(variants) < 2 or not main:
        return None
    values = {(row["variant"] or "", row["seed"], row["metric"]): row["value"] for row in main}
    places = {row["prediction_id"]: (row["variant"] or "", row["seed"]) for row in main}
    table = benchmark_table(main)
    lines = sorted(table.lines, key=lambda line: (variants.index(places[line.prediction_id][0]), places[line.prediction_id][1]))
    made = tuple(_line(line, [m.id for m in table.columns], places[line.prediction_id], variants[0], values) for line in lines)
    title = f"Ablation of {method_title(rows[0])}; small: the difference to {variants[0] or 'the variant without a name'}"
    return Section(title=title, columns=table.columns, lines=made, notes=tuple(_alone(places.values(), variants[0])))


def _alone(places: Iterable[tuple[str, int]], base: str) -> list[str]:
    """Variants that nothing can be subtracted from, because the base was not made with their seed."""
    there = dict.fromkeys(places)
    seeds = {seed for variant, seed in there if variant == base}
    missing = [f"{variant} (seed {seed})" for variant, seed in there if variant != base and seed not in seeds]
    return [f"No difference is given for {', '.join(missing)}: {base or 'the base'} was not made with that seed."] if missing else []


def _line(
    line: Line, metrics: Sequence[str], place: tuple[str, int], base: str, values: Mapping[tuple[str, int, str], float | None]
) -> Line:
    variant, seed = place
    cells = [_cell(cell, metric, values.get((variant, seed, metric)), None if variant == base else values.get((base, seed, metric)))
             for cell, metric in zip(line.cells, metrics, strict=True)]  # fmt: skip
    return replace(line, cells=tuple(cells))


def _cell(cell: Cell, metric: str, value: float | None, base: float | None) -> Cell:
    return replace(cell, interval="" if value is None or base is None else shown(METRICS[metric], value - base, sign=True))
