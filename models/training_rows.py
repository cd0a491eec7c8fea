"""What a method's data set reads: usable clips with poses, their eligible references, and the versions that they came from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from models.clip_dataset import Points, TrainingClip
from models.methods import method_named
from models.signal_rows import (
    TABLE_OF,
    Makers,
    faces_seen,
    makers_json,
    makers_of,
    readers,
    sharpness_percentile,
)
from models.signals import SignalName
from models.usable_clips import usable_clips
from pipelines.clip import Clip
from pipelines.crop import to_crop
from pipelines.errors import UserError
from pipelines.extract import Extractor
from pipelines.extractors.registry import extractors_named
from pipelines.held_out import TEST_SPLITS
from pipelines.keypoints import BODY
from pipelines.lake import Lake, digest_rows
from pipelines.screen_verdicts import kept_clips
from pipelines.sources.registry import Dataset
from pipelines.tables import one_of

TRAIN_SPLITS = ("train", "all")  # a folder of the user's own has no split: all of it trains, and all of it is animated
ANIMATED_SPLITS = (*TEST_SPLITS, "all")

_ACTION = "action:"  # before the class, in the column `annotations` of `videos`
_REFERENCE_SCORE = 0.5  # mean body score that a reference frame needs (our default)


def clips_of_splits(lake: Lake, dataset: Dataset, splits: Sequence[str]) -> list[Clip]:
    """Usable clips of the splits that the data set's screening rule keeps, or those of them that its `training_clips` names."""
    clips = [clip for clip in lake.clips(dataset.name) if clip.split in splits]
    unknown = sorted(set(dataset.training_clips) - {clip.clip_id for clip in lake.clips(dataset.name)})
    if unknown:
        raise UserError(
            f'--clip {unknown[0]}: data set {dataset.name} has no such usable clip; `rotoscope query "select clip_id, video_id, reason from clips"` lists them'
        )
    kept = kept_clips(lake, dataset.name, dataset.rule) if dataset.screening else {clip.clip_id for clip in clips}
    return [clip for clip in clips if clip.clip_id in kept and (not dataset.training_clips or clip.clip_id in dataset.training_clips)]


def training_extractor(dataset: Dataset) -> Extractor:
    """The extractor whose poses train and drive."""
    return extractors_named([dataset.training_extractor])[0]


def load_poses(lake: Lake, dataset: Dataset, clips: Sequence[Clip]) -> dict[str, tuple[Points, Points]]:
    """(keypoints [T, 133, 2] in px of the clip's crop, scores [T, 133]) by clip id, for the clips that have them without an error."""
    extractor = training_extractor(dataset)
    where = (
        (pc.field("dataset") == dataset.name)
        & (pc.field("extractor") == extractor.name)
        & (pc.field("version") == extractor.version)
        & (pc.field("weights_digest") == extractor.weights_digest())
        & one_of("clip_id", [clip.clip_id for clip in clips])
        & (pc.field("frame") >= 0)
    )
    rows: dict[str, list[tuple[list[float], list[float]]]] = {}
    for row in lake.rows("poses", where, ["clip_id", "frame", "keypoints", "scores"]):
        rows.setdefault(row["clip_id"], []).append((row["keypoints"], row["scores"]))
    return {clip.clip_id: _poses_of(clip, rows[clip.clip_id]) for clip in clips if len(rows.get(clip.clip_id, ())) == clip.num_frames}


def _poses_of(clip: Clip, frames: Sequence[tuple[list[float], list[float]]]) -> tuple[Points, Points]:
    points = to_crop(np.asarray([k for k, _ in frames], np.float32).reshape(-1, 133, 2), clip.crop)
    return points, np.asarray([s for _, s in frames], np.float32)


def eligible_references(scores: Points, faces: npt.NDArray[np.bool_] | None = None) -> list[int]:
    """Frames whose mean body score is over 0.5; where none is, the best one. faces [T]: of these, those that show the face, if any."""
    body = scores[:, BODY].mean(axis=1)
    eligible = np.flatnonzero(body > _REFERENCE_SCORE)
    if faces is not None and faces[eligible].any():
        eligible = eligible[faces[eligible]]
    return [int(frame) for frame in (eligible if len(eligible) else [body.argmax()])]


@dataclass(frozen=True, kw_only=True, slots=True)
class Signalled:
    """Usable clips with what a method needs. left_out: how many clips lack each signal ("poses" among them)."""

    clips: list[Clip]
    poses: Mapping[str, tuple[Points, Points]]
    makers: Makers
    left_out: Mapping[str, int]


def signalled_clips(lake: Lake, dataset: Dataset, needs: Sequence[SignalName], splits: Sequence[str], what: str) -> Signalled:
    """Clips of the splits that have poses and every signal of `needs`. Raises UserError where none is left, naming the extractor to run.

    what: the clips in words, "training" or "held-out".
    """
    clips = clips_of_splits(lake, dataset, splits)
    poses = load_poses(lake, dataset, clips)
    if not poses:
        raise UserError(
            f"data set {dataset.name}: none of {len(clips)} {what} clips has poses of extractor {dataset.training_extractor!r} (its version and "
            f"weights of today); extract them first, or look at the reasons with "
            f'`rotoscope query "select clip_id, error, reason from poses where error is not null"`'
        )
    posed = [clip for clip in clips if clip.clip_id in poses]
    makers = makers_of(dataset, needs)
    usable, lacking = usable_clips(lake, dataset, posed, makers, what)
    left_out: dict[str, int] = {"poses": len(clips) - len(posed)} if len(posed) < len(clips) else {}
    left_out.update({str(name): count for name, count in lacking.items()})
    return Signalled(clips=usable, poses=poses, makers=makers, left_out=left_out)


