"""write_page(): one self-contained HTML page of what a screening rule dropped, why, and how the scores are spread."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from pipelines.errors import UserError
from pipelines.lake import Lake
from pipelines.screen_rule import CONDITIONS, Condition, ScreeningRule, persons_share
from pipelines.screen_sources import Row, ScreenSources, held_by
from pipelines.screen_verdicts import scores_of
from pipelines.screening_pictures import clip_pictures

DRAWN = "performers_"  # data sets of drawn people: nobody's picture, always shown
_CARDS = 12  # per condition
_GROUPS = 20
_BINS = 32
_OTHER = {
    "persons": "people in the frame",
    "same_person": "the same face in another split",
    "max_duplicate_distance": "a near-duplicate that stays instead",
    "error": "clips that could not be scored",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Histogram:
    """Bars of one score: heights in 0..1, which of them the rule drops, and where its thresholds lie (0..1 of the width)."""

    title: str
    meaning: str
    low: str
    high: str
    bars: tuple[tuple[float, bool, int], ...]  # height, dropped, clips
    thresholds: tuple[tuple[float, str], ...]
    missing: int  # clips without the score


def write_page(
    lake: Lake, dataset: str, rule: ScreeningRule, path: Path, include_media: bool = False, *, sources: ScreenSources | None = None
) -> Path:
    """Write the page to `path` and return it; whole or not at all.

    include_media: frames of real people; without it their silhouettes and skeletons on grey (data sets of drawn performers always
    show their frames). sources: whose rows draw these; the ones that were screened. Raises UserError where nothing was judged with this rule.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    rows = scores_of(lake, dataset)
    verdicts = _verdicts(lake, dataset, rule)
    cards = [{**row, **verdicts[row["clip_id"]]} for row in rows if row["clip_id"] in verdicts]
    sections, groups, leaks = _sections(cards, rule), _groups(cards), _leaks(cards, rule)
    media = include_media or dataset.startswith(DRAWN)
    shown = {card["clip_id"] for part in [*(section["cards"] for section in sections), *groups, *leaks, _kept(cards)] for card in part}
    clips = [clip for clip in lake.clips(dataset) if clip.clip_id in shown]
    pictures = clip_pictures(lake, dataset, clips, held_by(lake, dataset, sources or ScreenSources()), media=media)
    environment = Environment(loader=PackageLoader("pipelines"), autoescape=True, undefined=StrictUndefined)
    page = environment.get_template("screening.html").render(
        dataset=dataset,
        rule=rule.label,
        thresholds=_thresholds(rule),
        total=len(cards),
        kept=sum(card["kept"] for card in cards),
        sections=sections,
        histograms=[histogram for histogram in _histograms(cards, rule) if histogram is not None],
        groups=groups,
        leaks=leaks,
        kept_cards=_kept(cards),
        pictures=pictures,
        media=media,
        persons_from=", ".join(sorted({card["persons_from"] for card in cards if card["persons_from"]})),
    )
    return _write(path, page)


def _verdicts(lake: Lake, dataset: str, rule: ScreeningRule) -> dict[str, Row]:
    rows = lake.rows("screening_verdicts", (pc.field("dataset") == dataset) & (pc.field("rule") == rule.label))
    if not rows:
        raise UserError(f"data set {dataset!r} has no verdicts of rule {rule.label}; run the screening step with this rule first")
    return {row["clip_id"]: {name: row[name] for name in ("kept", "conditions", "near_duplicate_group", "reason")} for row in rows}


