"""A Grid: a finished table of text, written for a terminal, as Markdown, as LaTeX (booktabs) or as CSV."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pipelines.errors import UserError

_LATEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
          "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
          "↑": r"$\uparrow$", "↓": r"$\downarrow$", "–": "--", "×": r"$\times$", "†": r"$\dagger$"}  # fmt: skip
NEEDS = "% \\usepackage{booktabs}\n"  # first line of LaTeX: what its preamble must have
_MARKDOWN = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "\\|", "*": "\\*"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """Cells as text. The first column is a name (left), the others numbers (right). `bold`: (row, column) of the best values."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    bold: frozenset[tuple[int, int]] = frozenset()
    rule_before: int | None = None  # a line above this row: papers' rows from ours

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.head):
                raise ValueError(f"row {row[:1]} has {len(row)} cells, the head {len(self.head)}")


def as_text(grid: Grid) -> str:
    """Aligned columns; the best values have a star."""
    body = [[text + ("*" if (i, j) in grid.bold else " " if j else "") for j, text in enumerate(row)] for i, row in enumerate(grid.rows)]
    widths = [max(len(row[j]) for row in [list(grid.head), *body]) for j in range(len(grid.head))]
    lines = ["  ".join(t.rjust(w) if j else t.ljust(w) for j, (t, w) in enumerate(zip(r, widths, strict=True))).rstrip()
             for r in [list(grid.head), *body]]  # fmt: skip
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    if grid.rule_before is not None:
        lines.insert(grid.rule_before + 1, rule)
    return "\n".join([_one_line(grid.title), lines[0], rule, *lines[1:], *(f"note: {_one_line(note)}" for note in grid.notes)]) + "\n"


def as_markdown(grid: Grid) -> str:
    """A pipe table; text from outside cannot break out of its cell."""
    lines = [_row(_markdown(text) for text in grid.head), "|---|" + "---:|" * (len(grid.head) - 1)]
    for i, row in enumerate(grid.rows):
        lines.append(_row(f"**{_markdown(text)}**" if (i, j) in grid.bold else _markdown(text) for j, text in enumerate(row)))
    notes = [f"- {_markdown(note)}" for note in grid.notes]
    return "\n".join([f"**{_markdown(grid.title)}**", "", *lines, "", *notes]).rstrip() + "\n"


def as_latex(grid: Grid) -> str:
    """A table environment of the booktabs package (`\\usepackage{booktabs}`), compiles with pdfLaTeX."""
    lines = [" & ".join(escape_latex(text) for text in grid.head) + r" \\", r"\midrule"]
    for i, row in enumerate(grid.rows):
        if i == grid.rule_before and i:
            lines.append(r"\midrule")
        cells = (rf"\textbf{{{escape_latex(text)}}}" if (i, j) in grid.bold else escape_latex(text) for j, text in enumerate(row))
        lines.append(" & ".join(cells) + r" \\")
    notes = [rf"\par\footnotesize {escape_latex(note)}" for note in grid.notes]
    columns = "l" + "r" * (len(grid.head) - 1)
    head = [r"\begin{table}", r"\centering", rf"\caption{{{escape_latex(grid.title)}}}", rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    return NEEDS + "\n".join([*head, *lines, r"\bottomrule", r"\end{tabular}", *notes, r"\end{table}"]) + "\n"


def as_csv(grid: Grid) -> str:
    """Head and rows; notes are left out, because a CSV has no place for them."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([grid.head, *grid.rows])
    return stream.getvalue()


def escape_latex(text: str) -> str:
    """Text that LaTeX prints as it is; letters that pdfLaTeX has no glyph for lose their accents or become `?`."""
    plain = "".join(_LATEX.get(letter) or _ascii(letter) for letter in _one_line(text))
    return f"{{}}{plain}" if plain.startswith(("[", "*")) else plain  # \\ would read [..] and * as its options


def _ascii(letter: str) -> str:
    return letter if letter.isascii() else unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode() or "?"


def _markdown(text: str) -> str:
    return "".join(_MARKDOWN.get(letter, letter) for letter in _one_line(text))


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


FORMATS: Mapping[str, Callable[[Grid], str]] = MappingProxyType(
    {"text": as_text, "markdown": as_markdown, "latex": as_latex, "csv": as_csv}
)


def render(grid: Grid, style: str) -> str:
    """The grid in one of FORMATS. Raises UserError that lists them."""
    if style not in FORMATS:
        raise UserError(f"--format {style}: unknown; there are: {', '.join(FORMATS)}")
    return FORMATS[style](grid)
