"""What a method's data set reads: usable clips with poses, their eligible references, and the versions that they came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.clip_dataset import Points, TrainingClip
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


def eligible_references(scores: Points) -> list[int]:
    """Frames whose mean body score is over 0.5; where none is, the best one."""
    body = scores[:, BODY].mean(axis=1)
    eligible = np.flatnonzero(body > _REFERENCE_SCORE)
    return [int(frame) for frame in (eligible if len(eligible) else [body.argmax()])]


def build_training_rows(lake: Lake, dataset: Dataset, method: str) -> list[dict[str, Any]]:
    """Rows of `training_rows`. Raises UserError when no clip is left to train on."""
    clips = clips_of_splits(lake, dataset, TRAIN_SPLITS)
    poses, extractor = load_poses(lake, dataset, clips), training_extractor(dataset)
    if not poses:
        raise UserError(
            f"data set {dataset.name}: none of {len(clips)} training clips has poses of extractor {extractor.name!r} (its version and weights of today); "
            f'extract them first, or look at the reasons with `rotoscope query "select clip_id, error, reason from poses where error is not null"`'
        )
    versions = {"clips_version": lake.version("clips"), "poses_version": lake.version("poses")}
    return [
        {
            "dataset": dataset.name,
            "method": method,
            "clip_id": clip.clip_id,
            "video_id": clip.video_id,
            "subject": clip.subject,
            "split": clip.split,
            "uri": clip.uri.removeprefix(f"{lake.address}/"),
            "frames": clip.num_frames,
            "references": eligible_references(poses[clip.clip_id][1]),
            "extractor": extractor.name,
            "extractor_version": extractor.version,
            "weights_digest": extractor.weights_digest(),
            **versions,
        }
        for clip in clips
        if clip.clip_id in poses
    ]


def load_training_clips(lake: Lake, dataset: Dataset, method: str) -> list[TrainingClip]:
    """The clips of `training_rows`, with their poses, sorted by id. Raises UserError when there are none."""
    rows = lake.rows("training_rows", (pc.field("dataset") == dataset.name) & (pc.field("method") == method))
    clips = {clip.clip_id: clip for clip in lake.clips(dataset.name)}
    wanted = [clips[row["clip_id"]] for row in rows if row["clip_id"] in clips]
    poses = load_poses(lake, dataset, wanted)
    missing = [row["clip_id"] for row in rows if row["clip_id"] not in poses]
    if missing or not rows:
        raise UserError(
            f"data set {dataset.name}: {missing[0] if missing else 'no clip'} has no training row with poses; materialize training_rows again"
        )
    return [
        TrainingClip(
            clip=clips[row["clip_id"]],
            keypoints=poses[row["clip_id"]][0],
            scores=poses[row["clip_id"]][1],
            references=tuple(row["references"]),
        )
        for row in rows
    ]


def write_training_rows(lake: Lake, dataset: Dataset, method: str, lineage: Mapping[str, Any] | None = None) -> None:
    """Bring `training_rows` of one method up to date; rows of clips that are gone go too. Unchanged content is not written again."""
    rows = build_training_rows(lake, dataset, method)
    mine = (pc.field("dataset") == dataset.name) & (pc.field("method") == method)
    stored = lake.read("training_rows", where=mine)
    fresh = pa.Table.from_pylist(rows, schema=stored.schema)
    if digest_rows("training_rows", stored) != digest_rows("training_rows", fresh):
        lake.write("training_rows", fresh, lineage)
        lake.delete("training_rows", mine & ~one_of("clip_id", [row["clip_id"] for row in rows]), lineage)
