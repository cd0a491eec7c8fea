"""Folders of generated clips that somebody put into the lake's inbox."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import UserError
from pipelines.lake import Lake
from pipelines.prediction_manifest import MANIFEST, read_manifest
from pipelines.sources.registry import registered


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """New folders with their data set and model; what could not be read; and what has been seen by now."""

    folders: list[tuple[Path, str, str]]
    problems: list[str]
    cursor: dict[str, str]


def unseen(lake: Lake, seen: Mapping[str, str]) -> Found:
    """Folders of <lake>/inbox whose manifest is not in `seen` (folder -> time of its manifest in nanoseconds)."""
    folders, problems, cursor = [], [], dict(seen)
    for path in sorted((lake.root / "inbox").glob(f"*/{MANIFEST}")):
        folder, stamp = path.parent, str(path.stat().st_mtime_ns)
        if cursor.get(str(folder)) == stamp:
            continue
        cursor[str(folder)] = stamp
        try:
            manifest = read_manifest(folder)
            if manifest.dataset not in registered(lake):
                raise UserError(f"{folder}: data set {manifest.dataset!r} is not in this lake; there are: {', '.join(registered(lake))}")
            if not manifest.variant:
                raise UserError(f'{folder}: the manifest\'s `variant` is empty; name one, such as "default"')
            folders.append((folder, manifest.dataset, f"{manifest.method}:{manifest.variant}:{manifest.seed}"))
        except UserError as error:
            problems.append(str(error))
    return Found(folders=folders, problems=problems, cursor=cursor)
