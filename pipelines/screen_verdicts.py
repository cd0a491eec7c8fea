"""Decide: which clips meet a rule, which conditions the others do not, and checks over a whole data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from pipelines.errors import UserError
from pipelines.lake import Lake
from pipelines.screen_duplicates import groups_of, near_pairs
from pipelines.screen_rule import ScreeningRule, broken_conditions

Row = dict[str, Any]
_EXAMPLES = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Answer of a check: how many clips, of how many, and the first examples in words."""

    count: int
    clips: int
    examples: tuple[str, ...]


def scores_of(lake: Lake, dataset: str, version: str | None = None) -> list[Row]:
    """The rows of `screening` of the usable clips, with "split", "video_id", "start_frame" and "pixels" of the clip.

    version: of the scores; None = that of the newest commit on the data set. Raises UserError where nothing was screened.
    """
    version = version or _newest_version(lake, dataset)
    where = (pc.field("dataset") == dataset) & (pc.field("version") == version)
    clips = {clip.clip_id: clip for clip in lake.clips(dataset)}
    rows = [row for row in lake.rows("screening", where) if row["clip_id"] in clips]
    if not rows:
        raise UserError(f"data set {dataset!r} was not screened; run the screening step first")
    for row in rows:
        clip = clips[row["clip_id"]]
        row |= {"split": clip.split, "video_id": clip.video_id, "start_frame": clip.start_frame, "pixels": clip.width * clip.height}
    return rows


def _newest_version(lake: Lake, dataset: str) -> str:
    held = {row["version"] for row in lake.rows("screening", pc.field("dataset") == dataset, ["version"])}
    if len(held) == 1:
        return str(held.pop())
    commits = (commit.get("scores") for commit in lake.lineage("screening"))
    found = next((version for version in commits if version in held), None)
    if found is None:
        raise UserError(f"data set {dataset!r} was not screened; run the screening step first")
    return str(found)


def verdicts_into(
    lake: Lake, dataset: str, rule: ScreeningRule, lineage: Mapping[str, Any] | None = None, *, version: str | None = None
) -> int:
    """Judge every scored clip, replace the rule's verdicts of the data set, and return how many clips are kept."""
    rows = scores_of(lake, dataset, version)
    verdicts = judged(rows, rule)
    label = rule.label
    mine = (pc.field("dataset") == dataset) & (pc.field("rule") == label)
    fresh = [{**verdict, "dataset": dataset, "rule": label} for verdict in verdicts]
    held = {row["clip_id"]: row for row in lake.rows("screening_verdicts", mine)}
    if [row for row in fresh if held.get(row["clip_id"]) != row]:
        lake.write("screening_verdicts", fresh, lineage)
    if gone := set(held) - {row["clip_id"] for row in fresh}:
        lake.delete("screening_verdicts", mine & pc.field("clip_id").isin(sorted(gone)), lineage)
    return sum(row["kept"] for row in fresh)


def judged(rows: Sequence[Row], rule: ScreeningRule) -> list[Row]:
    """clip_id, version, kept, conditions, near_duplicate_group and reason of every row of `scores_of`.

    A clip is dropped as a near-duplicate or leak only in favour of one that nothing else drops.
    """
    broken = {row["clip_id"]: broken_conditions(rule, row) for row in rows}
    groups = _groups(rows, rule)
    for clip, reason in _leaking(rows, rule).items():
        broken[clip]["same_person"] = reason
    for clip, reason in _repeated(rows, rule, groups, broken).items():
        broken[clip]["max_duplicate_distance"] = reason
    return [
        {
            "clip_id": row["clip_id"],
            "version": row["version"],
            "kept": not broken[row["clip_id"]],
            "conditions": list(broken[row["clip_id"]]),
            "near_duplicate_group": groups.get(row["clip_id"]),
            "reason": "; ".join(broken[row["clip_id"]].values()) or None,
        }
        for row in rows
    ]


def _groups(rows: Sequence[Row], rule: ScreeningRule) -> dict[str, str]:
    if rule.max_duplicate_distance is None:
        return {}
    hashes = {row["clip_id"]: row["hashes"] or [] for row in rows}
    videos = {row["clip_id"]: row["video_id"] for row in rows}
    return groups_of(near_pairs(hashes, videos, rule.max_duplicate_distance), rule.max_duplicate_distance)


