"""The TikTok data set (Jafarian and Park, CVPR 2021): folders 00001..00340 of frames, masks and DensePose maps at 30 fps.

Layout: `<root>/00001/images/0001.png`, `masks/0001.png`, `densepose/0001.png`. A sequence is one video whose uri is its
folder of images and whose annotations are the folder around it. What is missing, of a sequence or of the set, is a row
with its reason, so a half-unpacked set is never taken for a whole one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from pipelines.errors import ClipError, UserError
from pipelines.lake import Lake
from pipelines.sources.frame_folder import check_numbering, image_files, read_frames
from pipelines.sources.scan import mark_duplicates, printable_name, unnamed_row
from pipelines.sources.terms import Terms, chosen_options, require_terms
from pipelines.sources.unpacked import find_root, is_hidden, source_folder, without_removed

TERMS = Terms(
    licence="no licence is stated; research use only, not to be passed on; the videos remain their creators'",
    url="https://www.yasamin.page/hdnet_tiktok",
)
OPTIONS: dict[str, Any] = {
    "archive": None,  # the archive as downloaded (zip or tar), or
    "folder": None,  # the unpacked folder
    "accept_terms": False,  # true: you have read TERMS and accept them
    "split": "tiktok_335_340",  # one of SPLITS
    "test_list": None,  # a text file of test ids, one a line: for tiktok_disco10 and hia_41, whose lists are not public
    "sequences": "1-340",  # ids that the set must hold; ranges and numbers with commas
    "annotations": "required",  # masks and densepose: required (they must match the images) | optional (a folder may be absent)
}
PATHS: tuple[str, ...] = ("archive", "folder", "test_list")  # options that name files
SPLITS: tuple[str, ...] = ("tiktok_335_340", "tiktok_disco10", "hia_41")
FPS = Fraction(30)  # of every sequence, as the data set's page says
ANNOTATION_FOLDERS: tuple[str, ...] = ("masks", "densepose")

# All six. A folder loader in circulation reads range(335, 340) and so drops 340: its numbers are of five sequences.
_PUBLIC_TEST = frozenset(f"{number:05d}" for number in range(335, 341))
_SEQUENCE = re.compile(r"\d{5}")
_AGAIN = "unpack or copy the data set again"


def scan_tiktok(
    lake: Lake, name: str, options: Mapping[str, Any], progress: Callable[[int, int], None] | None = None
) -> list[dict[str, Any]]:
    """One row of `videos` per sequence that is there or should be; `options` as OPTIONS.

    Raises UserError for unknown options, terms not accepted, a list that is missing, or a folder without sequences.
    """
    chosen = chosen_options(name, options, OPTIONS)
    require_terms(name, TERMS, chosen["accept_terms"])
    if chosen["annotations"] not in ("required", "optional"):
        raise UserError(f"data set {name}: annotations={chosen['annotations']!r}; there are: required, optional")
    test, wanted = test_ids(name, chosen), sequence_ids(str(chosen["sequences"]))
    root = find_root(source_folder(lake, name, chosen), _holds_sequences, "a sequence folder (00001 ...)")
    there = {path.name for path in root.iterdir() if path.is_dir() and not is_hidden(path)}
    expected = wanted | (test if chosen["test_list"] else set())
    rows = []
    ids = sorted(there | expected)
    for done, sequence in enumerate(ids, start=1):
        known = {"dataset": name, "video_id": sequence, "split": chosen["split"] if sequence in test else "train", **TERMS.columns()}
        rows.append(unnamed_row(**known) or {**known, **_scan_sequence(lake, root / sequence, sequence in expected, chosen)})
        if progress is not None:
            progress(done, len(ids))
    return mark_duplicates(without_removed(lake, rows))


def sequence_ids(text: str) -> set[str]:
    """Ids of "1-3,7": {"00001", "00002", "00003", "00007"}. Raises UserError for anything else."""
    ids = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,5})\s*(?:-\s*(\d{1,5})\s*)?", part)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise UserError(f"sequences={text!r}: {part.strip()!r} is neither a number nor a range; write for example 1-340")
        ids |= {f"{number:05d}" for number in range(int(match[1]), int(match[2] or match[1]) + 1)}
    return ids


def test_ids(name: str, options: Mapping[str, Any]) -> set[str]:
    """Ids of the test split. Raises UserError for an unknown split, or one whose list the user must bring and has not."""
    split, listed = options["split"], options["test_list"]
    if split not in SPLITS:
        raise UserError(f"data set {name}: no split {split!r}; there are: {', '.join(SPLITS)}")
    if split == "tiktok_335_340":
        if listed:
            raise UserError(f"data set {name}: tiktok_335_340 is fixed and takes no test_list; use tiktok_disco10 or hia_41 for a list")
        return set(_PUBLIC_TEST)
    if not listed:
        raise UserError(f"data set {name}: the ids of {split} are not public; give your list as the option test_list, one id a line")
    return _read_ids(Path(listed), {"tiktok_disco10": 10, "hia_41": 41}[split])


def _read_ids(path: Path, count: int) -> set[str]:
    try:
        lines = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"test_list {path}: it cannot be read ({error}); give a text file with one id a line") from None
    ids = [f"{int(line):05d}" if line.isdigit() else line for line in lines]
    bad = next((line for line in ids if not re.fullmatch(r"[\w-]+", line)), None)
    if bad is not None:
        raise UserError(f"test_list {path}: {bad!r} is no id; an id is a sequence folder's name")
    if len(ids) != count or len(set(ids)) != count:
        raise UserError(f"test_list {path}: {len(set(ids))} different ids in {len(ids)} lines; this split has {count}")
    return set(ids)


def _holds_sequences(folder: Path) -> bool:
    return any(_SEQUENCE.fullmatch(child.name) and child.is_dir() for child in folder.iterdir())


def _scan_sequence(lake: Lake, folder: Path, expected: bool, options: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of one sequence; never raises for bad material."""
    row: dict[str, Any] = {"uri": lake.uri(folder / "images"), "annotations": lake.uri(folder)}
    if not expected:
        reason = f"not one of the sequences {options['sequences']}; widen the option sequences, or remove the folder"
        return {**row, "status": "dropped", "code": "bad_annotation", "reason": reason}
    try:
        return {**row, **_columns(folder, options["annotations"] == "required"), "status": "ok"}
    except ClipError as error:
        return {**row, "status": "failed", "code": error.code, "reason": printable_name(error.reason)}
    except OSError as error:
        return {**row, "status": "failed", "code": "unreadable", "reason": f"{error.strerror or error}; check the folder's permissions"}