def build_training_rows(lake: Lake, dataset: Dataset, method: str) -> tuple[list[dict[str, Any]], Mapping[str, int]]:
    """(rows of `training_rows`, how many clips were left out for want of each signal). Raises UserError when no clip is left to train on."""
    found, extractor = signalled_clips(lake, dataset, method_named(method).needs, TRAIN_SPLITS, "training"), training_extractor(dataset)
    scale = sharpness_percentile(lake, dataset, found.clips, found.makers["hands"]) if "hands" in found.makers else None
    common = {
        "dataset": dataset.name,
        "method": method,
        "extractor": extractor.name,
        "extractor_version": extractor.version,
        "weights_digest": extractor.weights_digest(),
        "clips_version": lake.version("clips"),
        "poses_version": lake.version("poses"),
        "signals": makers_json(found.makers),
        "signals_version": json.dumps({TABLE_OF[name]: lake.version(TABLE_OF[name]) for name in found.makers}, sort_keys=True),
        "hand_sharpness_p99": scale,
    }
    faces = faces_seen(lake, dataset, found.clips, found.makers["faces"]) if "faces" in found.makers else {}
    rows = []
    for clip in found.clips:
        own = {
            "clip_id": clip.clip_id,
            "video_id": clip.video_id,
            "subject": clip.subject,
            "split": clip.split,
            "uri": clip.uri.removeprefix(f"{lake.address}/"),
            "frames": clip.num_frames,
            "references": eligible_references(found.poses[clip.clip_id][1], faces.get(clip.clip_id)),
        }
        rows.append({**common, **own})
    return rows, found.left_out


def trained_sharpness(lake: Lake, dataset: Dataset, method: str) -> float | None:
    """The scale of the blur map (99th percentile of s_128) that the method trains with; None where it needs no hands, or has no rows."""
    return next((row["hand_sharpness_p99"] for row in _rows_of(lake, dataset, method)), None)


def training_facts(lake: Lake, dataset: Dataset, method: str) -> dict[str, str]:
    """What a checkpoint's manifest must say of the signals that it was trained on, so that others can be made alike: {} where it needs none."""
    rows = _rows_of(lake, dataset, method)
    if not method_named(method).needs or not rows:
        return {}
    scale = rows[0]["hand_sharpness_p99"]
    return {"signals": rows[0]["signals"], **({} if scale is None else {"hand_sharpness_p99": repr(scale)})}


def _rows_of(lake: Lake, dataset: Dataset, method: str) -> list[dict[str, Any]]:
    return lake.rows("training_rows", (pc.field("dataset") == dataset.name) & (pc.field("method") == method))


def load_training_clips(lake: Lake, dataset: Dataset, method: str) -> list[TrainingClip]:
    """The clips of `training_rows`, with their poses, sorted by id; signals are read when they are asked for. Raises UserError when there are none."""
    rows = _rows_of(lake, dataset, method)
    clips = {clip.clip_id: clip for clip in lake.clips(dataset.name)}
    wanted = [clips[row["clip_id"]] for row in rows if row["clip_id"] in clips]
    poses = load_poses(lake, dataset, wanted)
    missing = [row["clip_id"] for row in rows if row["clip_id"] not in poses]
    if missing or not rows:
        raise UserError(
            f"data set {dataset.name}: {missing[0] if missing else 'no clip'} has no training row with poses; materialize training_rows again"
        )
    makers = makers_of(dataset, method_named(method).needs)
    if (rows[0]["signals"] or "{}") != makers_json(makers):
        raise UserError(
            f"data set {dataset.name}: its signals come from other extractors or weights than today's; materialize training_rows again"
        )
    read, labels = readers(lake, dataset, makers, rows[0]["hand_sharpness_p99"]), action_classes(lake, dataset)
    return [
        TrainingClip(
            clip=clips[row["clip_id"]],
            keypoints=poses[row["clip_id"]][0],
            scores=poses[row["clip_id"]][1],
            references=tuple(row["references"]),
            signals=read(clips[row["clip_id"]]) if makers else None,
            action_class=labels.get(row["video_id"], ""),
        )
        for row in rows
    ]


def action_classes(lake: Lake, dataset: Dataset) -> dict[str, str]:
    """Action classes by video id, of data sets that label their videos (ucf101, performers_actions)."""
    rows = lake.rows("videos", pc.field("dataset") == dataset.name, ["video_id", "annotations"])
    return {row["video_id"]: row["annotations"].removeprefix(_ACTION) for row in rows if (row["annotations"] or "").startswith(_ACTION)}


def write_training_rows(lake: Lake, dataset: Dataset, method: str, lineage: Mapping[str, Any] | None = None) -> Mapping[str, int]:
    """Bring `training_rows` of one method up to date; rows of clips that are gone go too. Unchanged content is not written again.

    Returns how many clips were left out for want of each signal.
    """
    rows, left_out = build_training_rows(lake, dataset, method)
    mine = (pc.field("dataset") == dataset.name) & (pc.field("method") == method)
    stored = lake.read("training_rows", where=mine)
    fresh = pa.Table.from_pylist(rows, schema=stored.schema)
    if digest_rows("training_rows", stored) != digest_rows("training_rows", fresh):
        lake.write("training_rows", fresh, lineage)
        lake.delete("training_rows", mine & ~one_of("clip_id", [row["clip_id"] for row in rows]), lineage)
    return left_out
