"""A Grid: a finished table of text, written for a terminal, as Markdown, as LaTeX (booktabs), as CSV or as HTML."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from markupsafe import escape

from pipelines.errors import UserError

_LATEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
          "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
          "↑": r"$\uparrow$", "↓": r"$\downarrow$", "–": "--", "×": r"$\times$", "†": r"$\dagger$"}  # fmt: skip
NEEDS = "% \\usepackage{booktabs}\n% \\usepackage{graphicx}\n"  # first lines of LaTeX: what its preamble must have
TALLEST = 40  # rows of one LaTeX table, which must fit on a page; more become several tables
_HEAD_WIDTH, _HEAD_LINE = 12, 10  # a longer column head is broken at its spaces, into lines of about this length
_SHRINK = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"  # only what is too wide
_ARROWS = ("↑", "↓")
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


def broken_head(text: str) -> list[str]:
    """The lines of a column head: one that is too long is broken at its spaces; the arrow stays with the word before it."""
    lines: list[str] = []
    for word in text.split() if len(text) > _HEAD_WIDTH else [text]:
        if lines and (word in _ARROWS or len(lines[-1]) + len(word) < _HEAD_LINE):
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def as_text(grid: Grid) -> str:
    """Aligned columns; the best values have a star."""
    heads = [broken_head(text) for text in grid.head]
    top = max(len(lines) for lines in heads)
    head = [[([""] * (top - len(lines)) + lines)[i] for lines in heads] for i in range(top)]
    body = [[text + ("*" if (i, j) in grid.bold else " " if j else "") for j, text in enumerate(row)] for i, row in enumerate(grid.rows)]
    widths = [max(len(row[j]) for row in [*head, *body]) for j in range(len(grid.head))]
    lines = ["  ".join(t.rjust(w) if j else t.ljust(w) for j, (t, w) in enumerate(zip(r, widths, strict=True))).rstrip()
             for r in [*head, *body]]  # fmt: skip
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    if grid.rule_before is not None:
        lines.insert(grid.rule_before + top, rule)
    notes = (f"note: {_one_line(note)}" for note in grid.notes)
    return "\n".join([_one_line(grid.title), *lines[:top], rule, *lines[top:], *notes]) + "\n"


def as_markdown(grid: Grid) -> str:
    """A pipe table; text from outside cannot break out of its cell."""
    lines = [_row(_markdown(text) for text in grid.head), "|---|" + "---:|" * (len(grid.head) - 1)]
    for i, row in enumerate(grid.rows):
        lines.append(_row(f"**{_markdown(text)}**" if (i, j) in grid.bold else _markdown(text) for j, text in enumerate(row)))
    notes = [f"- {_markdown(note)}" for note in grid.notes]
    return "\n".join([f"**{_markdown(grid.title)}**", "", *lines, "", *notes]).rstrip() + "\n"


def as_latex(grid: Grid) -> str:
    """Tables of the booktabs package, made narrower where wider than the text (graphicx); compiles with pdfLaTeX."""
    starts = range(0, max(1, len(grid.rows)), TALLEST)
    return NEEDS + "".join(_latex_part(grid, start) for start in starts)


def _latex_part(grid: Grid, start: int) -> str:
    """The table of TALLEST rows from `start`; the notes stand under the last."""
    rows = range(start, min(start + TALLEST, len(grid.rows)))
    lines = [" & ".join(latex_head(text) for text in grid.head) + r" \\", r"\midrule"]
    for i in rows:
        lines += [r"\midrule"] if i == grid.rule_before and i > start else []
        cells = (rf"\textbf{{{escape_latex(text)}}}" if (i, j) in grid.bold else escape_latex(text) for j, text in enumerate(grid.rows[i]))
        lines.append(" & ".join(cells) + r" \\")
    caption = escape_latex(grid.title) + (", continued" if start else "")
    notes = grid.notes if rows.stop >= len(grid.rows) else ()
    return latex_table(caption, len(grid.head) - 1, lines, notes)


def latex_table(caption: str, numbers: int, lines: Iterable[str], notes: Iterable[str]) -> str:
    """A table environment. caption: LaTeX; numbers: columns after the first; lines: LaTeX of the head, a midrule, the rows; notes: plain text."""
    tabular = [rf"\begin{{tabular}}{{l{'r' * numbers}}}", r"\toprule", *lines, r"\bottomrule", r"\end{tabular}%"]
    said = [rf"{escape_latex(note)}\par" for note in notes]
    small = [r"\par\smallskip", r"\begin{minipage}{\linewidth}\footnotesize\raggedright", *said, r"\end{minipage}"] if said else []
    return "\n".join([r"\begin{table}", r"\centering\small", r"\setlength{\tabcolsep}{4pt}", rf"\caption{{{caption}}}", _SHRINK,
                      *tabular, "}", *small, r"\end{table}"]) + "\n"  # fmt: skip


def latex_head(text: str) -> str:
    """A column head; a long one in several lines, flush right."""
    lines = [escape_latex(line) for line in broken_head(text)]
    stacked = r" \\ ".join(lines)
    return stacked if len(lines) == 1 else rf"\shortstack[r]{{{stacked}}}"


def as_html(grid: Grid) -> str:
    """A table element with its title and notes; text from outside stays text."""
    head = "".join(f"<th>{escape(text)}</th>" for text in grid.head)
    body = "".join(f"<tr>{_html_row(grid, i)}</tr>\n" for i in range(len(grid.rows)))
    notes = "".join(f"<li>{escape(note)}</li>" for note in grid.notes)
    return (f'<p class="soft">{escape(grid.title)}</p>\n<div class="wide"><table class="scores small">\n<thead><tr>{head}</tr></thead>\n'
            f"<tbody>\n{body}</tbody></table></div>\n" + (f'<ul class="notes">{notes}</ul>\n' if notes else ""))  # fmt: skip


def _html_row(grid: Grid, i: int) -> str:
    name, *cells = grid.rows[i]
    best = [' class="best"' if (i, j) in grid.bold else "" for j in range(1, len(grid.head))]
    return f"<th>{escape(name)}</th>" + "".join(f"<td{mark}>{escape(text)}</td>" for mark, text in zip(best, cells, strict=True))


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
    {"text": as_text, "markdown": as_markdown, "latex": as_latex, "csv": as_csv, "html": as_html}
)


def render(grid: Grid, style: str) -> str:
    """The grid in one of FORMATS. Raises UserError that lists them."""
    if style not in FORMATS:
        raise UserError(f"--format {style}: unknown; there are: {', '.join(FORMATS)}")
    return FORMATS[style](grid)
