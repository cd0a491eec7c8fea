"""Which clip of a folder answers which true clip, and everything that is wrong with that, before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from eval.foreign_clips import ForeignClip
from eval.geometry import same_aspect
from eval.protocol import Protocol
from pipelines.clip import Clip
from pipelines.errors import ClipError, Code, UserError

Problem = Literal["missing", "extra", "wrong length", "wrong size", "reference frame", "unreadable"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that does not fit."""

    problem: Problem
    name: str
    detail: str
    clip_id: str = ""  # of the true clip that it was to answer
    code: Code = "missing_prediction"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pairing:
    """matched: clip id -> (true clip, delivered clip, reference frame); only clips that can be scored."""

    clips: int  # of the split
    matched: Mapping[str, tuple[Clip, ForeignClip, int | None]]
    findings: tuple[Finding, ...]

    @property
    def refused(self) -> tuple[Finding, ...]:
        """Delivered for a clip of the split, but not as it can be scored."""
        return tuple(finding for finding in self.findings if finding.problem not in ("missing", "extra"))

    def text(self) -> str:
        """The report for people: one line of counts, then one line per finding, missing clips first."""
        lossy = sum(foreign.lossy for _, foreign, _ in self.matched.values())
        counts = {finding.problem: sum(f.problem == finding.problem for f in self.findings) for finding in self.findings}
        parts = [f"{len(self.matched)} of {self.clips} clips can be scored", *(f"{count} {name}" for name, count in counts.items())]
        lines = [", ".join(parts) + (f"; {lossy} lossy" if lossy else "")]
        gray = [foreign.name for _, foreign, _ in self.matched.values() if foreign.gray]
        return "\n".join([*lines, *(f"  {f.problem}: {f.name}: {f.detail}" for f in self.findings),
                          *(f"  grayscale: {name}: its images have one channel and are scored as they are" for name in gray)])  # fmt: skip


def pair(clips: Sequence[Clip], delivered: Sequence[ForeignClip], protocol: Protocol, reference_frame: int | None) -> Pairing:
    """Match by clip id, or by video id where the video has one clip in the split; decode each delivered clip once to check it.

    reference_frame: of clips whose meta.json has no ref_index; None = the reference is no frame of the clip.
    Raises UserError when two delivered clips answer one true clip.
    """
    names = clip_names(clips)
    answers: dict[str, ForeignClip] = {}
    findings = []
    for foreign in delivered:
        clip = names.get(foreign.name)
        if clip is None:
            findings.append(Finding(problem="extra", name=foreign.name, detail="no clip or single-clip video of the split has this name"))
        elif clip.clip_id in answers:
            raise UserError(f"{answers[clip.clip_id].name} and {foreign.name} both answer clip {clip.clip_id}; keep one of them")
        else:
            answers[clip.clip_id] = foreign
    missing = [Finding(problem="missing", name=c.clip_id, detail=f"video {c.video_id}") for c in clips if c.clip_id not in answers]
    matched = {}
    for clip in clips:
        if clip.clip_id in answers:
            foreign = answers[clip.clip_id]
            reference = foreign.meta.get("ref_index", reference_frame)
            wrong = _wrong(clip, foreign, protocol, reference)
            findings += [wrong] if wrong else []
            if wrong is None:
                matched[clip.clip_id] = (clip, foreign, reference)
    return Pairing(clips=len(clips), matched=matched, findings=(*missing, *findings))


def clip_names(clips: Sequence[Clip]) -> dict[str, Clip]:
    """Clip id -> clip, and video id -> clip where the video has one clip among these."""
    videos = [clip.video_id for clip in clips]
    alone = {clip.video_id: clip for clip in clips if videos.count(clip.video_id) == 1}
    return {**alone, **{clip.clip_id: clip for clip in clips}}


def _wrong(clip: Clip, foreign: ForeignClip, protocol: Protocol, reference: int | None) -> Finding | None:
    """The first thing that keeps this clip from being scored."""

    def finding(problem: Problem, code: Code, detail: str) -> Finding:
        return Finding(problem=problem, name=foreign.name, detail=detail, clip_id=clip.clip_id, code=code)

    if reference is not None and not 0 <= reference < clip.num_frames:
        return finding("reference frame", "bad_annotation", f"{reference} is not in 0..{clip.num_frames - 1}")
    crop = foreign.meta.get("crop_box_in_source")
    if crop is not None and list(crop) != [0, 0, clip.width, clip.height]:
        detail = f"made from the crop {crop} of {clip.width}x{clip.height}; deliver whole frames, or make the data set of the cropped clips"
        return finding("wrong size", "frame_size", detail)
    try:
        frames = foreign.frames(clip.num_frames)
    except ClipError as error:
        return finding("wrong length" if error.code == "frame_count" else "unreadable", error.code, error.reason)
    if len(frames) != clip.num_frames:
        return finding("wrong length", "frame_count", f"{len(frames)} frames, the true clip has {clip.num_frames}")
    height, width = frames.shape[1:3]
    if not _fits((height, width), clip, protocol):
        return finding("wrong size", "frame_size", f"{width}x{height}, the true clip is {clip.width}x{clip.height}")
    return None


def _fits(size: tuple[int, int], clip: Clip, protocol: Protocol) -> bool:
    """Under a protocol that resizes only the aspect counts; eval/geometry.py decides the same again for every clip."""
    if protocol.short_side is None and protocol.prediction_resize == "same":
        return size == (clip.height, clip.width)
    return same_aspect(protocol, (clip.height, clip.width), size)
