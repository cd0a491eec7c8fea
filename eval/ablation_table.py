"""An ablation table laid out: the paper's numbers and ours side by side, never in one column, and what each missing part changes."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eval.ablation_study import Number, Study
from eval.grid import Grid
from eval.metric_text import heading, shown
from eval.metrics import METRICS
from eval.paper_table import paper_grids
from eval.published.cells import printed_cells
from eval.uncertainty import FEW_CLIPS
from eval.verdicts import MAIN

_NONE = "–"


@dataclass(frozen=True, kw_only=True, slots=True)
class AblationTable:
    """The rows of a paper's table: (name, printed cells, cells measured here, their intervals)."""

    title: str
    printed_title: str
    here_title: str
    printed_head: tuple[str, ...]
    here_head: tuple[str, ...]
    lines: tuple[tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...]], ...]
    printed_notes: tuple[str, ...]
    here_notes: tuple[str, ...]

    def joined(self) -> Grid:
        """One table: printed columns at the left, ours at the right."""
        head = ("Row", *(f"printed {text}" for text in self.printed_head), *(f"here {text}" for text in self.here_head))
        rows = [row for name, printed, here, interval in self.lines
                for row in ((name, *printed, *here), ("", *("" for _ in printed), *interval)) if any(row)]  # fmt: skip
        return Grid(title=self.title, head=head, rows=tuple(rows), notes=(*self.printed_notes, *self.here_notes))

    def apart(self) -> list[Grid]:
        """Two tables of the same rows, one under the other, for a narrow screen."""
        left = Grid(title=self.printed_title, head=("Row", *self.printed_head), notes=self.printed_notes,
                    rows=tuple((name, *printed) for name, printed, _, _ in self.lines))  # fmt: skip
        rows = [row for name, _, here, interval in self.lines for row in ((name, *here), ("", *interval)) if any(row)]
        right = Grid(title=self.here_title, head=("Row", *self.here_head), rows=tuple(rows), notes=self.here_notes)
        return [left, right] if self.printed_head else [right]


def ablation_table(study: Study, *, title: str, paper: str, number: str | None) -> AblationTable:
    """The table of a study. number: of the paper's table that prints these rows, None where none does."""
    grid = paper_grids(paper, number, corrected=True)[0] if number is not None else None
    printed = {label: _printed_row(grid, label) for label in study.runs}
    metrics = _columns(study, paper, number)
    lines = tuple((label, printed[label], *_here(study, label, metrics)) for label in study.runs)
    where = f"{study.dataset}/{study.split} under {study.protocol}"
    here = f"Measured here on {where}: mean over seeds, below it the 95% interval over clips and seeds"
    beside = f"; printed by the paper, and measured here on {where} (mean over seeds, below it the 95% interval over clips and seeds)"
    return AblationTable(
        title=title + (beside if grid else f". {here}"), printed_title=f"{title}: {grid.title}" if grid else "", here_title=here,
        printed_head=grid.head[1:] if grid else (), here_head=tuple(heading(METRICS[metric]) for metric in metrics), lines=lines,
        printed_notes=tuple(f"printed: {note}" for note in grid.notes) if grid else (), here_notes=tuple(_notes(study)),
    )  # fmt: skip


def _printed_row(grid: Grid | None, label: str) -> tuple[str, ...]:
    """The paper's cells of a row; the name of a line is the method with the label in brackets."""
    if grid is None:
        return ()
    return next(row[1:] for row in grid.rows if row[0].endswith(f"({label})"))


def _columns(study: Study, paper: str, number: str | None) -> list[str]:
    """Metrics that the paper prints and we have (the corrected PSNR for the overflowing one), then what the parts are for."""
    ids = [c.row["metric_id"] for c in printed_cells() if c.row["paper"] == paper and c.row["table"] == f"Table {number}"]
    wanted = ["psnr" if metric == "psnr_overflow" else metric for metric in dict.fromkeys(ids)]
    main = [] if ids else [metric for metric in study.metrics if METRICS[metric].group == MAIN]
    aims = [metric for run in study.runs.values() for metric in run.wanted.aims]
    return [metric for metric in dict.fromkeys([*wanted, *main, *aims]) if metric in study.metrics]


