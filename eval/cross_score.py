"""Clips that another person's motion drives: their scores and columns, from what the lake holds (eval/cross_identity.py is the arithmetic).

A score is of five things: generated clip, reference clip, driving clip, poses of both, network. A change of any makes it anew.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from eval.benchmark_notes import missing_note, no_value
from eval.clip_mean import mean_over_frames
from eval.cross_identity import OWN_MOTION, Points, cross_sides, followed_points, reference_picture
from eval.geometry import resize
from eval.media import pose_extractor_of
from eval.metrics import METRICS
from eval.networks import MetricNetworks
from eval.predictions import truth_sha256s, verify_file
from eval.protocol import Protocol
from eval.score import Progress, ScoreReport
from eval.score_digest import per_clip_metrics, why_none
from eval.sides import Sides
from pipelines.clip import Clip, Frames
from pipelines.errors import ClipError, UserError
from pipelines.lake import Lake
from pipelines.retarget import RETARGETS, Retarget
from pipelines.tables import one_of
from pipelines.video import decode_frames, read_video

_KEPT_PER_COMMIT = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Poses:
    """Of one clip; digest: of what made them."""

    points: Points  # [T, 133, 2] px
    scores: Points  # [T, 133]; 0 in frames without a person
    digest: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CrossClip:
    """A generated clip with the clips behind it. clip: whose person is shown; driver: whose motion is followed."""

    clip: Clip
    driver: Clip
    row: Mapping[str, Any]  # of `predictions`
    shas: tuple[str, str]  # of the videos of clip and driver
    poses: tuple[Poses | None, Poses | None]

    @property
    def retarget(self) -> Retarget:
        """How the driving pose was brought to the person; "limb" where the sampler does not say it."""
        try:
            said = json.loads(self.row["sampler"] or "{}").get("retarget", "limb")
        except (ValueError, AttributeError):
            return "limb"
        return said if said in RETARGETS else "limb"

    def digest(self, metric: str, networks: Mapping[str, str]) -> str | None:
        """Of all that a score is made of beside the generated clip and its reference; None where the clip cannot have it."""
        role = METRICS[metric].role
        network = "" if role is None else networks.get(role)
        if network is None:
            return None
        poses = [pose.digest if pose else "" for pose in self.poses] if role == "pose" else []
        return hashlib.sha256("|".join([network, self.shas[1], *poses, self.retarget if role == "pose" else ""]).encode()).hexdigest()

    def delivered(self) -> Mapping[str, Any]:
        """The row. Raises ClipError where there is no file to score."""
        if self.row["status"] != "ok":
            raise ClipError(
                self.row["code"] or "missing_prediction", self.clip.clip_id, self.row["reason"] or "generation failed", "generate it"
            )
        return self.row


def cross_clips(lake: Lake, dataset: str, prediction_id: str) -> list[CrossClip]:
    """Sorted by clip id; none where every clip follows its own motion. Raises UserError: no such prediction, one of its clips is gone."""
    all_rows = lake.rows("predictions", (pc.field("dataset") == dataset) & (pc.field("prediction_id") == prediction_id))
    if not all_rows:
        raise UserError(f"no predictions {prediction_id!r} of data set {dataset} in this lake; generate or import them first")
    rows = [row for row in all_rows if row["driving_clip_id"]]
    clips = {clip.clip_id: clip for clip in lake.clips(dataset)}
    gone = sorted({row[name] for row in rows for name in ("clip_id", "driving_clip_id")} - set(clips))
    if gone:
        raise UserError(f"prediction {prediction_id}: clip {gone[0]} is no clip of data set {dataset} any more; generate the clips again")
    shas = truth_sha256s(lake, dataset)
    poses = _poses(lake, dataset, {row[name] for row in rows for name in ("clip_id", "driving_clip_id")}, clips)
    made = []
    for row in sorted(rows, key=lambda one: str(one["clip_id"])):
        mine, theirs = row["clip_id"], row["driving_clip_id"]
        made.append(CrossClip(clip=clips[mine], driver=clips[theirs], row=row, shas=(shas[mine], shas[theirs]),
                              poses=(poses.get(mine), poses.get(theirs))))  # fmt: skip
    return made


def _poses(lake: Lake, dataset: str, wanted: set[str], clips: Mapping[str, Clip]) -> dict[str, Poses]:
    """Clip id -> poses of the extractor that training used; clips without any are not in it."""
    extractor = pose_extractor_of(lake, dataset)
    if extractor is None:
        return {}
    where = (pc.field("dataset") == dataset) & (pc.field("extractor") == extractor) & one_of("clip_id", wanted)
    of_clip: dict[str, list[Mapping[str, Any]]] = {}
    for row in lake.rows("poses", where):
        if row["frame"] >= 0 and row["keypoints"]:
            of_clip.setdefault(row["clip_id"], []).append(row)
    return {clip_id: _pose_arrays(rows, clips[clip_id].num_frames) for clip_id, rows in of_clip.items()}


def _pose_arrays(rows: Sequence[Mapping[str, Any]], frames: int) -> Poses:
    points, scores = np.zeros((frames, 133, 2), np.float32), np.zeros((frames, 133), np.float32)
    for row in rows:
        points[row["frame"]] = np.asarray(row["keypoints"], np.float32).reshape(-1, 2)
        scores[row["frame"]] = row["scores"]
    makers = sorted({f"{row['extractor']} {row['version']} {row['weights_digest']}" for row in rows})
    return Poses(points=points, scores=scores, digest="; ".join(makers))


def score_cross(lake: Lake, protocol: Protocol, *, dataset: str, split: str, prediction_id: str, ignore_cache: bool = False,
                progress: Progress | None = None, device: str = "cpu", lineage: Mapping[str, Any] | None = None) -> ScoreReport:  # fmt: skip
    """`eval.score.score` of a protocol with `driven_by` "cross"; of clips that follow their own motion nothing is computed, and `missing`
    says why. Raises UserError (`cross_clips`).
    """
    clips = cross_clips(lake, dataset, prediction_id)
    if not clips:
        return ScoreReport(
            protocol=protocol.name, dataset=dataset, split=split, prediction_id=prediction_id, missing={"driving": OWN_MOTION}
        )
    networks = MetricNetworks(protocol, device)
    named = {"protocol": protocol.name, "dataset": dataset, "split": split, "prediction_id": prediction_id}
    report = ScoreReport(protocol=protocol.name, dataset=dataset, split=split, prediction_id=prediction_id, clips=len(clips),
                         networks=dict(networks.digests), missing=dict(networks.missing))  # fmt: skip
    known = set() if ignore_cache else {_key(row) for row in _scores(lake, named)}
    kept: list[dict[str, Any]] = []
    for cross in clips:
        kept += _score_clip(_Scorer(protocol=protocol, networks=networks, named=named, cross=cross), lake, known, report)
        if progress is not None:
            progress(report.scored + report.cached + len(report.failed), report.clips)
        if len(kept) >= _KEPT_PER_COMMIT * len(protocol.metrics):
            lake.write("scores", kept, lineage)
            kept = []
    lake.write("scores", kept, lineage)
    return report


def _scores(lake: Lake, named: Mapping[str, str]) -> list[dict[str, Any]]:
    """Rows of `scores` with a number."""
    where = (pc.field("protocol") == named["protocol"]) & (pc.field("prediction_id") == named["prediction_id"])
    return [row for row in lake.rows("scores", where) if row["status"] == "ok"]


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("clip_id", "metric", "prediction_sha256", "truth_sha256", "weights_digest", "reference_frame"))


def _score_clip(scorer: _Scorer, lake: Lake, known: set[tuple[Any, ...]], report: ScoreReport) -> list[dict[str, Any]]:
    """New rows of one clip; a clip that cannot be scored gives failed rows."""
    wanted = [row for row in scorer.rows() if _key(row) not in known]
    try:
        scorer.cross.delivered()
        made = scorer.compute(lake, wanted) if wanted else []
    except ClipError as error:
        report.failed.append((scorer.cross.clip.clip_id, error.code, error.reason))
        return [{**row, "status": "failed", "code": error.code, "reason": error.reason} for row in scorer.rows()]
    report.scored, report.cached = report.scored + bool(wanted), report.cached + (not wanted)
    return made


@dataclass(frozen=True, kw_only=True, slots=True)
class _Scorer:
    """One clip under one protocol."""

    protocol: Protocol
    networks: MetricNetworks
    named: Mapping[str, str]
    cross: CrossClip

    def rows(self) -> list[dict[str, Any]]:
        """One per metric that the clip can have, without its number."""
        same = {**self.named, "clip_id": self.cross.clip.clip_id, "prediction_sha256": self.cross.row["sha256"] or "",
                "truth_sha256": self.cross.shas[0],
                **{name: self.cross.row[name] for name in ("reference_frame", "lossy", "truth_sharpness")}}  # fmt: skip
        digests = {metric: self.cross.digest(metric, self.networks.digests) for metric in per_clip_metrics(self.protocol)}
        return [{**same, "metric": metric, "weights_digest": digest} for metric, digest in digests.items() if digest is not None]

    def compute(self, lake: Lake, wanted: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The rows with their numbers. Raises ClipError."""
        sides, no_poses = self._sides(lake)
        made = []
        for row in wanted:
            if METRICS[row["metric"]].role == "pose" and no_poses:
                made.append({**row, "status": "failed", "code": "no_person", "reason": no_poses})
                continue
            values = METRICS[row["metric"]].values(sides)
            found = values[np.isfinite(values)]
            made.append({**row, "sum": math.fsum(found), "count": len(found), "status": "ok",
                         "per_frame": [float(value) if math.isfinite(value) else None for value in values]})  # fmt: skip
        return made

    def _sides(self, lake: Lake) -> tuple[Sides, str]:
        """Sides, and why nothing says where the person should be ("" = it is known)."""
        frames = self._frames(lake)
        size = (frames.shape[1], frames.shape[2])
        reference = self.cross.row["reference_frame"]
        picture = None if reference is None else reference_picture(decode_frames(self.cross.clip, [reference])[0], size)
        followed, why = self._followed(size, reference)
        sides = cross_sides(frames, picture, followed, lambda role, shown: self.networks.feature_function(role)(shown), self.networks.flow)
        return sides, why

    def _frames(self, lake: Lake) -> Frames:
        row, cross = self.cross.delivered(), self.cross
        path = lake.path(row["uri"])
        verify_file(path, cross.clip.clip_id, row["sha256"])
        frames = read_video(path)
        if len(frames) != cross.driver.num_frames:
            cause = f"{len(frames)} generated frames, the driving clip {cross.driver.clip_id} has {cross.driver.num_frames}"
            raise ClipError("frame_count", cross.clip.clip_id, cause, "generate one frame per driving frame")
        return resize(frames, *self.protocol.size_of(frames.shape[1], frames.shape[2]), self.protocol.resize)

    def _followed(self, size: tuple[int, int], reference: int | None) -> tuple[Any, str]:
        mine, theirs = self.cross.poses
        if reference is None or mine is None or theirs is None:
            return None, "no poses of the reference frame and the driving clip; extract them first"
        clip = self.cross.clip
        try:
            return followed_points(theirs.points, theirs.scores, mine.points[reference], mine.scores[reference],
                                   clip_size=(clip.height, clip.width), size=size, kind=self.cross.retarget), ""  # fmt: skip
        except ValueError as error:
            return None, str(error)


