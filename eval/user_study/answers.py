"""What raters saved: read and checked. The page writes one file per rater (eval/templates/user_study_script.html)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from eval.user_study.questions import QUESTIONS
from pipelines.errors import UserError

FORMAT = "rotoscope-user-study-answers-1"
Choice = Literal["ours", "other"]
_CHOICES = ("ours", "other")


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """One rater's answer to one question about one pair. ours, other: names of who made the clips."""

    rater: str
    trial: str
    clip: str
    ours: str
    other: str
    other_method: str
    catch: bool
    left: Choice  # which clip stood on the left
    question: str
    choice: Choice


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """All answers of one study. notes: what was left out of the files, and why."""

    study: str
    title: str
    seed: int
    answers: tuple[Answer, ...]
    notes: tuple[str, ...]

    @property
    def raters(self) -> tuple[str, ...]:
        """In alphabetical order."""
        return tuple(sorted({answer.rater for answer in self.answers}))


def read_answers(paths: Sequence[Path]) -> Answers:
    """Raises UserError: a file that is none of ours, files of two studies, no answer at all.

    Of two files of one rater the one that was saved last counts.
    """
    files = [_read(path) for path in paths]
    studies = {file["study"] for _, file in files}
    if len(studies) != 1:
        raise UserError(f"{', '.join(map(str, paths)) or 'no file'}: answers of {len(studies)} studies; give the files of one")
    latest: dict[str, tuple[Path, Mapping[str, Any]]] = {}
    notes = []
    for path, file in sorted(files, key=lambda one: str(one[1]["saved"])):
        if file["rater"] in latest:
            notes.append(f"{latest[file['rater']][0].name}: {file['rater']} saved again later, {path.name} counts")
        latest[file["rater"]] = (path, file)
    answers = [answer for path, file in latest.values() for answer in _answers(path, file)]
    if not answers:
        raise UserError(f"{', '.join(map(str, paths))}: no question is answered in them")
    some = files[0][1]
    return Answers(study=some["study"], title=some["title"], seed=some["seed"], answers=tuple(answers), notes=tuple(notes))


def _read(path: Path) -> tuple[Path, Mapping[str, Any]]:
    try:
        file = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error}); ask the rater to save it again") from None
    if not isinstance(file, dict) or file.get("format") != FORMAT:
        raise UserError(f"{path}: no answers of a user study (`format` is not {FORMAT})")
    kinds = {"study": str, "title": str, "rater": str, "seed": int, "saved": str, "answers": list}
    wrong = next((name for name, kind in kinds.items() if not isinstance(file.get(name), kind)), None)
    if wrong is not None or not file["rater"].strip():
        raise UserError(f"{path}: {wrong or 'rater'} is missing or no {kinds[wrong or 'rater'].__name__}; ask the rater to save it again")
    return path, file


def _answers(path: Path, file: Mapping[str, Any]) -> list[Answer]:
    known = [question.id for question in QUESTIONS]
    found, seen = [], set()
    for number, row in enumerate(file["answers"]):
        try:
            side = {"trial": row["trial"], "clip": row["clip"], "ours": row["ours"]["name"], "other": row["other"]["name"],
                    "other_method": row["other"]["method"], "catch": row["catch"], "left": row["left"]}  # fmt: skip
            choices = dict(row["choices"])
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{path}: answers[{number}] is not whole; ask the rater to save it again") from None
        if side["left"] not in _CHOICES or not set(choices) <= set(known) or not set(choices.values()) <= set(_CHOICES):
            raise UserError(f"{path}: answers[{number}]: questions are {', '.join(known)}, choices and `left` ours or other")
        if side["trial"] in seen:
            raise UserError(f"{path}: pair {side['trial']} is answered twice; ask the rater to save it again")
        seen.add(side["trial"])
        found += [Answer(rater=file["rater"], question=question, choice=choice, **side) for question, choice in choices.items()]
    return found
