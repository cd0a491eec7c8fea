"""The `clips` table of one data set: only videos that changed, or that another rule cut, are decoded again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict
from typing import Any

import pyarrow.compute as pc

from pipelines.code_version import code_version
from pipelines.errors import ClipError, UserError
from pipelines.guarded import guarded_split
from pipelines.lake import Lake
from pipelines.progress import Progress
from pipelines.split import SplitRule, failed_clip
from pipelines.tables import one_of

CODE = code_version(
    *(
        f"pipelines/{name}.py"
        for name in ("split", "split_rule", "cuts", "fades", "video", "video_stream", "clip_frames", "image_sequence", "clip")
    )
)


def rule_digest(rule: SplitRule) -> str:
    """12 hex digits over the thresholds and the code that applies them."""
    return hashlib.sha256(json.dumps([asdict(rule), CODE], sort_keys=True).encode()).hexdigest()[:12]


def split_into(lake: Lake, dataset: str, rule: SplitRule, lineage: Mapping[str, Any] | None = None) -> None:
    """Bring `clips` up to date with `videos`. Raises UserError when no video or no clip is usable; the rows say why."""
    mine, digest = pc.field("dataset") == dataset, rule_digest(rule)
    videos = lake.rows("videos", mine & (pc.field("status") == "ok"))
    held: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in lake.rows("clips", mine):
        held.setdefault((row["video_id"], row["split_rule"]), []).append(row)
    fresh = [video for video in videos if (video["video_id"], _made_from(video, digest)) not in held]
    rows = [row for video in videos for row in held.get((video["video_id"], _made_from(video, digest)), [])]
    with closing(Progress(len(fresh), "videos", f"split {dataset}", shown=bool(fresh))) as bar:
        for video in fresh:
            rows += [{**row, "split_rule": _made_from(video, digest)} for row in _clips_of(lake, video, rule)]
            bar.update(1)
    if fresh:
        lake.write("clips", rows, {**(lineage or {}), "rule": asdict(rule)})
    lake.delete("clips", mine & ~one_of("clip_id", [row["clip_id"] for row in rows]), lineage)
    if not any(row["status"] == "ok" for row in rows):
        raise UserError(_nothing_left(lake, dataset, len(videos)))


def _made_from(video: Mapping[str, Any], rule: str) -> str:
    """What a video's clips depend on: the rule, its bytes, and the part of it that the data set names."""
    part = [video["sha256"], video["range_start_s"], video["range_end_s"], video["crop"]]
    return f"{rule}-{hashlib.sha256(json.dumps(part).encode()).hexdigest()[:12]}"


def _clips_of(lake: Lake, video: Mapping[str, Any], rule: SplitRule) -> list[dict[str, Any]]:
    try:
        return guarded_split(video, lake.path(video["uri"]), rule)
    except ClipError as error:  # it crashed or stalled the process that looked at it
        return [failed_clip(video, error)]


def _nothing_left(lake: Lake, dataset: str, usable: int) -> str:
    reasons = lake.rows("videos" if not usable else "clips", pc.field("dataset") == dataset, ["video_id", "code", "reason"])
    first = "; ".join(f"{row['video_id']}: {row['reason']}" for row in reasons[:5])
    return f"data set {dataset}: nothing usable is left ({first}); `rotoscope query \"select * from videos where status <> 'ok'\"` lists every reason"
