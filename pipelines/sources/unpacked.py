"""The folder that a data set's files lie in: the user's own, or an archive unpacked once into the lake."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipelines.errors import UserError
from pipelines.lake import Lake

_DEPTH = 3  # archives wrap their content in at most so many folders
_MARKER = ".unpacked.json"


def source_folder(lake: Lake, dataset: str, options: Mapping[str, Any]) -> Path:
    """The option `folder`, or `archive` unpacked into the lake. Raises UserError unless exactly one is given and there."""
    archive, folder = options["archive"], options["folder"]
    if bool(archive) == bool(folder):
        raise UserError(f"data set {dataset}: give the option archive (a file) or folder (already unpacked), one of them")
    if folder:
        if not Path(folder).is_dir():
            raise UserError(f"data set {dataset}: folder {folder}: there is no such folder; give the one that you unpacked")
        return Path(folder)
    return unpacked(Path(archive), lake.root / "videos" / dataset / "archive", dataset)


def unpacked(archive: Path, folder: Path, dataset: str) -> Path:
    """Unpack `archive` into `folder`, once: a marker written last says that it is whole and which archive it came from.

    Raises UserError for an archive that is not there or is refused.
    """
    from pipelines.archive import unpack

    if not archive.is_file():
        raise UserError(f"data set {dataset}: archive {archive}: there is no such file; give the archive that you downloaded")
    status = archive.stat()
    made_from = {"archive": archive.name, "bytes": status.st_size, "modified_ns": status.st_mtime_ns}
    marker = folder / _MARKER
    if not (marker.is_file() and json.loads(marker.read_text()) == made_from):
        marker.unlink(missing_ok=True)
        unpack(archive, folder)
        partial = marker.with_name(f"{_MARKER}.{os.getpid()}.part")
        partial.write_text(json.dumps(made_from))
        os.replace(partial, marker)
    return folder


def find_root(folder: Path, is_root: Callable[[Path], bool], what: str) -> Path:
    """The folder itself or the nearest one inside it (breadth first, three levels) for which `is_root` holds. Raises UserError: no `what`."""
    level = [folder]
    for _ in range(_DEPTH + 1):
        for candidate in level:
            if is_root(candidate):
                return candidate
        level = [child for parent in level for child in sorted(parent.iterdir()) if child.is_dir() and not is_hidden(child)]
    raise UserError(f"{folder}: {what} is not in it (searched {_DEPTH} levels deep); give the unpacked data set's own folder")


def is_hidden(path: Path) -> bool:
    """What file managers and archivers leave behind, no part of a data set."""
    return path.name.startswith((".", "__MACOSX"))
