"""Clips side by side: reference, driving pose, truth, every method."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from eval.media import image_data_uri, pose_extractor_of, pose_frames, video_data_uri
from eval.method_names import method_detail, method_title
from pipelines.clip import Clip
from pipelines.errors import ClipError
from pipelines.lake import Lake
from pipelines.video import decode_frames, read_video

Predictions = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""prediction id -> clip id -> row of `predictions`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """One picture of a side-by-side row; `uri` is a data: URI, or None with the reason."""

    title: str
    detail: str
    kind: str  # image | video | none
    uri: str | None
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Strip:
    """Panels of one clip, left to right."""

    clip_id: str
    caption: str
    panels: tuple[Panel, ...]


def clip_strips(lake: Lake, dataset: str, clips: Iterable[Clip], predictions: Predictions) -> list[Strip]:
    """One strip per clip: reference, driving pose, truth, every method."""
    extractor = pose_extractor_of(lake, dataset)
    return [_strip(lake, clip, predictions, extractor) for clip in clips]


def _strip(lake: Lake, clip: Clip, predictions: Predictions, extractor: str | None) -> Strip:
    truth = decode_frames(clip)
    references = [rows[clip.clip_id]["reference_frame"] for rows in predictions.values() if clip.clip_id in rows]
    shown = next((frame for frame in references if frame is not None), None)
    panels = []
    if shown is not None:
        panels.append(Panel(title="Reference", detail=f"frame {shown}", kind="image", uri=image_data_uri(truth[shown])))
    poses = None if extractor is None else pose_frames(lake, clip, extractor)
    if poses is not None:
        uri = video_data_uri(poses, clip.fps)
        panels.append(Panel(title="Driving pose", detail=f"extractor: {extractor}", kind="video", uri=uri))
    panels.append(Panel(title="Truth", detail="", kind="video", uri=video_data_uri(truth, clip.fps)))
    panels += [method_panel(lake, clip, rows) for rows in predictions.values() if rows]
    who = f", {clip.subject}" if clip.subject else ""
    caption = f"{clip.num_frames} frames, {clip.width}×{clip.height}, {float(clip.fps):g} fps{who}"
    return Strip(clip_id=clip.clip_id, caption=caption, panels=tuple(panels))


def truth_panel(clip: Clip) -> Panel:
    """The true clip, or why there is none."""
    try:
        return Panel(title="Truth", detail="", kind="video", uri=video_data_uri(decode_frames(clip), clip.fps))
    except ClipError as error:
        return Panel(title="Truth", detail="", kind="none", uri=None, reason=error.reason)


def method_panel(lake: Lake, clip: Clip, rows: Mapping[str, Mapping[str, Any]]) -> Panel:
    """One method's clip, or why there is none. rows: clip id -> row of `predictions`."""
    some = next(iter(rows.values()), None)
    title, detail = (method_title(some), method_detail(some)) if some else ("", "")
    row = rows.get(clip.clip_id)
    if row is None or row["status"] != "ok":
        return Panel(title=title, detail=detail, kind="none", uri=None, reason=(row or {}).get("reason") or "not delivered")
    try:
        uri = video_data_uri(read_video(lake.path(row["uri"])), clip.fps)
    except ClipError as error:
        return Panel(title=title, detail=detail, kind="none", uri=None, reason=error.reason)
    return Panel(title=title, detail=detail, kind="video", uri=uri)
