"""The papers' numbers beside ours: only those of the same protocol, data set and split."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eval.grid import Grid
from eval.method_names import TITLES
from eval.metric_text import heading
from eval.metrics import METRICS
from eval.metrics.metric import Metric
from eval.published.cells import Printed, printed_cells
from eval.published.matching import Source, column_scale, impossible, source_of, true_value

MARK = "†"  # beside an impossible value


@dataclass(frozen=True, kw_only=True, slots=True)
class PrintedLine:
    """One row of a paper's table, in the units of our columns."""

    name: str  # of the method, as printed
    where: str  # HFCA, Table 1
    cells: tuple[str, ...]  # – where the paper prints none
    hints: tuple[str, ...]  # per cell: why it is impossible, or what is known of it; "" = nothing
    ablation: bool  # of a table that only varies one method


@dataclass(frozen=True, kw_only=True, slots=True)
class Beside:
    """What stands beside a table; `line` says it in one sentence, also where that is nothing."""

    line: str
    columns: tuple[Metric, ...] = ()
    lines: tuple[PrintedLine, ...] = ()
    doubts: tuple[str, ...] = ()  # per paper, why its numbers may not compare

    @property
    def comparisons(self) -> tuple[PrintedLine, ...]:
        """Rows of tables that compare methods."""
        return tuple(line for line in self.lines if not line.ablation)

    @property
    def ablations(self) -> tuple[PrintedLine, ...]:
        """Rows of tables that vary one method."""
        return tuple(line for line in self.lines if line.ablation)

    def notes(self, lines: Sequence[PrintedLine]) -> tuple[str, ...]:
        """The doubts, and why marked values of these lines are impossible."""
        return (*self.doubts, *_marks(lines, self.columns))

    def grid(self, measured: Sequence[tuple[str, ...]] = (), *, ablations: bool = True) -> Grid | None:
        """The rows as a finished table, and below a line what was measured here (name, a text per column); None where none are."""
        lines = self.lines if ablations else self.comparisons
        if not lines:
            return None
        printed = [(f"{line.name} ({line.where})", *line.cells) for line in lines]
        ours = [(f"{name}, measured here", *cells) for name, *cells in measured]
        return Grid(title=self.line, head=("Method", *(heading(metric) for metric in self.columns)), rows=tuple([*printed, *ours]),
                    notes=self.notes(lines), rule_before=len(printed) if ours else None)  # fmt: skip


def printed_beside(protocol: str, dataset: str, split: str) -> Beside:
    """The printed rows that were made under this protocol on this data set and split, as far as can be known."""
    sources = {key: source_of(*key) for key in dict.fromkeys((c.row["paper"], c.row["table"]) for c in printed_cells())}
    under = {key for key, source in sources.items() if source.protocol == protocol}
    there = [c for c in printed_cells() if (c.row["paper"], c.row["table"]) in under and c.row["dataset_id"] == dataset]
    splits = {key: source.splits.get(dataset, ("",))[0] for key, source in sources.items()}
    cells = [c for c in there if splits[c.row["paper"], c.row["table"]] == split and c.row["metric_id"] in METRICS]
    if cells:
        found = dict.fromkeys((c.row["paper"], c.row["table"]) for c in cells)
        return _beside(cells, dataset, {key: sources[key] for key in found})
    if not under:
        return Beside(line=f"No paper printed numbers under the protocol {protocol}, so none stand beside these.")
    if not there:
        return Beside(line=f"No paper printed numbers on {dataset} under the protocol {protocol}, so none stand beside these.")
    others = ", ".join(sorted({splits[c.row["paper"], c.row["table"]] for c in there} - {""})) or "not known"
    return Beside(line=f"The papers' numbers on {dataset} are of another split ({others}, not {split}), so none stand beside these.")


def _beside(cells: Sequence[Printed], dataset: str, sources: Mapping[tuple[str, str], Source]) -> Beside:
    columns = tuple(metric for metric in METRICS.values() if any(c.row["metric_id"] == metric.id for c in cells))
    rows: dict[tuple[str, ...], dict[str, Printed]] = {}
    for cell in cells:
        key = tuple(cell.row[name] for name in ("paper", "table", "method", "variant"))
        rows.setdefault(key, {})[cell.row["metric_id"]] = cell
    ablation = {key: all(variant for *table, _, variant in rows if tuple(table) == key) for key in sources}
    lines = tuple(_line(held, columns, ablation[key[0], key[1]]) for key, held in rows.items())
    some = next(iter(sources.values()))
    doubts = _doubts(sources, dataset)
    line = f"Printed by the papers on {dataset}, {some.splits[dataset][0]}, under {some.protocol}."
    return Beside(line=line + (" That they compare is not certain: see the notes." if doubts else ""), columns=columns, lines=lines,
                  doubts=tuple(doubts))  # fmt: skip


def _doubts(sources: Mapping[tuple[str, str], Source], dataset: str) -> list[str]:
    """Per paper, why its numbers may not compare."""
    texts = {}
    for (paper, _), source in sources.items():
        reasons = [reason for reason in (source.doubt, source.splits[dataset][1]) if reason]
        texts[paper] = f"{TITLES[paper]}: not certain: {'; '.join(reasons)}" if reasons else ""
    return [text for text in texts.values() if text]


def _marks(lines: Sequence[PrintedLine], columns: Sequence[Metric]) -> list[str]:
    return [f"{cell.removesuffix(MARK)}{MARK} {metric.title} of {line.name} ({line.where}) is impossible: {hint}"
            for line in lines for metric, cell, hint in zip(columns, line.cells, line.hints, strict=True) if cell.endswith(MARK)]  # fmt: skip


def _line(held: Mapping[str, Printed], columns: Sequence[Metric], ablation: bool) -> PrintedLine:
    some, siblings = next(iter(held.values())).row, [cell.row for cell in held.values()]
    texts, hints = [], []
    for metric in columns:
        cell = held.get(metric.id)
        why = impossible(cell.row, siblings) if cell else ""
        texts.append("–" if cell is None else in_our_unit(cell) + (MARK if why else ""))
        hints.append(why or ("" if cell is None else cell.row["note"]))
    method = TITLES[some["method_id"]] if some["method"] == "Ours" else some["method"]
    name = f"{method}, {some['variant']}" if some["variant"] else method
    return PrintedLine(
        name=name, where=f"{TITLES[some['paper']]}, {some['table']}", cells=tuple(texts), hints=tuple(hints), ablation=ablation
    )


def in_our_unit(cell: Printed) -> str:
    """The cell as printed; where its column has a scale or a letter is misread, the number with as many digits as printed."""
    value = true_value(cell.row)
    if value is None or (cell.row["corrected_value"] is None and math.isclose(column_scale(cell.row), 1.0)):
        return cell.text
    digits = len(re.sub(r"\D", "", cell.text.partition("E")[0]).lstrip("0"))
    if abs(value) < 1e-3:
        return f"{value:.{digits - 1}E}"
    return f"{value:.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"
