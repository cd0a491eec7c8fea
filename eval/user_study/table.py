"""StableAnimator's Table 6 from answers: one row per competitor, a share per question with its interval; the printed rows apart."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from eval.grid import Grid, as_latex, as_markdown, as_text
from eval.published.cells import printed_cells
from eval.user_study.answers import Answer, Answers, read_answers
from eval.user_study.preference import (
    Agreement,
    Preference,
    agreements,
    caught_share,
    left_share,
    preferences,
    wilson,
)
from eval.user_study.questions import QUESTIONS
from pipelines.errors import UserError

_PAPER, _TABLE = "stable_animator", "Table 6"


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyTable:
    """What the answers of a study say. dropped: raters who failed the hidden pairs -> share that they got right."""

    answers: Answers
    ours: str
    cells: Mapping[str, Mapping[str, Preference]]
    agreement: tuple[Agreement, ...]
    dropped: Mapping[str, float]

    @property
    def raters(self) -> int:
        """Who counts."""
        return len({answer.rater for answer in self.answers.answers})


def study_table(paths: Sequence[Path], least_caught: float = 0.75) -> StudyTable:
    """The table of saved answers. least_caught: a rater with a smaller share of hidden pairs right does not count.

    Raises UserError: `read_answers`, a share outside 0 to 1, several methods as ours, nobody left.
    """
    if not 0 <= least_caught <= 1:
        raise UserError(f"--least-caught {least_caught:g}: a share from 0 to 1")
    whole = read_answers(paths)
    dropped = {rater: share for rater, share in caught_share(whole.answers).items() if share < least_caught}
    kept = tuple(answer for answer in whole.answers if answer.rater not in dropped)
    ours = sorted({answer.ours for answer in kept if not answer.catch})
    if len(ours) != 1:
        why = f"all {len(dropped)} raters failed the hidden pairs" if dropped and not kept else f"{len(ours)} methods stand as ours"
        raise UserError(f"{', '.join(map(str, paths))}: {why}; nothing to make a table of")
    return StudyTable(answers=replace(whole, answers=kept), ours=ours[0], cells=preferences(kept), agreement=tuple(agreements(kept)),
                      dropped=dropped)  # fmt: skip


def study_grid(table: StudyTable) -> Grid:
    """Ours first, then a line, then what the paper prints; the paper's rows never hold one of ours."""
    head = ("Over", *(question.short for question in QUESTIONS), "Answers")
    ours = [(f"{other}, measured here", *(_cell(cells.get(question.id)) for question in QUESTIONS), str(_most(cells)))
            for other, cells in table.cells.items()]  # fmt: skip
    title = f"{table.ours}: how often it is preferred, in percent, with 95 % intervals. {table.answers.title}, {table.raters} raters."
    return Grid(title=title, head=head, rows=tuple([*ours, *printed_rows()]), notes=tuple(_notes(table)), rule_before=len(ours))


def _cell(cell: Preference | None) -> str:
    if cell is None:
        return "–"
    low, high = (100 * end for end in cell.interval)
    return f"{100 * cell.share:.1f} ({low:.1f} – {high:.1f})"


def _most(cells: Mapping[str, Preference]) -> int:
    """Answers of the question that has most."""
    return max(cell.answers for cell in cells.values())


def printed_rows() -> list[tuple[str, ...]]:
    """Table 6 as printed: StableAnimator over each competitor, in percent without intervals (the paper gives none)."""
    rows: dict[str, dict[str, str]] = {}
    for cell in printed_cells():
        if (cell.row["paper"], cell.row["table"]) == (_PAPER, _TABLE):
            rows.setdefault(cell.row["variant"], {})[cell.row["metric_id"]] = cell.text.removesuffix("%")
    return [(f"{variant.removeprefix('preferred over ')}, printed ({_TABLE})", *(held.get(q.metric, "–") for q in QUESTIONS), "–")
            for variant, held in rows.items()]  # fmt: skip


def _notes(table: StudyTable) -> list[str]:
    notes = ["Intervals: the wider of Wilson's over answers and of a bootstrap over raters (one rater: Wilson's alone, which takes answers for "
             "independent). Clips are taken as they are, so nothing is said about other clips."]  # fmt: skip
    notes.append(
        "Printed rows: how often StableAnimator was preferred in its authors' study; other clips, other raters, another checkpoint."
    )
    said = [f"{question.short} {_alpha(found)}" for question, found in zip(QUESTIONS, table.agreement, strict=True)]
    pairs = max((found.pairs for found in table.agreement), default=0)
    notes.append(f"Agreement (Krippendorff's alpha, nominal; {pairs} pairs with two raters or more): {', '.join(said)}.")
    notes += [f"{rater} got {100 * share:.0f} % of the hidden pairs right and does not count." for rater, share in table.dropped.items()]
    return [*notes, *_side_note(table.answers.answers), *table.answers.notes]


def _alpha(found: Agreement) -> str:
    return "–" if found.alpha is None else f"{found.alpha:.2f}"


def _side_note(answers: Sequence[Answer]) -> list[str]:
    """Said only where chance does not explain it."""
    sides = left_share(answers)
    low, high = wilson(sides["left"], sides["answers"])
    if low <= 0.5 <= high:
        return []
    return [
        f"Raters chose the left clip in {100 * sides['left'] / sides['answers']:.0f} % of {sides['answers']} answers, more or less than chance."
    ]


def rows_of(table: StudyTable) -> list[dict[str, Any]]:
    """One row per competitor and question with all digits; shares are 0 to 1."""
    return [
        {
            "study": table.answers.study,
            "ours": table.ours,
            "over": other,
            "question": question,
            "share": cell.share,
            "preferred": cell.ours,
            "answers": cell.answers,
            "raters": cell.raters,
            "wilson_low": cell.wilson[0],
            "wilson_high": cell.wilson[1],
            "clustered_low": None if cell.clustered is None else cell.clustered[0],
            "clustered_high": None if cell.clustered is None else cell.clustered[1],
        }
        for other, cells in table.cells.items()
        for question, cell in cells.items()
    ]


def _csv(table: StudyTable) -> str:
    stream, rows = io.StringIO(), rows_of(table)
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _json(table: StudyTable) -> str:
    said = {
        "study": table.answers.study,
        "title": table.answers.title,
        "seed": table.answers.seed,
        "ours": table.ours,
        "raters": table.raters,
        "cells": rows_of(table),
        "agreement": [{"question": found.question, "alpha": found.alpha, "pairs": found.pairs} for found in table.agreement],
        "sides": dict(left_share(table.answers.answers)),
        "dropped": dict(table.dropped),
        "published": [dict(zip(("over", *(q.id for q in QUESTIONS)), row, strict=False)) for row in printed_rows()],
    }
    return json.dumps(said, indent=2, ensure_ascii=False) + "\n"


FORMATS: Mapping[str, Callable[[StudyTable], str]] = MappingProxyType(
    {
        "text": lambda table: as_text(study_grid(table)),
        "markdown": lambda table: as_markdown(study_grid(table)),
        "latex": lambda table: as_latex(study_grid(table)),
        "csv": _csv,
        "json": _json,
    }
)
