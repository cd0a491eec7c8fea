"""make_study(): predictions of the lake become one static page for raters.

A trial shows a reference image, the pose sequence, and two clips of one true clip: ours and a competitor's. Files have names
that say nothing; all clips go through the same codec at the same size. Each rater's order and sides follow from the study's
seed and the rater's name, in the page (eval/templates/user_study_script.html).
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from eval.geometry import resize
from eval.media import pose_extractor_of, pose_frames, preview_size, video_data_uri
from eval.method_names import method_detail, method_title
from eval.page import render, write_file
from eval.user_study.questions import QUESTIONS
from pipelines.clip import Clip, Frames
from pipelines.errors import ClipError, UserError
from pipelines.lake import Lake
from pipelines.prediction_manifest import MANIFEST, read_manifest
from pipelines.video import decode_frames, encode_video, read_video

FORMAT = "rotoscope-user-study-1"
PAGE = "index.html"
_ASPECT_TOLERANCE = 0.05  # a side may be rounded to what a network wants; such clips are shown at the true clip's size


@dataclass(frozen=True, kw_only=True, slots=True)
class StudySettings:
    """What a study asks of whom. clips, per_rater: None = all."""

    title: str = "Which clip is better?"
    seed: int = 0
    clips: int | None = 30  # true clips that are shown, drawn by the seed (the paper shows 30)
    per_rater: int | None = None  # pairs that one rater sees, drawn by seed and rater
    catch: int = 0  # hidden pairs with a known answer: the true clip against a spoilt one
    short_side: int = 512  # of the shown clips, at most
    embed: bool = False  # everything inside the page, instead of a folder media/ beside it

    def __post_init__(self) -> None:
        for name, least in (("clips", 1), ("per_rater", 1), ("catch", 0), ("short_side", 64)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"--{name.replace('_', '-')} {value}: must be {least} or more")


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """Who made a clip, as answers name it."""

    prediction: str
    method: str
    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One pair. files: reference, pose (or none), ours, other -> address in the page."""

    id: str
    clip: str
    ours: Side
    other: Side
    catch: bool
    files: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyMade:
    """The page and what is in it; skipped: (clip, prediction, why)."""

    page: Path
    study: str
    trials: int
    skipped: tuple[tuple[str, str, str], ...]


def resolve_prediction(lake: Lake, name: str) -> list[dict[str, Any]]:
    """Rows of `predictions` by id, METHOD[:VARIANT[:SEED]] or a folder with manifest.json. Raises UserError unless it is exactly one."""
    if (Path(name) / MANIFEST).is_file():
        name = read_manifest(Path(name)).prediction_id
    rows = lake.rows("predictions", pc.field("prediction_id") == name) or _named(lake, name)
    ids = sorted({row["prediction_id"] for row in rows})
    if len(ids) != 1:
        several = (
            f"several predictions are called so: {', '.join(ids)}"
            if ids
            else "no such prediction in this lake; generate or import it first"
        )
        raise UserError(
            f'--predictions {name}: {several} (`rotoscope query "select distinct prediction_id, method, variant, seed from predictions"`)'
        )
    return rows


def _named(lake: Lake, name: str) -> list[dict[str, Any]]:
    method, *rest = name.split(":")
    wanted = dict(zip(("variant", "seed"), rest, strict=False))
    rows = lake.rows("predictions", pc.field("method") == method)
    return [row for row in rows if all(str(row[key]) == value for key, value in wanted.items())]