def _write(path: Path, page: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        partial.write_text(page, encoding="utf-8", errors="xmlcharrefreplace")  # file names may hold lone surrogates
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _thresholds(rule: ScreeningRule) -> list[tuple[str, str]]:
    """Every threshold in words."""
    return [(name, "not applied" if value is None else str(value)) for name, value in asdict(rule).items() if name != "name"]


def _kept(cards: Sequence[Row]) -> list[Row]:
    kept = [card for card in cards if card["kept"]]
    return [kept[i] for i in sorted({round(i) for i in np.linspace(0, len(kept) - 1, min(len(kept), _CARDS))})]


def _sections(cards: Sequence[Row], rule: ScreeningRule) -> list[dict[str, Any]]:
    """One per condition that dropped something, the most frequent first; the clips that nothing else drops come first."""
    meanings = {condition.field: condition.meaning for condition in CONDITIONS} | _OTHER
    sections = []
    for name, meaning in meanings.items():
        dropped = [card for card in cards if name in card["conditions"]]
        if dropped:
            alone = sum(card["conditions"] == [name] for card in dropped)
            first = sorted(dropped, key=lambda card: (len(card["conditions"]), card["clip_id"]))[:_CARDS]
            limit = getattr(rule, name, None)
            sections.append({"name": name, "meaning": meaning, "count": len(dropped), "alone": alone, "limit": limit, "cards": first})
    return sorted(sections, key=lambda section: -section["count"])


def _groups(cards: Sequence[Row]) -> list[list[Row]]:
    """Near-duplicate groups, the largest first."""
    members: dict[str, list[Row]] = {}
    for card in cards:
        if card["near_duplicate_group"] is not None:
            members.setdefault(card["near_duplicate_group"], []).append(card)
    return [group[:_CARDS] for group in sorted(members.values(), key=len, reverse=True)[:_GROUPS]]


def _leaks(cards: Sequence[Row], rule: ScreeningRule) -> list[list[Row]]:
    """Pairs (clip, clip of the other split) over the threshold, the most similar first."""
    by_id = {card["clip_id"]: card for card in cards}
    limits = dict(rule.same_person or ())
    found: dict[frozenset[str], list[Row]] = {}
    for card in sorted(cards, key=lambda card: -(card["leak_similarity"] or -1.0)):
        limit = limits.get(card["embedding_size"])
        if limit is not None and (card["leak_similarity"] or -1.0) >= limit and card["leak_clip_id"] in by_id:
            found.setdefault(frozenset((card["clip_id"], card["leak_clip_id"])), [card, by_id[card["leak_clip_id"]]])
    return list(found.values())[:_GROUPS]


def _histograms(cards: Sequence[Row], rule: ScreeningRule) -> list[Histogram | None]:
    """Of the share of frames with the wanted people, of every score of a condition, and of the pairwise scores."""
    by_column: dict[str, list[Condition]] = {}
    for condition in CONDITIONS:
        by_column.setdefault(condition.column, []).append(condition)
    persons = _histogram("persons", _OTHER["persons"], [persons_share(rule, card) for card in cards], [("min", rule.min_persons_share)])
    found = [persons]
    for column, conditions in by_column.items():
        values = [len(card[column]) if isinstance(card[column], list) else card[column] for card in cards]
        limits = [(condition.sense, getattr(rule, condition.field)) for condition in conditions]
        found.append(_histogram(column, conditions[0].meaning, values, limits))
    duplicates = [card["duplicate_distance"] for card in cards]
    found.append(
        _histogram("duplicate_distance", "bits of 64 to the clip that looks most alike", duplicates, [("low", rule.max_duplicate_distance)])
    )
    cosines = [("max", limit) for size, limit in rule.same_person or () if any(card["embedding_size"] == size for card in cards)]
    found.append(
        _histogram(
            "leak_similarity", "cosine to the most similar face of another split", [card["leak_similarity"] for card in cards], cosines
        )
    )
    return found


def _histogram(title: str, meaning: str, values: Sequence[float | None], limits: Sequence[tuple[str, float | None]]) -> Histogram | None:
    """None where no clip has the score. "min" drops what is under a limit, "max" and "low" what is over or, for "low", not over it."""
    held = np.array([value for value in values if value is not None], np.float64)
    applied = [(sense, float(limit)) for sense, limit in limits if limit is not None]
    if not len(held):
        return None
    low, high = min([float(held.min()), *(limit for _, limit in applied)]), max([float(held.max()), *(limit for _, limit in applied)])
    high = high if high > low else low + 1.0
    counts, edges = np.histogram(held, bins=_BINS, range=(low, high))
    heights = np.sqrt(counts / counts.max())  # square root, so that single clips stay visible beside a full bin
    middles = (edges[1:] + edges[:-1]) / 2
    bars = tuple((float(h), _outside(float(m), applied), int(n)) for h, m, n in zip(heights, middles, counts, strict=True))
    lines = tuple(((limit - low) / (high - low), f"{limit:g}") for _, limit in applied)
    missing = len(values) - len(held)
    return Histogram(title=title, meaning=meaning, low=f"{low:.3g}", high=f"{high:.3g}", bars=bars, thresholds=lines, missing=missing)


def _outside(value: float, limits: Sequence[tuple[str, float]]) -> bool:
    return any(value < limit if sense == "min" else value <= limit if sense == "low" else value > limit for sense, limit in limits)


def page_name(dataset: str, rule: ScreeningRule) -> str:
    """A file name for the page, from a data set's name of any characters."""
    safe: Mapping[int, str] = {ord(mark): "_" for mark in dataset if not (mark.isalnum() or mark in "-_.")}
    return f"screening-{dataset.translate(safe)}-{rule.label}.html"