def cross_columns(lake: Lake, protocol: Protocol, digests: Mapping[str, str], dataset: str, prediction_id: str) -> Iterator[dict[str, Any]]:
    """Per metric the value, low, high, clips, frames, windows, note, metric, better and `inputs` of a row of `benchmark`.

    digests: role -> digest of the network of today; roles without one are not at hand.
    """
    clips = cross_clips(lake, dataset, prediction_id)
    scores = lake.rows("scores", (pc.field("protocol") == protocol.name) & (pc.field("prediction_id") == prediction_id))
    held = {_key(row): row for row in scores}
    for metric in protocol.metrics:
        made = {cross.clip.clip_id: cross.digest(metric, digests) for cross in clips}
        inputs = {
            "predictions": [(cross.clip.clip_id, cross.row["sha256"], cross.row["reference_frame"]) for cross in clips],
            "truth": [(cross.clip.clip_id, *cross.shas) for cross in clips],
            "network": "|".join(sorted({digest or "" for digest in made.values()})),
        }
        yield {**_column(protocol, metric, clips, made, held), "metric": metric, "better": METRICS[metric].better, "inputs": inputs}


def _column(protocol: Protocol, metric: str, clips: Sequence[CrossClip], digests: Mapping[str, str | None],
            held: Mapping[tuple[Any, ...], Mapping[str, Any]]) -> dict[str, Any]:  # fmt: skip
    if not any(digest is not None for digest in digests.values()):
        return no_value([why_none(METRICS[metric], protocol)])
    found = [held.get((cross.clip.clip_id, metric, cross.row["sha256"] or "", cross.shas[0], digests[cross.clip.clip_id],
                       cross.row["reference_frame"])) for cross in clips]  # fmt: skip
    codes = Counter("not scored yet" if row is None else str(row["code"]) for row in found if row is None or row["status"] != "ok")
    return mean_over_frames([row for row in found if row is not None and row["status"] == "ok"], missing_note(codes, len(clips)))
