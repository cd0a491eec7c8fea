"""Which clips have the signals that a method needs, of the person whose poses are followed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow.compute as pc

from models.clip_signals import Floats
from models.one_subject import is_somebody_else, people_of, share_of_largest, shares_of
from models.signal_rows import TABLE_OF, LakeSignals, Maker, Makers, clips_with, rows_of
from models.signals import SignalName
from pipelines.clip import Clip
from pipelines.crop import to_crop
from pipelines.errors import UserError
from pipelines.extractors.registry import extractors_named
from pipelines.lake import Lake
from pipelines.sources.registry import Dataset
from pipelines.tables import one_of

_OF_ONE_PERSON: frozenset[SignalName] = frozenset({"faces", "body_mask", "densepose", "clothing"})


def usable_clips(
    lake: Lake, dataset: Dataset, clips: Sequence[Clip], makers: Makers, what: str = "training"
) -> tuple[list[Clip], dict[SignalName, int]]:
    """(clips that have every signal, how many lack each). Raises UserError, naming the extractor to run, where none is left.

    A signal of somebody else than the poses follow counts as lacking; only clips in which several people were found are looked at.
    """
    left, lacking = list(clips), dict[SignalName, int]()
    crowded = _crowded(lake, dataset, clips, makers)
    for name, maker in makers.items():
        having = clips_with(lake, dataset, clips, name, maker)
        others = {clip.clip_id for clip in crowded if clip.clip_id in having and _of_somebody_else(lake, dataset, clip, name, maker)}
        having -= others
        lacking[name] = len(clips) - len(having)
        left = [clip for clip in left if clip.clip_id in having]
        if clips and not left:
            raise UserError(_none_left(dataset, len(clips), name, maker, lacking[name], len(others), what))
    return left, {name: count for name, count in lacking.items() if count}


def _crowded(lake: Lake, dataset: Dataset, clips: Sequence[Clip], makers: Makers) -> list[Clip]:
    """Clips in some frame of which more than one person or face was found, by whomever."""
    if not any(_may_differ(dataset, name, maker) for name, maker in makers.items()):
        return []
    where = (pc.field("dataset") == dataset.name) & one_of("clip_id", [clip.clip_id for clip in clips]) & (pc.field("frame") >= 0)
    found: set[str] = set()
    for table in ("person_boxes", "faces"):
        rows = lake.read(table, ["clip_id", "boxes"], where)
        several = pc.fill_null(pc.greater(pc.list_value_length(rows["boxes"]), 4), False)
        found |= set(rows.filter(several)["clip_id"].to_pylist())
    return [clip for clip in clips if clip.clip_id in found]


def _of_somebody_else(lake: Lake, dataset: Dataset, clip: Clip, name: SignalName, maker: Maker) -> bool:
    """Whether a signal shows another person than the poses of training do (models/one_subject.py)."""
    if not _may_differ(dataset, name, maker):
        return False
    poses = _stored_poses(lake, dataset, clip)
    if poses is None:
        return False
    if name == "clothing":  # has no place: whose it is says the box that it was cut by
        boxes = lake.rows("person_boxes", _in(clip) & pc.field("boxes").is_valid(), ["extractor", "frame", "boxes", "tracks"])
        first = [row for row in boxes if row["extractor"] == boxes[0]["extractor"]]
        people = people_of(first, lambda corners: to_crop(corners, clip.crop))
        return len(people) == clip.num_frames and is_somebody_else(share_of_largest(people, *poses))
    reader = LakeSignals(address=lake.address, clip=clip, makers={name: maker})
    return is_somebody_else(shares_of(reader([name]), poses)[name])


def _may_differ(dataset: Dataset, name: SignalName, maker: Maker) -> bool:
    """Whether a signal is of one person, and chosen by another extractor than the one whose poses are followed."""
    return name in _OF_ONE_PERSON and maker.extractor != dataset.training_extractor


def _in(clip: Clip) -> pc.Expression:
    return (pc.field("dataset") == clip.dataset) & (pc.field("clip_id") == clip.clip_id) & (pc.field("frame") >= 0)


def _stored_poses(lake: Lake, dataset: Dataset, clip: Clip) -> tuple[Floats, Floats] | None:
    """[T, 133, 2] in px of the clip and [T, 133] of the extractor whose poses train; None where they are not whole."""
    extractor = extractors_named([dataset.training_extractor])[0]
    maker = Maker(extractor=extractor.name, version=extractor.version, weights_digest=extractor.weights_digest())
    rows = lake.rows("poses", rows_of(dataset.name, maker, [clip.clip_id]), ["frame", "keypoints", "scores"])
    if len(rows) != clip.num_frames:
        return None
    points = to_crop(np.asarray([row["keypoints"] for row in rows], np.float32).reshape(-1, 133, 2), clip.crop)
    return points, np.asarray([row["scores"] for row in rows], np.float32)


def _none_left(dataset: Dataset, clips: int, name: SignalName, maker: Maker, lacking: int, others: int, what: str) -> str:
    table = TABLE_OF[name]
    held = f"{lacking} of {clips} {what} clips lack {name} of extractor {maker.extractor!r} (its version and weights of today), and none is left"
    held += f"; {others} of them show more than one person, and their {name} are not of the one whose poses are followed" if others else ""
    labels_only = name == "actions" and maker.extractor == "truth"
    held += "; annotations name an action, and hold nothing that a network saw of it" if labels_only else ""
    run = (
        f"python -m pipelines extract --home LAKE --dataset {dataset.name} --extractors {'action_tiny' if labels_only else maker.extractor}"
    )
    return (
        f"data set {dataset.name}: {held}; run `{run}`, name another extractor in its signal_extractors, or look at the reasons with "
        f'`rotoscope query "select clip_id, error, reason from {table} where error is not null"`'
    )
