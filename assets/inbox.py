"""Folders of generated clips that somebody put into the lake's inbox."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from eval.foreign_clips import foreign_clips
from eval.import_predictions import IMPORTED
from pipelines.errors import UserError
from pipelines.lake import Lake
from pipelines.prediction_manifest import MANIFEST, read_manifest
from pipelines.sources.registry import registered

_SETTLED_S = 30  # without a manifest, which is written last, only silence says that a folder is whole


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """New folders with their data set and model; what could not be read; and what has been seen by now."""

    folders: list[tuple[Path, str, str]]
    problems: list[str]
    cursor: dict[str, str]


def unseen(lake: Lake, seen: Mapping[str, str]) -> Found:
    """Folders of <lake>/inbox that are not in `seen` (folder -> time of its newest part in nanoseconds).

    inbox/NAME with a manifest, or inbox/DATASET/METHOD without one, in a layout of docs/predictions.md, once nothing in it has
    changed for a while.
    """
    folders, problems, cursor = [], [], dict(seen)
    for folder, stamp, read in _candidates(lake):
        if cursor.get(str(folder)) == stamp:
            continue
        try:
            folders.append((folder, *read(lake, folder)))
            cursor[str(folder)] = stamp  # what is refused today may fit when its data set is there
        except UserError as error:
            problems.append(str(error))
    return Found(folders=folders, problems=problems, cursor=cursor)


def _candidates(lake: Lake) -> Iterator[tuple[Path, str, Callable[[Lake, Path], tuple[str, str]]]]:
    inbox = lake.root / "inbox"
    for path in sorted(inbox.glob(f"*/{MANIFEST}")):
        yield path.parent, str(path.stat().st_mtime_ns), _of_manifest
    for folder in sorted(inbox.glob("*/*/")):
        if any((place / MANIFEST).is_file() for place in (folder, folder.parent)) or folder.parent.name not in registered(lake):
            continue
        newest = max(map(_changed, (folder, *folder.rglob("*"))))
        if time.time_ns() - newest > _SETTLED_S * 10**9:
            yield folder, str(newest), _of_names


def _changed(path: Path) -> int:
    """Nanoseconds; now for what has gone while we looked: somebody is still at work."""
    try:
        return path.lstat().st_mtime_ns
    except FileNotFoundError:
        return time.time_ns()


def _of_manifest(lake: Lake, folder: Path) -> tuple[str, str]:
    manifest = read_manifest(folder)
    if manifest.dataset not in registered(lake):
        raise UserError(f"{folder}: data set {manifest.dataset!r} is not in this lake; there are: {', '.join(registered(lake))}")
    if not manifest.variant:
        raise UserError(f'{folder}: the manifest\'s `variant` is empty; name one, such as "default"')
    return manifest.dataset, f"{manifest.method}:{manifest.variant}:{manifest.seed}"


def _of_names(lake: Lake, folder: Path) -> tuple[str, str]:
    foreign_clips(folder)  # says what is wrong with it before a run begins
    return folder.parent.name, f"{folder.name}:{IMPORTED}:0"