def _columns(folder: Path, required: bool) -> dict[str, Any]:
    if not folder.is_dir():
        raise ClipError("truncated", folder.name, f"the sequence {folder.name} is not in the data set's folder", _AGAIN)
    images = image_files(folder / "images") if (folder / "images").is_dir() else []
    if not images:
        raise ClipError("no_frames", folder.name, "images/ is missing or empty", _AGAIN)
    check_numbering(images, folder.name)
    for kind in ANNOTATION_FOLDERS:
        if required or (folder / kind).exists():
            _check_annotations(folder, kind, images)
    frames = read_frames(folder / "images", folder.name)
    return {
        "sha256": frames.sha256,
        "bytes": frames.bytes,
        "width": frames.width,
        "height": frames.height,
        "rotation_deg": 0,
        "fps_num": FPS.numerator,
        "fps_den": FPS.denominator,
        "variable_frame_rate": False,
        "time_base_num": FPS.denominator,
        "time_base_den": FPS.numerator,
        "frames": frames.frames,
        "duration_s": float(frames.frames / FPS),
        "codec": images[0].suffix[1:].lower(),
        "container": "frames",
    }


def _check_annotations(folder: Path, kind: str, images: list[Path]) -> None:
    """As many as images, under the same names, none empty; their content is checked when it is read. Raises ClipError."""
    files = image_files(folder / kind) if (folder / kind).is_dir() else []
    names, held = {path.stem for path in images}, {path.stem for path in files}
    if held != names:
        odd = min(held ^ names)
        what = "is missing" if odd in names else "has no image"
        cause = f"{kind}/ holds {len(held)} files for {len(names)} images ({odd} {what})"
        raise ClipError("bad_annotation", folder.name, cause, f"{_AGAIN}, or set annotations to optional and remove {kind}/")
    empty = next((path.name for path in files if path.stat().st_size == 0), None)
    if empty is not None:
        raise ClipError("bad_annotation", folder.name, f"{kind}/{empty} has zero bytes", _AGAIN)