def make_study(lake: Lake, predictions: Sequence[str], out: Path, settings: StudySettings) -> StudyMade:
    """Write the page. predictions: ours first, then at least one competitor (`resolve_prediction`).

    Raises UserError: fewer than two, other data sets, no clip that two of them delivered.
    """
    chosen = [resolve_prediction(lake, name) for name in predictions]
    if len(chosen) < 2 or len({rows[0]["prediction_id"] for rows in chosen}) != len(chosen):
        raise UserError("--predictions: give ours first and then each competitor once, two or more in all")
    groups = {(rows[0]["dataset"], rows[0]["split"]) for rows in chosen}
    if len(groups) != 1:
        raise UserError(
            f"--predictions are of {', '.join('/'.join(group) for group in sorted(groups))}; one study shows one data set and split"
        )
    ((dataset, split),) = groups
    clips = {clip.clip_id: clip for clip in lake.clips(dataset)}
    media = _Media(lake=lake, out=out, settings=settings, clips=clips, extractor=pose_extractor_of(lake, dataset))
    trials, skipped = _trials(media, _drawn([clip for clip in clips.values() if clip.split == split], chosen, settings), chosen)
    if not [trial for trial in trials if not trial.catch]:
        raise UserError(f"--predictions: no clip of {dataset}/{split} was delivered by ours and a competitor")
    page = _page(trials, settings)
    write_file(out / PAGE, render("user_study.html", {"study": page, "title": settings.title}))
    return StudyMade(page=out / PAGE, study=str(page["study"]), trials=len(trials), skipped=tuple(skipped))


def _drawn(clips: Sequence[Clip], chosen: Sequence[Sequence[Mapping[str, Any]]], settings: StudySettings) -> list[Clip]:
    """Clips that ours and a competitor delivered; `settings.clips` of them."""
    ours, *others = ({row["clip_id"] for row in rows if row["status"] == "ok"} for rows in chosen)
    both = sorted((clip for clip in clips if clip.clip_id in ours & set().union(*others)), key=lambda clip: clip.clip_id)
    wanted = len(both) if settings.clips is None else min(settings.clips, len(both))
    return random.Random(settings.seed).sample(both, wanted)


def _trials(
    media: _Media, clips: Sequence[Clip], chosen: Sequence[Sequence[Mapping[str, Any]]]
) -> tuple[list[Trial], list[tuple[str, str, str]]]:
    """Every clip against every competitor, then the hidden pairs."""
    ours, *others = ({row["clip_id"]: row for row in rows} for rows in chosen)
    trials, skipped = [], []
    for clip in clips:
        for other in others:
            try:
                trials.append(media.trial(clip, ours[clip.clip_id], other.get(clip.clip_id)))
            except ClipError as error:
                skipped.append((clip.clip_id, next(iter(other.values()))["prediction_id"], error.reason))
    shown = [clip for clip in clips if any(trial.clip == clip.clip_id for trial in trials)]
    caught = [media.catch(shown[i % len(shown)], ours, i) for i in range(media.settings.catch)] if shown else []
    return [*trials, *caught], skipped


