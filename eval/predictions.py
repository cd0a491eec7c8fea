"""Generated clips: importing a folder of them, and pairing them with the ground truth before anything is computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from pipelines.clip import Clip, Frames
from pipelines.errors import ClipError, UserError
from pipelines.lake import Lake
from pipelines.prediction_manifest import PredictedClip, PredictionManifest, read_manifest, sha256_of_file
from pipelines.tables import one_of
from pipelines.video import probe

LOSSY_SUFFIXES = {".mp4", ".mov", ".webm", ".mkv", ".gif", ".avi"}
LOSSLESS_SUFFIX = ".ffv1.mkv"  # FFV1 in RGB; eval/import_predictions.py writes it
SMALLEST_SIDE = 7  # SSIM's window


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """A true clip and what a method made for it."""

    clip: Clip
    truth_sha256: str  # of the video that the clip is a part of
    prediction: Mapping[str, Any] | None  # row of `predictions`; None = not delivered

    @property
    def prediction_sha256(self) -> str:
        """ "" when there is no file."""
        return (self.prediction or {}).get("sha256") or ""


def import_predictions(lake: Lake, folder: Path, lineage: Mapping[str, Any] | None = None) -> PredictionManifest:
    """Read a folder of generated clips (manifest.json and one video per clip) into the `predictions` table.

    A listed file that is missing, damaged or not the one that was hashed becomes a failed row. Raises UserError for a
    manifest that cannot be read, or that lists no clip of its data set.
    """
    manifest = read_manifest(folder)
    known = {clip.clip_id for clip in lake.clips(manifest.dataset)}
    if not any(clip.clip_id in known for clip in manifest.clips):
        raise UserError(
            f"{folder}: no listed clip is a clip of data set {manifest.dataset!r} in this lake; "
            "check `dataset`, and that its clips were made here (`rotoscope status`)"
        )
    gone = (pc.field("prediction_id") == manifest.prediction_id) & ~one_of("clip_id", {clip.clip_id for clip in manifest.clips})
    lake.delete("predictions", gone, lineage)  # delivered before, and no longer: not part of these numbers any more
    lake.write("predictions", [_row(lake, folder, manifest, clip) for clip in manifest.clips], lineage)
    return manifest


def _row(lake: Lake, folder: Path, manifest: PredictionManifest, clip: PredictedClip) -> dict[str, Any]:
    path = folder / clip.file
    row = {
        "prediction_id": manifest.prediction_id,
        "clip_id": clip.clip_id,
        "dataset": manifest.dataset,
        "split": manifest.split,
        "method": manifest.method,
        "variant": manifest.variant,
        "seed": manifest.seed,
        "checkpoint_id": manifest.checkpoint_id,
        "sampler": manifest.sampler,
        "uri": lake.uri(path),
        "sha256": clip.sha256,
        "frames": clip.frames,
        "reference_frame": clip.reference_frame,
        "driving_clip_id": clip.driving_clip_id,
        "lossy": clip.lossy or (path.suffix.lower() in LOSSY_SUFFIXES and not path.name.endswith(LOSSLESS_SUFFIX)),
        "truth_sharpness": clip.truth_sharpness,
    }
    try:
        info = _checked_info(path, clip)
    except ClipError as error:
        return {**row, "status": "failed", "code": error.code, "reason": error.reason}
    return {**row, "width": info[0], "height": info[1], "status": "ok", "code": None, "reason": None}


def _checked_info(path: Path, clip: PredictedClip) -> tuple[int, int]:
    """(width, height); the file must be the one that the manifest describes."""
    if not path.is_file():
        raise ClipError(
            "missing_prediction",
            clip.clip_id,
            f"{path.name} is not in the folder",
            "deliver it, and import the folder again",
        )
    verify_file(path, clip.clip_id, clip.sha256)
    info = probe(path)
    if info.frames != clip.frames:
        raise ClipError(
            "frame_count",
            clip.clip_id,
            f"the manifest says {clip.frames} frames, {path.name} holds {info.frames}",
            "write the manifest again",
        )
    return info.width, info.height


def verify_file(path: Path, clip_id: str, sha256: str) -> None:
    """Raise ClipError unless the file's bytes are those that were recorded."""
    if not path.is_file():
        raise ClipError("missing_prediction", clip_id, f"{path.name} is gone", "generate the clip again, or import the folder again")
    if sha256_of_file(path) != sha256:
        raise ClipError(
            "unreadable",
            clip_id,
            f"{path.name} is not the file that was recorded (its sha256 differs)",
            "import its folder again",
        )


