"""Source video -> shots -> clips: hard cuts and fades, a fixed greatest length, exact frame indices.

A row of `videos` may name a part of its file (range_start_s, range_end_s) and of its frame (crop). Then only that part is decoded,
cuts inside it still split it, and its clips carry the crop.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

from pipelines.clip import Frames, clip_id_of
from pipelines.cuts import find_cuts, reduced, small_picture
from pipelines.errors import ClipError
from pipelines.image_sequence import image_frames
from pipelines.split_rule import SplitRule, rule_json
from pipelines.video_stream import decoded, list_packets, opened, sorted_stamps

__all__ = ["Index", "SplitRule", "failed_clip", "find_cuts", "index_part", "index_video", "ranges_of", "rule_json", "split_video"]

_MARGIN = 8  # frames decoded on each side of a part, so that the detectors see the neighbours of its first and last frames


@dataclass(frozen=True, slots=True)
class Index:
    """What one decode tells: presentation stamps of the whole file (None where the container has none), and cuts.

    start, end: the frames [start, end) that were asked for; cuts lie between them.
    """

    pts: list[int | None]
    cuts: list[int]  # first frame of each new shot
    start: int
    end: int


def index_video(path: Path, rule: SplitRule, promised_frames: int | None = None) -> Index:
    """Decode once; frame stamps and cuts. Raises ClipError (truncated when fewer frames decode than promised)."""
    pts: list[int | None] = []
    cuts = find_cuts(_analysed(path, rule, pts), rule)
    _check_count(path, len(pts), promised_frames)
    return Index(pts, cuts, 0, len(pts))


def _analysed(path: Path, rule: SplitRule, pts: list[int | None]) -> Iterator[Frames]:
    """Small pictures of all frames; their stamps are appended to `pts`."""
    if path.is_dir():
        for image in image_frames(path):
            pts.append(None)
            yield reduced(image, rule.analysis_width_px)
        return
    for frame in decoded(path, path.name):
        pts.append(frame.pts)
        yield small_picture(frame, rule.analysis_width_px)


def _check_count(path: Path, held: int, promised: int | None) -> None:
    if promised is not None and promised - held > 2:
        raise ClipError("truncated", path.name, f"the header says {promised} frames, {held} decode", "copy or download it again")


def index_part(path: Path, rule: SplitRule, start_s: float, end_s: float, fps: Fraction, promised_frames: int | None = None) -> Index:
    """As index_video, for the frames nearest to [start_s, end_s) counted from the first frame; the rest is not decoded.

    Where the container's stamps are not to be relied on, all is decoded. Raises ClipError: bad_annotation where the part is
    empty or begins behind the end, and those of index_video.
    """
    found = None if path.is_dir() else _index_stamped(path, rule, (start_s, end_s), fps, promised_frames)
    if found is not None:
        return found
    whole = index_video(path, rule, promised_frames)
    start, end = _part_of(path, [float(number / fps) for number in range(len(whole.pts))], (start_s, end_s), fps)
    return Index(whole.pts, [cut for cut in whole.cuts if start < cut < end], start, end)


def _index_stamped(path: Path, rule: SplitRule, seconds: tuple[float, float], fps: Fraction, promised: int | None) -> Index | None:
    """The part by its stamps; None where decoding does not give the frames that the container lists."""
    with opened(path) as (container, stream):
        time_base = Fraction(stream.time_base)
        stamps = sorted_stamps(list_packets(container, stream, path.name))
    if not stamps:
        return None
    _check_count(path, len(stamps), promised)
    start, end = _part_of(path, [float((stamp - stamps[0]) * time_base) for stamp in stamps], seconds, fps)
    first, last = max(0, start - _MARGIN), min(len(stamps), end + _MARGIN)
    seen: list[int | None] = []
    cuts = find_cuts(_analysed_between(path, rule, stamps[first], stamps[last - 1], seen), rule)
    if seen != stamps[first:last]:
        return None
    return Index(list(stamps), [first + cut for cut in cuts if start < first + cut < end], start, end)


def _analysed_between(path: Path, rule: SplitRule, first: int, last: int, pts: list[int | None]) -> Iterator[Frames]:
    for frame in decoded(path, path.name, seek_pts=first):
        if frame.pts is None or frame.pts < first:
            continue
        if frame.pts > last:
            return
        pts.append(frame.pts)
        yield small_picture(frame, rule.analysis_width_px)


def _part_of(path: Path, times_s: Sequence[float], seconds: tuple[float, float], fps: Fraction) -> tuple[int, int]:
    """[start, end) frames nearest to the two times."""
    half = 0.5 / float(fps)
    start, end = (bisect_left(times_s, second - half) for second in seconds)
    if start >= end:
        cause = f"the part {seconds[0]:g} to {seconds[1]:g} s holds no frame of a video of {times_s[-1] + 2 * half:.2f} s"
        raise ClipError("bad_annotation", path.name, cause, "mend the range in the list, or remove the row")
    return start, end


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
        _check_crop(video)
        index = _index_of(video, path, rule, fps)
    except ClipError as error:
        return [failed_clip(video, error)]
    inside = ranges_of(index.end - index.start, [cut - index.start for cut in index.cuts], fps, rule)
    ranges = [(index.start + start, index.start + end) for start, end in inside]
    return [_verdict(_clip_row(video, frames, fps, index.pts), rule) for frames in ranges]


def failed_clip(video: Mapping[str, Any], error: ClipError) -> dict[str, Any]:
    """The one row of a video that gave no clips: all of its frames, and why."""
    row = _clip_row(video, (0, video["frames"]), Fraction(video["fps_num"], video["fps_den"]), [None] * video["frames"])
    return {**row, "status": "failed", "code": error.code, "reason": error.reason}


def _index_of(video: Mapping[str, Any], path: Path, rule: SplitRule, fps: Fraction) -> Index:
    start_s, end_s = video.get("range_start_s"), video.get("range_end_s")
    if start_s is None and end_s is None:
        return index_video(path, rule, video["frames"])
    return index_part(path, rule, start_s or 0.0, float("inf") if end_s is None else end_s, fps, video["frames"])


def _check_crop(video: Mapping[str, Any]) -> None:
    if not video.get("crop"):
        return
    x, y, w, h = video["crop"]
    if min(x, y) < 0 or min(w, h) < 1 or x + w > video["width"] or y + h > video["height"]:
        cause = f"the crop {x}, {y}, {w}, {h} (x, y, w, h) lies outside the frame of {video['width']}x{video['height']}"
        raise ClipError("bad_annotation", video["video_id"], cause, "mend the crop in the list, or remove the row")


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
    crop = list(video["crop"]) if video.get("crop") else None
    return {
        **{name: video[name] for name in kept},
        "clip_id": clip_id_of(video["sha256"], start, end, crop),
        "video_sha256": video["sha256"],
        "crop": crop,
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
