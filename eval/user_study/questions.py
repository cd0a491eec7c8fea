"""The four questions of StableAnimator's user study (Sec. 4.4)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """One question; `metric` is the id of the printed column."""

    id: str
    short: str  # column head of Table 6
    metric: str
    aspect: str  # the one word in which the questions differ
    text: str


def _question(name: str, short: str, aspect: str) -> Question:
    return Question(
        id=name, short=short, metric=f"user_{name}", aspect=aspect, text=f"Which one has better {aspect} alignment with the reference?"
    )


QUESTIONS: tuple[Question, ...] = (
    _question("motion", "M-A", "motion"),
    _question("appearance", "A-A", "appearance"),
    _question("background", "B-A", "background"),
    _question("identity", "I-A", "ID"),
)