def pair_clips(lake: Lake, *, dataset: str, split: str, prediction_id: str) -> list[Pair]:
    """Every true clip of the split with its prediction, sorted by clip id.

    Raises UserError when the split has no clips, or the prediction is unknown or of another data set or split.
    """
    clips = lake.clips(dataset, split)
    if not clips:
        raise UserError(f"data set {dataset!r} has no usable clips in split {split!r}; {_splits(lake, dataset)}")
    rows = {row["clip_id"]: row for row in lake.rows("predictions", pc.field("prediction_id") == prediction_id)}
    if not rows:
        raise UserError(
            f"no predictions {prediction_id!r} in this lake; generate or import them first (`rotoscope query "
            '"select * from predictions"` lists them)'
        )
    named = next(iter(rows.values()))
    if (named["dataset"], named["split"]) != (dataset, split):
        raise UserError(f"prediction {prediction_id} was made for {named['dataset']}/{named['split']}, not for {dataset}/{split}")
    shas = truth_sha256s(lake, dataset)
    return [Pair(clip=clip, truth_sha256=shas[clip.clip_id], prediction=rows.get(clip.clip_id)) for clip in clips]


def driven_by_others(rows: Iterable[Mapping[str, Any]]) -> bool:
    """Whether these rows of `predictions` are of clips that another person's motion drives, which have no true clip."""
    return any(row.get("driving_clip_id") for row in rows)


def _splits(lake: Lake, dataset: str) -> str:
    found = {(row["dataset"], row["split"] or "") for row in lake.rows("clips", columns=["dataset", "split"])}
    return "there are: " + (", ".join(f"{name}/{split}" for name, split in sorted(found)) or "no clips at all")


def truth_sha256s(lake: Lake, dataset: str) -> dict[str, str]:
    """clip id -> sha256 of its source video."""
    rows = lake.rows("clips", pc.field("dataset") == dataset, columns=["clip_id", "video_sha256"])
    return {row["clip_id"]: row["video_sha256"] or "" for row in rows}


def delivered(pair: Pair) -> Mapping[str, Any]:
    """The prediction's row.

    ClipError (missing_prediction, or the code it failed with) where there is nothing to score.
    """
    row = pair.prediction
    if row is None:
        raise ClipError(
            "missing_prediction",
            pair.clip.clip_id,
            "the method did not deliver this clip",
            "generate it, or say so beside the number",
        )
    if row["status"] != "ok":
        raise ClipError(
            row["code"] or "missing_prediction",
            pair.clip.clip_id,
            row["reason"] or "generation failed",
            "generate it again",
        )
    return row


def check_frames(clip_id: str, prediction: Frames, truth: Frames, *, same_size: bool) -> None:
    """Raise ClipError (frame_count, frame_size) unless the two can be compared frame by frame."""
    if len(prediction) != len(truth):
        raise ClipError(
            "frame_count",
            clip_id,
            f"{len(prediction)} generated frames, {len(truth)} true ones",
            "generate one frame per driving frame",
        )
    generated, true = prediction.shape[1:3], truth.shape[1:3]
    if same_size and generated != true:
        raise ClipError(
            "frame_size",
            clip_id,
            f"generated frames are {generated[1]}x{generated[0]}, true ones {true[1]}x{true[0]}",
            "write the clips at the size of the truth; this protocol does not resize",
        )
    if min(*generated, *true) < SMALLEST_SIDE:
        raise ClipError(
            "frame_size",
            clip_id,
            f"frames of {generated[1]}x{generated[0]} are too small to score",
            f"at least {SMALLEST_SIDE} pixels a side",
        )
