"""The benchmark table as LaTeX: booktabs, best values bold, the 95 % interval small under its value."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from eval.grid import NEEDS, as_latex, escape_latex, latex_head, latex_table
from eval.metric_text import heading
from eval.table import BenchmarkTable, Cell, Line, Section, measured_rows

_SMALL = "Bold: the best of its column. Small: 95 % interval over clips."


def table_latex(table: BenchmarkTable, ablations: Sequence[Section] = ()) -> str:
    """One table environment per section, then the ablations and the papers' numbers; compiles with pdfLaTeX."""
    where = f"{table.dataset} / {table.split} under {table.protocol}"
    parts = [_section(section, ". ".join(part for part in (where, section.title, table.coverage) if part) + f". {_SMALL}")
             for section in table.sections]  # fmt: skip
    parts += [_section(section, f"{where}. {section.title}.") for section in ablations]
    printed = table.published.grid(measured_rows(table))
    parts.append(f"% {escape_latex(table.published.line)}\n" if printed is None else as_latex(printed))
    return NEEDS + "\n".join(part.removeprefix(NEEDS) for part in parts)


def _section(section: Section, caption: str) -> str:
    head = " & ".join(["Method", *(latex_head(heading(metric)) for metric in section.columns)]) + r" \\"
    body = [line for method in section.lines for line in [r"\addlinespace", *_method(method)]][1:]
    return latex_table(escape_latex(caption), len(section.columns), [head, r"\midrule", *body], section.notes)


def _method(line: Line) -> list[str]:
    """Two rows: values, and below them what the method is and the intervals."""
    values = _row([escape_latex(line.title), *(_value(cell) for cell in line.cells)])
    small = [rf"{{\scriptsize {escape_latex(line.detail)}}}" if line.detail else ""]
    intervals = [rf"{{\tiny {_number(cell.interval)}}}" if cell.interval else "" for cell in line.cells]
    return [values, _row([*small, *intervals])] if line.detail or any(intervals) else [values]


def _value(cell: Cell) -> str:
    return rf"\textbf{{{_number(cell.value)}}}" if cell.best else _number(cell.value)


def _number(text: str) -> str:
    """Escaped, a minus sign at its start as one."""
    parts = [f"$-${escape_latex(part[1:])}" if part.startswith("-") else escape_latex(part) for part in text.split(" – ")]
    return "--".join(parts)


def _row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"
