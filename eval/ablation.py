"""Ablation tables: the variants of one method against its base variant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from eval.method_names import FLOORS, LONGER, method_title
from eval.metric_text import shown
from eval.metrics import METRICS
from eval.table import Cell, Line, Section, benchmark_table
from eval.verdicts import MAIN

Rows = Sequence[Mapping[str, Any]]


def ablation_tables(rows: Rows) -> tuple[Section, ...]:
    """One section per method of which there are several variants; rows of `benchmark`, one protocol, data set and split.

    The base of `paper-no_pose_guider` is `paper`; of a variant without such a name, the one with the shortest name. Bases come before
    their variants; a checkpoint that was only trained longer is none. Under a value stands its difference to the base with the same seed,
    where the interval stands in other tables.
    Columns: the main group.
    """
    ablated = [row for row in rows if row["method"] not in FLOORS and row["variant"] != LONGER]
    methods = dict.fromkeys(row["method"] for row in ablated)
    found = (_section([row for row in ablated if row["method"] == method]) for method in methods)
    return tuple(section for section in found if section is not None)


def _section(rows: Rows) -> Section | None:
    variants = sorted({row["variant"] or "" for row in rows}, key=lambda name: (len(name), name))
    main = [row for row in rows if row["metric"] in METRICS and METRICS[row["metric"]].group == MAIN]
    if len(variants) < 2 or not main:
        return None
    bases = {variant: _base_of(variant, variants) for variant in variants}
    order = sorted(variants, key=lambda name: (variants.index(bases[name]), variants.index(name)))
    values = {(row["variant"] or "", row["seed"], row["metric"]): row["value"] for row in main}
    places = {row["prediction_id"]: (row["variant"] or "", row["seed"]) for row in main}
    table = benchmark_table(main)
    lines = sorted(table.lines, key=lambda line: (order.index(places[line.prediction_id][0]), places[line.prediction_id][1]))
    made = tuple(
        _line(line, [m.id for m in table.columns], place, bases[place[0]], values)
        for line in lines
        for place in [places[line.prediction_id]]
    )
    named = dict.fromkeys(bases[variant] or "the variant without a name" for variant in order)
    title = f"Ablation of {method_title(rows[0])}; small: the difference to {' or '.join(named)}"
    return Section(title=title, columns=table.columns, lines=made, notes=tuple(_alone(places.values(), bases)))


def _base_of(variant: str, variants: Sequence[str]) -> str:
    """`demo` of `demo-no_temporal` where it is there; a variant that others are named after is its own; else the shortest name."""
    before = variant.partition("-")[0]
    if before != variant and before in variants:
        return before
    return variant if any(other.startswith(f"{variant}-") for other in variants) else variants[0]


def _alone(places: Iterable[tuple[str, int]], bases: Mapping[str, str]) -> list[str]:
    """Variants that nothing can be subtracted from, because their base was not made with their seed."""
    there = dict.fromkeys(places)
    missing = [(bases[variant], f"{variant} (seed {seed})") for variant, seed in there if (bases[variant], seed) not in there]
    return [f"No difference is given for {', '.join(name for held, name in missing if held == base)}: {base or 'the base'} was not made with that seed."
            for base in dict.fromkeys(base for base, _ in missing)]  # fmt: skip


def _line(
    line: Line, metrics: Sequence[str], place: tuple[str, int], base: str, values: Mapping[tuple[str, int, str], float | None]
) -> Line:
    variant, seed = place
    cells = [_cell(cell, metric, values.get((variant, seed, metric)), None if variant == base else values.get((base, seed, metric)))
             for cell, metric in zip(line.cells, metrics, strict=True)]  # fmt: skip
    return replace(line, cells=tuple(cells))


def _cell(cell: Cell, metric: str, value: float | None, base: float | None) -> Cell:
    return replace(cell, interval="" if value is None or base is None else shown(METRICS[metric], value - base, sign=True))
