"""The folder that a data set's files lie in: the user's own, or an archive unpacked once into the lake."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from pipelines.errors import UserError
from pipelines.forget import mark_removed, removed
from pipelines.lake import Lake
from pipelines.tables import one_of

_DEPTH = 3  # archives wrap their content in at most so many folders


def source_folder(lake: Lake, dataset: str, options: Mapping[str, Any]) -> Path:
    """The option `folder`, or `archive` unpacked into the lake. Raises UserError unless exactly one is given and there."""
    archive, folder = options["archive"], options["folder"]
    if bool(archive) == bool(folder):
        raise UserError(f"data set {dataset}: give the option archive (a file) or folder (already unpacked), one of them")
    if folder:
        if not Path(folder).is_dir():
            raise UserError(f"data set {dataset}: folder {folder}: there is no such folder; give the one that you unpacked")
        return Path(folder)
    return unpacked(lake, Path(archive), lake.root / "videos" / dataset / "archive", dataset)


def unpacked(lake: Lake, archive: Path, folder: Path, dataset: str) -> Path:
    """Unpack `archive` into `folder`, once: a marker beside it, written last, says that it is whole and which archive it came from.

    Raises UserError for an archive that is not there or is refused.
    """
    from pipelines.archive import unpack

    if not archive.is_file():
        raise UserError(f"data set {dataset}: archive {archive}: there is no such file; give the archive that you downloaded")
    status = archive.stat()
    made_from = {"archive": archive.name, "bytes": status.st_size, "modified_ns": status.st_mtime_ns}
    marker = folder.with_name(f".{folder.name}.unpacked.json")  # not inside, where a member of the archive could have its name
    if not (folder.is_dir() and _says(marker, made_from)):
        marker.unlink(missing_ok=True)
        unpack(archive, folder)
        lake.put(folder)
        partial = marker.with_name(f"{marker.name}.{os.getpid()}.part")
        partial.write_text(json.dumps(made_from))
        os.replace(partial, marker)
    return folder


def _says(marker: Path, made_from: Mapping[str, Any]) -> bool:
    try:
        return bool(json.loads(marker.read_text()) == made_from)
    except (OSError, ValueError):
        return False


def without_removed(lake: Lake, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows, with code `removed` where a tombstone names them; what unpacking brought back of those into the lake is deleted."""
    mine = one_of("dataset", sorted({row["dataset"] for row in rows})) & (pc.field("code") == "removed")
    known = {(row["dataset"], row["video_id"]): row["sha256"] for row in lake.rows("videos", mine, ["dataset", "video_id", "sha256"])}
    recalled = [{**row, "sha256": row.get("sha256") or known.get((row["dataset"], row["video_id"]))} for row in rows]
    marked = mark_removed(removed(lake), recalled)
    for row in marked:
        uri = row.get("uri")
        if row.get("code") == "removed" and uri and not Path(uri).is_absolute():
            _delete(lake, Path(uri).parent if row.get("container") == "frames" or Path(uri).name == "images" else Path(uri))
    return marked


def _delete(lake: Lake, place: Path) -> None:
    """A file or folder of the lake, given relative to its root."""
    for name in [str(place)] if lake.storage.info(str(place)).is_file else lake.list_files(str(place)):
        lake.storage.remove(name)
        lake.storage.forget_copy(name)
    shutil.rmtree(lake.root / place, ignore_errors=True)


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
