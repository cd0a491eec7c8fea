"""write_ablation(): one ablation as a page, and as text, Markdown, LaTeX and CSV beside it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from markupsafe import Markup

from eval.ablation_study import Study
from eval.ablation_table import AblationTable, ablation_table, difference_grid, findings, tidy_csv
from eval.grid import NEEDS, Grid, as_html, as_latex, as_markdown, as_text
from eval.page import markdown_cell, render, write_file
from eval.protocols import protocol_named
from eval.training_cost import cost_grid, training_costs, used_checkpoints
from eval.training_curves import stage_curves
from pipelines.lake import Lake

SUFFIXES: Mapping[str, str] = {"html": ".html", "markdown": ".md", "latex": ".tex", "csv": ".csv", "text": ".txt"}
"""Format -> ending of its file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """What a page is about: the paper, the number of its table (None where it prints none), and both in words."""

    paper: str
    number: str | None
    title: str
    about: str


def write_ablation(lake: Lake, study: Study, subject: Subject, path: Path) -> Path:
    """Write `path` (.html) and its twins of SUFFIXES; returns the path of the HTML."""
    table = ablation_table(study, title=subject.title, paper=subject.paper, number=subject.number)
    everything, cost = difference_grid(study, everything=True), cost_grid(training_costs(lake, study))
    page = {
        "title": subject.title,
        "about": f"{subject.about[:1].upper()}{subject.about[1:]}: every row is trained, animated and scored as the full method, but for one part.",
        "findings": findings(study),
        "standin": protocol_named(study.protocol).standin,
        "table": table,
        "differences": Markup(as_html(everything)) if everything else None,
        "cost": Markup(as_html(cost)) if cost else None,
        "curves": stage_curves(lake, [(row["checkpoint_id"], row["variant"]) for row in used_checkpoints(lake, study).values()]),
        "time": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
    write_file(path, render("ablation.html", page))
    for style in ("markdown", "latex", "csv", "text"):
        write_file(path.with_suffix(SUFFIXES[style]), ablation_text(study, table, style, cost=cost))
    return path


def ablation_text(study: Study, table: AblationTable, style: str, width: int = 0, *, cost: Grid | None = None) -> str:
    """The ablation in a format of SUFFIXES but html. width: columns of a terminal, 0 = as wide as it needs. cost: what training took."""
    if style == "csv":
        return tidy_csv(study, table)
    moves = difference_grid(study)
    grids = [table.joined(), *(grid for grid in (moves, cost) if grid)]
    if style == "latex":
        said = "".join(f"% {line}\n" for line in findings(study) if line.isascii())
        return said + NEEDS + "\n".join(as_latex(grid).removeprefix(NEEDS) for grid in grids)
    if style == "markdown":
        return "\n".join([*map(as_markdown, grids), *(f"- {markdown_cell(line)}" for line in findings(study))]) + "\n"
    joined = as_text(grids[0])
    texts = [joined] if not width or _wide(joined) <= width else [as_text(grid) for grid in table.apart()]
    return "\n".join([*texts, *(as_text(grid) for grid in grids[1:]), *findings(study)]) + "\n"


def _wide(text: str) -> int:
    """Columns of the widest line of a table; notes may be broken by the terminal."""
    return max(len(line) for line in text.splitlines() if not line.startswith("note: "))


def terminal_width() -> int:
    """Columns of the terminal."""
    return shutil.get_terminal_size((200, 24)).columns
