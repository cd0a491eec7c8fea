"""TED-talks (Siarohin et al., CVPR 2021): a CSV of ranges and boxes of YouTube talks, from YouTube or from a folder of talks.

The file in the authors' repository has start = end = 0 and partition = train in every row, so their loader writes empty
clips from it: it is refused, unless the option id_range_fps says at which rate to read the frame numbers in its ids.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from pipelines.errors import ClipError, UserError
from pipelines.fetch_rows import DOWNLOAD_OPTIONS, Job, Removals, Row, download_rows, failed_row, finished, unique_rows
from pipelines.lake import Lake
from pipelines.sources.folder import find_videos
from pipelines.sources.scan import scan_file
from pipelines.sources.terms import Terms, chosen_options, require_terms

TERMS = Terms(
    licence="talks under CC BY-NC-ND, retrieved under YouTube's terms: research use only, clips are not to be passed on",
    url="https://www.ted.com/about/our-organization/our-policies-terms/ted-talks-usage-policy",
)
OPTIONS: dict[str, Any] = {
    "metadata": None,  # path of the CSV
    "talks": None,  # folder of talks named by YouTube id (ID.mp4); None = download the ranges from YouTube
    "id_range_fps": None,  # frames per second of the frame numbers in the ids; only for the file without start and end
    "accept_terms": False,  # true: you have read TERMS and accept them
    **DOWNLOAD_OPTIONS,
}
PATHS: tuple[str, ...] = ("metadata", "talks")  # options that name files
COLUMNS = ("video_id", "start", "end", "bbox", "fps", "width", "height", "partition")
_ID = re.compile(r"([\w-]{11})(?:#(\d{6})#(\d{6}))?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """One row of the CSV: seconds of a talk, and a box (left, top, right, bottom) in a frame of width x height px."""

    video_id: str
    talk: str
    start_s: float
    end_s: float
    box: tuple[int, int, int, int]
    width: int
    height: int
    split: str


def scan_ted_talks(
    lake: Lake, name: str, options: Mapping[str, Any], progress: Callable[[int, int], None] | None = None
) -> list[dict[str, Any]]:
    """One row of `videos` per row of the CSV, with its range and crop; `options` as OPTIONS. Raises UserError for a CSV that is refused."""
    chosen = chosen_options(name, options, OPTIONS)
    require_terms(name, TERMS, chosen["accept_terms"])
    if not chosen["metadata"]:
        raise UserError(f"data set {name}: give the option metadata, the CSV of the data set")
    chunks, bad = read_chunks(Path(chosen["metadata"]), chosen["id_range_fps"])
    failed = [failed_row(name, error.subject, error, **TERMS.columns()) for error in bad]
    talks = chosen["talks"]
    jobs = [] if talks else [_job(chunk) for chunk in chunks]
    rows = _local_rows(lake, name, chunks, Path(talks), progress) if talks else download_rows(lake, name, jobs, chosen, progress)
    return sorted(rows + failed, key=lambda row: str(row["video_id"]))


def read_chunks(path: Path, id_range_fps: float | str | None = None) -> tuple[list[Chunk], list[ClipError]]:
    """Usable rows, and what is wrong with the others.

    Raises UserError: no such file or columns, duplicate ids, a talk in both partitions, the layout without start and end but no
    id_range_fps, or id_range_fps for the layout that has them.
    """
    table = _read(path)
    zeros = all(row["start"].strip() in ("0", "0.0") and row["end"].strip() in ("0", "0.0") for row in table)
    if zeros and id_range_fps is None:
        raise UserError(
            f"{path}: start and end are 0 in every row, so every clip would be empty (the file in the authors' repository is not the one they used); "
            "get ted384-metadata.csv, or set id_range_fps to the rate of the frame numbers in the ids, which the authors do not state"
        )
    if not zeros and id_range_fps is not None:
        raise UserError(f"{path}: it has its own start and end, so id_range_fps must not be set")
    _check_table(path, table, zeros)
    chunks, bad = [], []
    for row in table:
        try:
            chunks.append(_chunk(row, None if id_range_fps is None else Fraction(str(id_range_fps))))
        except ClipError as error:
            bad.append(error)
    return chunks, bad


def _read(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            table = [{key: value or "" for key, value in row.items() if isinstance(key, str)} for row in reader]
            missing = [column for column in COLUMNS if column not in (reader.fieldnames or [])]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"metadata {path}: it cannot be read ({error}); give the CSV of the data set") from None
    if missing or not table:
        raise UserError(f"metadata {path}: {f'no column {missing[0]}' if missing else 'no row'}; it needs {', '.join(COLUMNS)}")
    return table


def _check_table(path: Path, table: Sequence[Mapping[str, str]], zeros: bool) -> None:
    splits: dict[str, str] = {}
    seen: set[tuple[str, ...]] = set()
    for row in table:
        key = (row["video_id"],) if zeros else (row["video_id"], row["start"], row["end"])
        if key in seen:
            raise UserError(f"{path}: {'#'.join(key)} is there twice; remove one of the rows")
        seen.add(key)
        if splits.setdefault(row["video_id"][:11], row["partition"]) != row["partition"]:
            raise UserError(f"{path}: talk {row['video_id'][:11]} is in both train and test; a talk must not be trained and tested on")


def _chunk(row: Mapping[str, str], id_fps: Fraction | None) -> Chunk:
    subject = row["video_id"] if id_fps is not None else f"{row['video_id']}#{row['start']}#{row['end']}"
    try:
        match = _ID.fullmatch(row["video_id"])
        box = tuple(int(float(part)) for part in row["bbox"].split("-"))
        width, height, rate = int(float(row["width"])), int(float(row["height"])), Fraction(row["fps"])
        first, last = Fraction(row["start"]), Fraction(row["end"])
    except (ValueError, ZeroDivisionError, OverflowError):
        raise ClipError("bad_annotation", subject, "a number of its row cannot be read", "correct the row") from None
    if match is None or (id_fps is not None and match[2] is None):
        raise ClipError("bad_annotation", subject, "its video_id is no YouTube id with a range", "correct the row")
    if id_fps is not None:
        first, last, rate = Fraction(match[2]), Fraction(match[3]), id_fps
    if rate <= 0 or first < 0 or last <= first:
        raise ClipError("bad_annotation", subject, f"its range {first}..{last} at {rate} fps is empty", "correct the row")
    if len(box) != 4 or not (0 <= box[0] < box[2] <= width and 0 <= box[1] < box[3] <= height):
        raise ClipError("bad_annotation", subject, f"its box {row['bbox']} is not inside {width}x{height}", "correct the row")
    if row["partition"] not in ("train", "test"):
        raise ClipError("bad_annotation", subject, f"its partition is {row['partition']!r}", "write train or test")
    return Chunk(
        video_id=subject,
        talk=match[1],
        start_s=float(first / rate),
        end_s=float(last / rate),
        box=box,
        width=width,
        height=height,
        split="ted_csv" if row["partition"] == "test" else "train",
    )


def crop_of(chunk: Chunk, width: int, height: int) -> list[int]:
    """x, y, w, h px of the chunk's box in the decoded frame: scaled, clipped to the frame, even sizes. Raises ClipError bad_annotation."""
    x_scale, y_scale = width / chunk.width, height / chunk.height
    left, right = (min(max(round(x * x_scale), 0), width) for x in (chunk.box[0], chunk.box[2]))
    top, bottom = (min(max(round(y * y_scale), 0), height) for y in (chunk.box[1], chunk.box[3]))
    w, h = (right - left) // 2 * 2, (bottom - top) // 2 * 2
    if w < 2 or h < 2:
        raise ClipError("bad_annotation", chunk.video_id, f"its box is empty in a frame of {width}x{height}", "correct the row")
    return [left, top, w, h]


