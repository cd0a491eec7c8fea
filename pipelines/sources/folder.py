"""Any directory of videos, searched recursively."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines.errors import UserError
from pipelines.lake import Lake
from pipelines.sources.scan import mark_duplicates, scan_file

VIDEO_ENDINGS = frozenset({".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".gif", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".3gp", ".ogv"})

Progress = Callable[[int, int], None]


def dataset_name(folder: Path) -> str:
    """Name of a folder's data set: `folder_` and the folder's own name in lower case letters, digits and underscores."""
    return "folder_" + (re.sub(r"[^a-z0-9]+", "_", folder.resolve().name.lower()).strip("_") or "root")


def find_videos(folder: Path) -> list[Path]:
    """Files with a video's ending, sorted; hidden ones are passed over. Raises UserError where there is none."""
    if not folder.is_dir():
        raise UserError(f"--folder {folder}: there is no such folder; give a directory that holds videos")
    found = [
        p
        for p in sorted(folder.rglob("*"))
        if p.suffix.lower() in VIDEO_ENDINGS and p.is_file() and not any(part.startswith(".") for part in p.relative_to(folder).parts)
    ]
    if not found:
        raise UserError(f"--folder {folder}: no file ends in {', '.join(sorted(VIDEO_ENDINGS))}; give a directory that holds videos")
    return found


def scan_folder(lake: Lake, folder: Path, dataset: str, progress: Progress | None = None) -> list[dict[str, Any]]:
    """One row of `videos` per file; the id is the path inside the folder. Raises UserError for a folder without videos."""
    paths = find_videos(folder)
    rows = []
    for done, path in enumerate(paths, start=1):
        rows.append(
            scan_file(
                lake,
                path,
                dataset=dataset,
                video_id=path.relative_to(folder).as_posix(),
                split="all",
                licence="the user's own",
                terms_accepted=True,
            )
        )
        if progress is not None:
            progress(done, len(paths))
    return mark_duplicates(rows)