def _leaking(rows: Sequence[Row], rule: ScreeningRule) -> dict[str, str]:
    """Clips of unprotected splits whose person is also in another split."""
    limits = dict(rule.same_person or ())
    splits = {row["clip_id"]: row["split"] for row in rows}
    found = {}
    for row in rows:
        limit, cosine = limits.get(row["embedding_size"]), row["leak_similarity"]
        if limit is not None and cosine is not None and cosine >= limit and row["split"] not in rule.protected_splits:
            other = row["leak_clip_id"]
            found[row["clip_id"]] = f"the face is also in clip {other} of split {splits.get(other)} (cosine {cosine:.3f}, limit {limit:g})"
    return found


def _repeated(
    rows: Sequence[Row], rule: ScreeningRule, groups: Mapping[str, str], broken: Mapping[str, Mapping[str, str]]
) -> dict[str, str]:
    """Clips of a group besides the best one; those of protected splits stay."""
    members: dict[str, list[Row]] = {}
    for row in rows:
        if row["clip_id"] in groups and not broken[row["clip_id"]]:
            members.setdefault(groups[row["clip_id"]], []).append(row)
    found = {}
    for group in members.values():
        best = min(group, key=lambda row: (row["split"] not in rule.protected_splits, -row["pixels"], -row["frames"], row["clip_id"]))
        for row in group:
            if row is not best and row["split"] not in rule.protected_splits:
                found[row["clip_id"]] = (
                    f"near-duplicate of clip {best['clip_id']} (limit {rule.max_duplicate_distance:g} bits), which stays"
                )
    return found


def kept_clips(lake: Lake, dataset: str, rule: ScreeningRule) -> set[str]:
    """Ids of the clips that meet the rule. Raises UserError where they were not judged with it yet."""
    mine = (pc.field("dataset") == dataset) & (pc.field("rule") == rule.label)
    rows = lake.rows("screening_verdicts", mine, ["clip_id", "kept"])
    if not rows:
        raise UserError(f"data set {dataset!r} has no verdicts of rule {rule.label}; run the screening step with this rule first")
    return {row["clip_id"] for row in rows if row["kept"]}


# --- checks ----------------------------------------------------------------------------------------------------------


def leak_check(lake: Lake, dataset: str, rule: ScreeningRule, *, only_kept: bool = True) -> Finding:
    """Clips of unprotected splits whose person is in another split, too; only_kept: among the clips that the rule keeps."""
    rows = _rows(lake, dataset, rule, only_kept)
    ids = {row["clip_id"] for row in rows}
    found = {
        clip: reason
        for clip, reason in _leaking(rows, rule).items()
        if next(r for r in rows if r["clip_id"] == clip)["leak_clip_id"] in ids
    }
    return _finding(found, len(rows))


def duplicate_check(lake: Lake, dataset: str, rule: ScreeningRule, *, only_kept: bool = True, across_splits: bool = False) -> Finding:
    """Clips that look like an earlier one of their group; across_splits: only groups that lie in several splits."""
    rows = _rows(lake, dataset, rule, only_kept)
    groups = _groups(rows, rule)
    splits: dict[str, set[Any]] = {}
    for row in rows:
        if row["clip_id"] in groups:
            splits.setdefault(groups[row["clip_id"]], set()).add(row["split"])
    found = {
        clip: f"looks like clip {group}"
        for clip, group in groups.items()
        if clip != group and (not across_splits or len(splits[group]) > 1)
    }
    return _finding(found, len(rows))


def _rows(lake: Lake, dataset: str, rule: ScreeningRule, only_kept: bool) -> list[Row]:
    rows = scores_of(lake, dataset)
    kept = kept_clips(lake, dataset, rule) if only_kept else {row["clip_id"] for row in rows}
    return [row for row in rows if row["clip_id"] in kept]


def _finding(found: Mapping[str, str], clips: int) -> Finding:
    return Finding(count=len(found), clips=clips, examples=tuple(f"{clip}: {found[clip]}" for clip in sorted(found)[:_EXAMPLES]))