def _here(study: Study, label: str, metrics: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(means, intervals) of a row."""
    numbers = [study.runs[label].number(metric) for metric in metrics]
    values = tuple(_NONE if n is None else shown(METRICS[m], n.value) for m, n in zip(metrics, numbers, strict=True))
    return values, tuple("" if n is None else _interval(m, n) for m, n in zip(metrics, numbers, strict=True))


def _interval(metric: str, number: Number) -> str:
    """low – high with the value's notation; "" without an interval."""
    if number.interval is None:
        return ""
    return " – ".join(shown(METRICS[metric], end, like=number.value) for end in number.interval)


def _notes(study: Study) -> list[str]:
    """What was run, with how many seeds and clips, and what was not run and why."""
    ran = {label: run for label, run in study.runs.items() if run.seeds}
    seeds = {label: ", ".join(map(str, run.seeds)) for label, run in ran.items()}
    groups: dict[str, list[str]] = {}
    for label, text in seeds.items():
        groups.setdefault(text, []).append(label)
    said = [f"seeds {text}: {'all rows that were run' if len(groups) == 1 else ', '.join(labels)}" for text, labels in groups.items()]
    clips = max((number.clips for run in ran.values() for metric in study.metrics if (number := run.number(metric))), default=0)
    said += [f"{clips} clips" + (", which is few: intervals are rough" if clips < FEW_CLIPS else "")] if ran else []
    return said + [f"{label} was not run: {run.wanted.why_not or 'not yet'}" for label, run in study.runs.items() if not run.seeds]


def difference_grid(study: Study, *, everything: bool = False) -> Grid | None:
    """Which metric moves: a row per metric, a column per row of the table, each minus the full method; bold beyond the interval.

    everything: all metrics, else those of the main table and those that the parts are for. None where nothing can be subtracted.
    """
    labels = [label for label in study.runs if any(held == label for held, _ in study.differences)]
    if not labels:
        return None
    aims = {metric for run in study.runs.values() for metric in run.wanted.aims}
    metrics = [m for m in study.metrics if everything or METRICS[m].group == MAIN or m in aims]
    rows = tuple((heading(METRICS[m]), *(_difference(study, label, m) for label in labels)) for m in metrics)
    bold = {(i, j + 1) for i, m in enumerate(metrics) for j, label in enumerate(labels) if study.verdict(label, m)}
    notes = (
        "difference (95% interval over clips and seeds); bold or starred: 0 is outside the interval",
        f"one interval in twenty leaves 0 out by chance; {len(metrics)} metrics stand here",
    )
    return Grid(
        title=f"Which metric moves: each row minus {study.full!r}", head=("Metric", *labels), rows=rows, bold=frozenset(bold), notes=notes
    )


def _difference(study: Study, label: str, metric: str) -> str:
    number = study.differences.get((label, metric))
    if number is None:
        return _NONE
    interval = f"({' to '.join(_signed(metric, end) for end in number.interval)})" if number.interval else ""
    return " ".join(part for part in (_signed(metric, number.value), interval, study.verdict(label, metric)) if part)


def findings(study: Study) -> tuple[str, ...]:
    """In words, one text per row: what moves beyond the interval, whether the full method wins where the part is meant to help, where it does not."""
    return tuple(f"{label}: {_finding(study, label)}" for label in study.runs if label != study.full)


def _finding(study: Study, label: str) -> str:
    there = [metric for metric in study.metrics if (label, metric) in study.differences]
    if not there:
        return f"nothing to compare, {study.runs[label].wanted.why_not or 'it was not run with a seed of the full method'}."
    moved = {verdict: [m for m in there if study.verdict(label, m) == verdict] for verdict in ("worse", "better")}
    parts = [f"{verdict} in {_listed(study, label, metrics)}" for verdict, metrics in moved.items() if metrics]
    still = len(there) - sum(map(len, moved.values()))
    said = [
        ("; ".join(parts) or "no metric moves beyond the interval")
        + (f"; no difference shown in {still} of {len(there)} metrics" if parts and still else "")
    ]
    aims = [metric for metric in study.runs[label].wanted.aims if metric in there]
    said += [f"The part is meant for {'; '.join(_aimed(study, label, metric) for metric in aims)}"] if aims else []
    lost = [metric for metric in there if _ablated_wins(study, label, metric) and (metric in aims or METRICS[metric].group == MAIN)]
    said += [f"The full method does not win in {_against(study, label, lost)}"] if lost else []
    return ". ".join(said) + "."


def _listed(study: Study, label: str, metrics: Sequence[str]) -> str:
    """Those of the main table and those that the part is for, with their differences; how many others."""
    aims = study.runs[label].wanted.aims
    named = [m for m in metrics if METRICS[m].group == MAIN or m in aims] or list(metrics[:3])
    rest = len(metrics) - len(named)
    text = ", ".join(f"{METRICS[m].title} ({_signed(m, study.differences[label, m].value)})" for m in named)
    return text + (f" and {rest} more" if rest else "")


def _signed(metric: str, value: float) -> str:
    """A difference with its sign in the metric's notation; one that would round to 0 with two digits of its own."""
    text = shown(METRICS[metric], value, sign=True)
    return f"{value:+.2g}" if value and not any(digit in text for digit in "123456789") else text


def _ablated_wins(study: Study, label: str, metric: str) -> bool:
    """Whether the row is as good as the full method or better, interval or not."""
    difference = study.differences[label, metric].value
    return difference >= 0 if METRICS[metric].better == "up" else difference <= 0


def _aimed(study: Study, label: str, metric: str) -> str:
    """CSIM, the full method wins beyond the interval (0.82 against 0.71)."""
    answer = "the full method is not better" if _ablated_wins(study, label, metric) else "the full method wins"
    return f"{METRICS[metric].title}, {answer}, {_surely(study, label, metric)} ({_pair(study, label, metric)})"


def _against(study: Study, label: str, metrics: Sequence[str]) -> str:
    return ", ".join(f"{METRICS[m].title} ({_pair(study, label, m)}, {_surely(study, label, m)})" for m in metrics)


def _surely(study: Study, label: str, metric: str) -> str:
    number = study.differences[label, metric]
    return "no interval" if number.interval is None else f"{'beyond' if number.beyond else 'within'} the interval"


def _pair(study: Study, label: str, metric: str) -> str:
    """Full against ablated, both of what the difference is of: the seeds, clips and frames that both have."""
    ablated, full = study.differences[label, metric].sides or (None, None)
    return " against ".join(_NONE if value is None else shown(METRICS[metric], value) for value in (full, ablated))


def tidy_csv(study: Study, table: AblationTable) -> str:
    """One line per row and metric: ours with intervals, the difference and the verdict; printed cells stand in lines of their own."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        ["row", "source", "metric", "value", "low", "high", "seeds", "clips", "difference", "difference_low", "difference_high", "verdict"]
    )
    for label, printed, _, _ in table.lines:
        for head, cell in zip(table.printed_head, printed, strict=True):
            writer.writerow([label, "printed", head, cell, *[""] * 8])
        for metric in study.metrics:
            writer.writerow([label, f"{study.dataset}/{study.split}/{study.protocol}", metric, *_tidy(study, label, metric)])
    return stream.getvalue()


def _tidy(study: Study, label: str, metric: str) -> list[object]:
    number, difference = study.runs[label].number(metric), study.differences.get((label, metric))
    cells: Mapping[str, Number | None] = {"value": number, "difference": difference}
    ends = {name: (("", "", "") if n is None else (n.value, *(n.interval or ("", "")))) for name, n in cells.items()}
    counts = ("", "") if number is None else (number.seeds, number.clips)
    return [*ends["value"], *counts, *ends["difference"], study.verdict(label, metric)]
