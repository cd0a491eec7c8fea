"""How often ours is preferred, per competitor and question, and how sure that is.

k = answers for ours, n = answers
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from eval.uncertainty import bootstrap_ratio
from eval.user_study.agreement import krippendorff_alpha
from eval.user_study.answers import Answer
from eval.user_study.questions import QUESTIONS

_Z95 = 1.959963984540054  # 97.5 % point of the normal distribution

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Preference:
    """One cell: shares are 0 to 1. clustered: raters drawn again with replacement; None for fewer than two raters."""

    ours: int
    answers: int
    raters: int
    wilson: Interval
    clustered: Interval | None

    @property
    def share(self) -> float:
        """Of answers that prefer ours."""
        return self.ours / self.answers

    @property
    def interval(self) -> Interval:
        """The wider of the two: answers of one rater are not independent, but few raters who all agree bootstrap to no width at all."""
        if self.clustered is None:
            return self.wilson
        return max(self.wilson, self.clustered, key=lambda interval: interval[1] - interval[0])


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """Of one question, over all competitors. alpha: None where it has no meaning."""

    question: str
    alpha: float | None
    pairs: int  # that two or more raters answered


def wilson(k: int, n: int) -> Interval:
    """95 % interval of a share k / n (Wilson 1927); stays inside 0 to 1 and has a width at 0 and n. Raises ValueError for n < 1."""
    if n < 1 or not 0 <= k <= n:
        raise ValueError(f"{k} of {n} is no share")
    p, z2 = k / n, _Z95 * _Z95
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    reach = _Z95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def preferences(answers: Iterable[Answer]) -> dict[str, dict[str, Preference]]:
    """Competitor -> question -> cell, competitors in alphabetical order; hidden pairs are left out."""
    groups: dict[str, dict[str, list[Answer]]] = defaultdict(lambda: defaultdict(list))
    for answer in answers:
        if not answer.catch:
            groups[answer.other][answer.question].append(answer)
    order = [question.id for question in QUESTIONS]
    return {
        other: {question: preference(groups[other][question]) for question in order if question in groups[other]}
        for other in sorted(groups)
    }


def preference(answers: Sequence[Answer]) -> Preference:
    """One cell. answers: at least one, of one competitor and question."""
    of_rater: dict[str, list[bool]] = defaultdict(list)
    for answer in answers:
        of_rater[answer.rater].append(answer.choice == "ours")
    votes = [of_rater[rater] for rater in sorted(of_rater)]
    ours = sum(map(sum, votes))
    clustered = bootstrap_ratio([sum(vote) for vote in votes], [len(vote) for vote in votes])
    return Preference(ours=ours, answers=len(answers), raters=len(votes), wilson=wilson(ours, len(answers)), clustered=clustered)


def agreements(answers: Iterable[Answer]) -> list[Agreement]:
    """One entry per question, in their order; hidden pairs are left out."""
    units: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for answer in answers:
        if not answer.catch:
            units[answer.question][answer.trial].append(answer.choice)
    return [Agreement(question=question.id, alpha=krippendorff_alpha(list(units[question.id].values())),
                      pairs=sum(len(values) > 1 for values in units[question.id].values()))
            for question in QUESTIONS]  # fmt: skip


def caught_share(answers: Iterable[Answer]) -> dict[str, float]:
    """Rater -> share of hidden pairs' questions that were answered right; raters who saw none are not in it."""
    right: dict[str, list[bool]] = defaultdict(list)
    for answer in answers:
        if answer.catch:
            right[answer.rater].append(answer.choice == "ours")
    return {rater: sum(found) / len(found) for rater, found in sorted(right.items())}


def left_share(answers: Iterable[Answer]) -> Mapping[str, int]:
    """How many answers chose the clip on the left, of how many: {"left": k, "answers": n}; hidden pairs are left out."""
    chosen = [answer.choice == answer.left for answer in answers if not answer.catch]
    return {"left": sum(chosen), "answers": len(chosen)}
