"""UCF101 (Soomro, Zamir and Shah 2012): 13,320 clips of 101 actions, `UCF-101/<Class>/v_<Class>_g<group>_c<clip>.avi`.

The official lists split it; clips of a class and group share people and scene, so that pair is the subject. The class is
kept in the column `annotations` as `action:<Class>`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipelines.errors import UserError
from pipelines.lake import Lake
from pipelines.sources.scan import mark_duplicates, scan_file, unnamed_row
from pipelines.sources.terms import Terms, chosen_options, require_terms
from pipelines.sources.ucf101_lists import Lists, group_of, is_lists_folder, read_lists
from pipelines.sources.unpacked import find_root, source_folder, unpacked, without_removed

TERMS = Terms(
    licence="no licence is stated; research use only, not to be passed on; the videos come from YouTube and remain their makers'",
    url="https://www.crcv.ucf.edu/data/UCF101.php",
)
OPTIONS: dict[str, Any] = {
    "archive": None,  # the archive as downloaded, or
    "folder": None,  # the unpacked folder, which holds UCF-101/ or is it
    "lists": None,  # the folder ucfTrainTestlist, or its zip; None: looked for in and beside the data set's folder
    "accept_terms": False,  # true: you have read TERMS and accept them
    "split": "01",  # official split: 01 | 02 | 03
    "classes": None,  # only these classes, a list of names or one text with commas; None = all
}

PATHS: tuple[str, ...] = ("archive", "folder", "lists")  # options that name files

_ACTION = "action:"


def scan_ucf101(
    lake: Lake, name: str, options: Mapping[str, Any], progress: Callable[[int, int], None] | None = None
) -> list[dict[str, Any]]:
    """One row of `videos` per file that is there or listed; `options` as OPTIONS.

    Raises UserError for unknown options, terms not accepted, lists that cannot be used, unknown classes, or no class folders.
    """
    chosen = chosen_options(name, options, OPTIONS)
    require_terms(name, TERMS, chosen["accept_terms"])
    folder = source_folder(lake, name, chosen)
    root = find_root(folder, _holds_classes, "a class folder with v_<Class>_g<group>_c<clip>.avi")
    lists = read_lists(_lists_folder(lake, name, chosen["lists"], folder), str(chosen["split"]))
    classes = _wanted_classes(name, chosen["classes"], lists)
    there = {path.relative_to(root).as_posix() for path in root.glob("*/*") if path.is_file() and not path.name.startswith(".")}
    listed = {video for video in lists.split_of if video.partition("/")[0] in classes}
    ids = sorted(listed | {video for video in there if video.partition("/")[0] in classes or video.partition("/")[0] not in lists.classes})
    rows = []
    for done, video in enumerate(ids, start=1):
        rows.append(_scan_video(lake, name, root, video, lists))
        if progress is not None:
            progress(done, len(ids))
    return mark_duplicates(without_removed(lake, rows))


def action_of(annotations: str | None) -> str | None:
    """The action class that a row's column `annotations` names, or None."""
    return annotations.removeprefix(_ACTION) if annotations and annotations.startswith(_ACTION) else None


def _holds_classes(folder: Path) -> bool:
    return any(group_of(f"{path.parent.name}/{path.name}") for path in folder.glob("*/v_*.avi"))


def _lists_folder(lake: Lake, name: str, given: str | None, folder: Path) -> Path:
    if given is None:
        places = [folder, folder.parent]
        found = next((lists for place in places for lists in (place, place / "ucfTrainTestlist") if is_lists_folder(lists)), None)
        if found is None:
            raise UserError(f"data set {name}: no ucfTrainTestlist in or beside {folder}; give the option lists (its folder or zip)")
        return found
    place = Path(given)
    if not place.exists():
        raise UserError(f"data set {name}: lists {given}: there is no such folder or file; give ucfTrainTestlist or its zip")
    folder = place if place.is_dir() else unpacked(lake, place, lake.root / "videos" / name / "lists", name)
    return find_root(folder, is_lists_folder, "classInd.txt with trainlist and testlist")


def _wanted_classes(name: str, given: Any, lists: Lists) -> set[str]:
    if given is None:
        return set(lists.classes)
    wanted = {part.strip() for part in given.split(",")} if isinstance(given, str) else set(given)
    if not wanted:
        raise UserError(f"data set {name}: classes is empty; give names of classes, or leave it out for all")
    unknown = sorted(wanted - set(lists.classes))
    if unknown:
        raise UserError(f"data set {name}: no class {unknown[0]!r} in classInd.txt; there are: {', '.join(sorted(lists.classes))}")
    return wanted


def _scan_video(lake: Lake, name: str, root: Path, video: str, lists: Lists) -> dict[str, Any]:
    """The row of one file; never raises for bad material."""
    if (unnamed := unnamed_row(name, video, **TERMS.columns())) is not None:
        return unnamed
    split, group = lists.split_of.get(video), group_of(video)
    row = {"dataset": name, "video_id": video, "uri": lake.uri(root / video), "split": split, "subject": group, **TERMS.columns()}
    row["annotations"] = f"{_ACTION}{video.partition('/')[0]}" if group else None
    if not (root / video).is_file():
        return {**row, "status": "failed", "code": "truncated", "reason": "listed, but not in the folder; unpack the archive again"}
    if group is None:
        reason = "the name is not <Class>/v_<Class>_g<group>_c<clip>.avi; remove the file"
        return {**row, "status": "dropped", "code": "bad_annotation", "reason": reason}
    if split is None:
        reason = "in neither the list of training nor of test videos; use another split, or remove the file"
        return {**row, "status": "dropped", "code": "bad_annotation", "reason": reason}
    return scan_file(lake, root / video, **{key: value for key, value in row.items() if key != "uri"})