@dataclass(frozen=True, kw_only=True)
class _Media:
    """Writes the files that trials show; each once."""

    lake: Lake
    out: Path
    settings: StudySettings
    clips: Mapping[str, Clip]  # of the data set, by id
    extractor: str | None

    def trial(self, clip: Clip, ours: Mapping[str, Any], other: Mapping[str, Any] | None) -> Trial:
        """Raises ClipError where one of the clips cannot be shown."""
        if other is None or other["status"] != "ok":
            raise ClipError("missing_prediction", clip.clip_id, (other or {}).get("reason") or "not delivered", "generate it")
        driver = self._driver(clip, ours, other)
        files = {
            **self._shown_first(clip, ours["reference_frame"], driver),
            "ours": self._generated(clip, ours, driver),
            "other": self._generated(clip, other, driver),
        }
        name = self._name("trial", clip.clip_id, *(f"{row['prediction_id']} {row['sha256']}" for row in (ours, other)))
        return Trial(id=name, clip=clip.clip_id, ours=_side(ours), other=_side(other), catch=False, files=files)

    def catch(self, clip: Clip, ours: Mapping[str, Mapping[str, Any]], number: int) -> Trial:
        """The true clip ("ours") against the same clip spoilt, so that every question has one right answer."""
        truth = decode_frames(clip)
        files = {
            **self._shown_first(clip, ours[clip.clip_id]["reference_frame"], clip),
            "ours": self._video(clip, truth, "truth"),
            "other": self._video(clip, spoilt(truth, self.settings.seed), "spoilt"),
        }
        sides = [Side(prediction="", method=name, name=name) for name in ("truth", "spoilt")]
        return Trial(
            id=self._name("catch", clip.clip_id, str(number)), clip=clip.clip_id, ours=sides[0], other=sides[1], catch=True, files=files
        )

    def _driver(self, clip: Clip, ours: Mapping[str, Any], other: Mapping[str, Any]) -> Clip:
        """Whose motion both follow: the clip's own, or another person's."""
        driven = {row.get("driving_clip_id") or clip.clip_id for row in (ours, other)}
        if len(driven) != 1 or not driven <= set(self.clips):
            cause = f"the two clips follow the motion of {' and '.join(sorted(driven))}"
            raise ClipError("missing_prediction", clip.clip_id, cause, "compare clips that one clip of this data set drives")
        return self.clips[driven.pop()]

    def _shown_first(self, clip: Clip, reference: int | None, driver: Clip) -> dict[str, str]:
        """Reference image and pose sequence, as the paper presents them before the two clips."""
        frame = decode_frames(clip, [reference or 0])[0]
        files = {"reference": self._image(clip, frame)}
        poses = None if self.extractor is None else pose_frames(self.lake, driver, self.extractor)
        return files if poses is None else {**files, "pose": self._video(driver, poses, "pose")}

    def _generated(self, clip: Clip, row: Mapping[str, Any], driver: Clip) -> str:
        return self._video(clip, read_video(self.lake.path(row["uri"])), row["prediction_id"], driver.fps)

    def _name(self, *parts: str) -> str:
        """16 hex digits that say nothing to who does not know the seed and all of this."""
        return hashlib.sha256("|".join([str(self.settings.seed), *parts]).encode()).hexdigest()[:16]

    def _video(self, clip: Clip, frames: Frames, what: str, fps: Fraction | None = None) -> str:
        height, width = shown_size(clip, frames, self.settings.short_side)
        path = self.out / "media" / f"{self._name(what, clip.clip_id)}.mp4"
        if self.settings.embed:
            return video_data_uri(frames, fps or clip.fps, size=(height, width))
        encode_video(path, resize(frames, height, width), fps or clip.fps)
        return f"media/{path.name}"

    def _image(self, clip: Clip, frame: Frames) -> str:
        from PIL import Image

        stream = io.BytesIO()
        small = resize(frame[None], *preview_size(*frame.shape[:2], short_side=self.settings.short_side))[0]
        Image.fromarray(small).save(stream, format="png", optimize=True)
        if self.settings.embed:
            return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
        path = self.out / "media" / f"{self._name('reference', clip.clip_id)}.png"
        write_file(path, stream.getvalue())
        return f"media/{path.name}"


def _side(row: Mapping[str, Any]) -> Side:
    detail = method_detail(row)
    return Side(prediction=row["prediction_id"], method=row["method"], name=method_title(row) + (f" ({detail})" if detail else ""))


def shown_size(clip: Clip, frames: Frames, short_side: int) -> tuple[int, int]:
    """(height, width): that of the true clip's preview, so that size tells nobody who made a clip; another aspect keeps its own."""
    height, width = frames.shape[1:3]
    same = abs((width / height) / (clip.width / clip.height) - 1) <= _ASPECT_TOLERANCE
    return preview_size(*((clip.height, clip.width) if same else (height, width)), short_side=short_side)


def spoilt(frames: Frames, seed: int) -> Frames:
    """[T, H, W, 3] worse in everything that is asked: frames in another order, colours turned, and blocks of an eighth of the short side."""
    order = np.random.default_rng(seed).permutation(len(frames))
    block = max(2, min(frames.shape[1:3]) // 8)
    rows, columns = (np.minimum(np.arange(side) // block * block + block // 2, side - 1) for side in frames.shape[1:3])
    return np.ascontiguousarray(frames[order][:, rows][:, :, columns][..., ::-1])


def _page(trials: Sequence[Trial], settings: StudySettings) -> dict[str, Any]:
    """What the page knows. `study` is a digest of it, files left out: answers of another study are never mixed in."""
    said = [{name: value for name, value in asdict(trial).items() if name != "files"} for trial in trials]
    shown = {"format": FORMAT, "title": settings.title, "seed": settings.seed, "per_rater": settings.per_rater,
             "questions": [{"id": q.id, "aspect": q.aspect, "text": q.text} for q in QUESTIONS]}  # fmt: skip
    digest = hashlib.sha256(json.dumps([shown, said], sort_keys=True).encode()).hexdigest()[:16]
    return {**shown, "study": digest, "trials": [asdict(trial) for trial in trials]}
