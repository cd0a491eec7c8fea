"""A file on disk -> one row of the `videos` table: probed, hashed, or the reason why not."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.errors import ClipError
from pipelines.guarded import guarded_probe
from pipelines.lake import Lake
from pipelines.sources.frame_folder import folder_digest
from pipelines.video import VideoInfo

_CHUNK = 1 << 20


def sha256_of(path: Path) -> str:
    """Hex digest of a file, read in chunks; of a folder of frames, the digest over their names and digests in natural order."""
    if path.is_dir():
        return folder_digest(path)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def scan_file(lake: Lake, path: Path, *, dataset: str, video_id: str, **known: Any) -> dict[str, Any]:
    """Row of one file, looked into by a process that can be killed; `known` are columns that the source states (split, licence, ...).

    Never raises for bad media.
    """
    if (unnamed := unnamed_row(dataset, video_id, **known)) is not None:
        return unnamed
    row: dict[str, Any] = {"dataset": dataset, "video_id": video_id, "uri": lake.uri(path), **known}
    try:
        if path.exists() and not path.is_file():
            raise ClipError("unreadable", video_id, "neither a file nor a folder of frames", "remove it from the folder")
        row |= {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        return {**row, **_columns(guarded_probe(path)), "status": "ok"}
    except ClipError as error:
        return {**row, "status": "failed", "code": error.code, "reason": error.reason}
    except OSError as error:
        return {**row, "status": "failed", "code": "unreadable", "reason": f"{error.strerror or error}; check the file's permissions"}


def unnamed_row(dataset: str, video_id: str, **known: Any) -> dict[str, Any] | None:
    """The failed row of a file or folder whose name is not Unicode, which no table can hold; None of every other."""
    if (plain := printable_name(video_id)) == video_id:
        return None
    reason = "its name is not Unicode text (the bytes are shown as \\udcXX); rename it"
    return {"dataset": dataset, "video_id": plain, **known, "status": "failed", "code": "not_allowed", "reason": reason}


def printable_name(name: str) -> str:
    """The name with bytes that are not UTF-8 written as \\udcXX."""
    return name.encode(errors="backslashreplace").decode()


def _columns(info: VideoInfo) -> dict[str, Any]:
    return {
        "width": info.width,
        "height": info.height,
        "rotation_deg": info.rotation_deg,
        "fps_num": info.fps.numerator,
        "fps_den": info.fps.denominator,
        "variable_frame_rate": info.variable_frame_rate,
        "time_base_num": info.time_base.numerator,
        "time_base_den": info.time_base.denominator,
        "frames": info.frames,
        "duration_s": info.duration_s,
        "codec": info.codec,
        "container": info.container,
    }


def mark_duplicates(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The same bytes twice in one data set: the first id (in order of names) stays, the others say whose copy they are."""
    first: dict[str, str] = {}
    marked = []
    for row in sorted(rows, key=lambda r: str(r["video_id"])):
        original = first.setdefault(row["sha256"], row["video_id"]) if row["status"] == "ok" else row["video_id"]
        same = original != row["video_id"]
        marked.append(
            {**row, "status": "dropped", "code": "duplicate", "reason": f"the same bytes as {original}; remove one of them"}
            if same
            else dict(row)
        )
    return marked