def _columns(chunk: Chunk) -> Row:
    return {**TERMS.columns(), "split": chunk.split, "subject": chunk.talk}


def _cropped(chunk: Chunk) -> Callable[[Row], Row]:
    return lambda row: {**row, "crop": crop_of(chunk, row["width"], row["height"])}


def _job(chunk: Chunk) -> Job:
    url = f"https://www.youtube.com/watch?v={chunk.talk}"
    return Job(video_id=chunk.video_id, url=url, start_s=chunk.start_s, end_s=chunk.end_s, columns=_columns(chunk), finish=_cropped(chunk))


def _local_rows(lake: Lake, name: str, chunks: Sequence[Chunk], folder: Path, progress: Callable[[int, int], None] | None) -> list[Row]:
    talks = {path.stem: path for path in find_videos(folder)}
    removals, scanned, rows = Removals(lake, name), dict[str, Row](), []
    for done, chunk in enumerate(chunks, start=1):
        known = {"range_start_s": chunk.start_s, "range_end_s": chunk.end_s, **_columns(chunk)}
        if chunk.talk not in talks:
            error = ClipError("unreadable", chunk.video_id, f"{chunk.talk} is not in {folder}", "put the talk there, named by its id")
            rows.append(failed_row(name, chunk.video_id, error, **known))
            continue
        if chunk.talk not in scanned:
            scanned[chunk.talk] = scan_file(lake, talks[chunk.talk], dataset=name, video_id=chunk.talk)
        row = finished({**scanned[chunk.talk], **known, "video_id": chunk.video_id}, _cropped(chunk))
        rows.append(removals.judged(row))
        if progress is not None:
            progress(done, len(chunks))
    return unique_rows(rows)
