"""Source video -> shots -> clips: hard cuts by PySceneDetect, a fixed greatest length, exact frame indices.

Frames come from our own decoder at reduced size, so that an index here is an index everywhere (containers with wrong
timestamps included), and memory does not grow with the video.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.clip import Frames, clip_id_of
from pipelines.errors import ClipError
from pipelines.video import iterate_frames


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitRule:
    """How shots become clips; stored with the run, so that clips can be traced to their thresholds.

    The two detectors vote for hard cuts: a cut is a frame whose content differs from its predecessor's absolutely
    (content_threshold, PySceneDetect's HSV distance) and stands out from its neighbours (adaptive_ratio).
    """

    content_threshold: float = 22.0  # mean HSV difference, 0..255
    adaptive_ratio: float = 3.0  # difference over the mean difference of the neighbouring frames
    window_width: int = 2  # neighbours on each side
    min_frames: int = 8  # shorter shots are kept as dropped rows
    max_seconds: float = 10.0  # longer shots are cut into equal parts
    analysis_width_px: int = 256

    def __post_init__(self) -> None:
        if self.min_frames < 1 or self.max_seconds <= 0:
            raise ValueError(f"min_frames={self.min_frames} and max_seconds={self.max_seconds} must be positive")


@dataclass(frozen=True, slots=True)
class Index:
    """What one decode of a whole video tells: presentation stamps (None where the container has none) and cuts."""

    pts: list[int | None]
    cuts: list[int]  # first frame of each new shot


def index_video(path: Path, rule: SplitRule, promised_frames: int | None = None) -> Index:
    """Decode once; frame stamps and hard cuts. Raises ClipError (truncated when fewer frames decode than promised)."""
    pts: list[int | None] = []

    def analysed() -> Iterable[Frames]:
        for _, stamp, image in iterate_frames(path):
            pts.append(stamp)
            yield _reduced(image, rule.analysis_width_px)

    cuts = find_cuts(analysed(), rule)
    if promised_frames is not None and promised_frames - len(pts) > 2:
        raise ClipError("truncated", path.name, f"the header says {promised_frames} frames, {len(pts)} decode", "copy or download it again")
    return Index(pts, cuts)


def find_cuts(frames: Iterable[Frames], rule: SplitRule) -> list[int]:
    """First frames of new shots; `frames` are [H, W, 3] RGB in presentation order."""
    from scenedetect import AdaptiveDetector, FrameTimecode

    logging.getLogger("pyscenedetect").setLevel(logging.ERROR)
    detector = AdaptiveDetector(
        adaptive_threshold=rule.adaptive_ratio, min_scene_len=1, window_width=rule.window_width, min_content_val=rule.content_threshold
    )
    cuts: list[int] = []
    for number, image in enumerate(frames):
        found = detector.process_frame(FrameTimecode(number, fps=25.0), np.ascontiguousarray(image[..., ::-1]))
        cuts.extend(cut.frame_num for cut in found)
    return sorted({cut for cut in cuts if cut > 0})


def _reduced(image: Frames, width: int) -> Frames:
    import cv2

    height, full = image.shape[:2]
    if full <= width:
        return image
    size = (width, max(1, round(height * width / full)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def ranges_of(num_frames: int, cuts: Sequence[int], fps: Fraction, rule: SplitRule) -> list[tuple[int, int]]:
    """[start, end) frame ranges that cover the video: every cut is an edge, and no range is longer than max_seconds."""
    longest = max(rule.min_frames, int(rule.max_seconds * fps))
    ranges = []
    for start, end in pairwise([0, *cuts, num_frames]):
        pieces = -(-(end - start) // longest)
        edges = [start + round(i * (end - start) / pieces) for i in range(pieces + 1)]
        ranges += list(pairwise(edges))
    return ranges


def split_video(video: Mapping[str, Any], path: Path, rule: SplitRule) -> list[dict[str, Any]]:
    """Rows of the `clips` table for one row of `videos`; a video that does not decode is one row with status failed."""
    fps = Fraction(video["fps_num"], video["fps_den"])
    try:
        index = index_video(path, rule, video["frames"])
    except ClipError as error:
        row = _clip_row(video, (0, video["frames"]), fps, [None] * video["frames"])
        return [{**row, "status": "failed", "code": error.code, "reason": error.reason}]
    ranges = ranges_of(len(index.pts), index.cuts, fps, rule)
    return [_verdict(_clip_row(video, frames, fps, index.pts), rule) for frames in ranges]


def _verdict(row: dict[str, Any], rule: SplitRule) -> dict[str, Any]:
    length = row["end_frame"] - row["start_frame"]
    if length >= rule.min_frames:
        return {**row, "status": "ok", "code": None, "reason": None}
    reason = f"{length} frames between two cuts, the smallest clip has {rule.min_frames}; lower min_frames to keep it"
    return {**row, "status": "dropped", "code": "too_short", "reason": reason}


def _clip_row(video: Mapping[str, Any], frames: tuple[int, int], fps: Fraction, pts: Sequence[int | None]) -> dict[str, Any]:
    start, end = frames
    time_base = Fraction(video["time_base_num"], video["time_base_den"])
    start_pts, end_pts = _pts_range(pts, start, end)
    origin = next((stamp for stamp in pts if stamp is not None), 0)
    start_s = float(start / fps) if start_pts is None else float((start_pts - origin) * time_base)
    end_s = float(end / fps) if end_pts is None else float((end_pts - origin) * time_base)
    kept = ("dataset", "video_id", "uri", "split", "subject", "time_base_num", "time_base_den", "fps_num", "fps_den", "width", "height")
    return {
        **{name: video[name] for name in kept},
        "clip_id": clip_id_of(video["sha256"], start, end),
        "video_sha256": video["sha256"],
        "start_frame": start,
        "end_frame": end,
        "start_s": start_s,
        "end_s": end_s,
        "start_pts": start_pts,
        "end_pts": end_pts,
    }


def _pts_range(pts: Sequence[int | None], start: int, end: int) -> tuple[int | None, int | None]:
    """[start, end) in ticks, or (None, None) where stamps are missing or go backwards (then frames are counted)."""
    stamps = [stamp for stamp in pts if stamp is not None]
    if len(stamps) < len(pts) or len(stamps) < 2 or any(b <= a for a, b in pairwise(stamps)):
        return None, None
    after_last = 2 * stamps[-1] - stamps[-2]
    return stamps[start], [*stamps, after_last][end]


def rule_json(rule: SplitRule) -> dict[str, Any]:
    """The rule as metadata."""
    return asdict(rule)
