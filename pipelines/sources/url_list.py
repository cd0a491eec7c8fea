"""A list of links: CSV with the columns url, start, end, split, subject, licence (the first is needed), or text with one URL a line."""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipelines.errors import ClipError, UserError
from pipelines.fetch_rows import DOWNLOAD_OPTIONS, Job, Row, download_rows, failed_row
from pipelines.fetch_safety import host_of, shown
from pipelines.fetch_youtube import is_youtube, video_page
from pipelines.lake import Lake
from pipelines.sources.terms import Terms, chosen_options, require_terms

TERMS = Terms(
    licence="as the owner of each link says; you must have the right to download and use it",
    url="https://www.youtube.com/static?template=terms",
)
OPTIONS: dict[str, Any] = {
    "list": None,  # path of the CSV or text file
    "accept_terms": False,  # true: you have the right to download and use what is listed
    **DOWNLOAD_OPTIONS,
}
PATHS: tuple[str, ...] = ("list",)  # options that name files
COLUMNS = ("url", "start", "end", "split", "subject", "licence")


def scan_url_list(
    lake: Lake, name: str, options: Mapping[str, Any], progress: Callable[[int, int], None] | None = None
) -> list[dict[str, Any]]:
    """One row of `videos` per line, bad ones with the reason; `options` as OPTIONS. Raises UserError for a list that cannot be read at all."""
    chosen = chosen_options(name, options, OPTIONS)
    require_terms(name, TERMS, chosen["accept_terms"])
    if not chosen["list"]:
        raise UserError(f"data set {name}: give the option list, a CSV or text file of links")
    jobs: dict[str, Job] = {}
    bad: list[Row] = []
    for line, entry in read_list(Path(chosen["list"])):
        try:
            job = job_of(entry)
            if job.video_id in jobs:
                raise ClipError("duplicate", job.url, f"line {line} names the same part of the same video again", "remove the line")
            jobs[job.video_id] = job
        except ClipError as error:
            known = {**TERMS.columns(), "split": entry.get("split") or "all", "source_url": shown(entry.get("url", ""))}
            bad.append(failed_row(name, f"line {line:06d}", error, **known))
    return sorted(download_rows(lake, name, list(jobs.values()), chosen, progress) + bad, key=lambda row: str(row["video_id"]))


def read_list(path: Path) -> list[tuple[int, dict[str, str]]]:
    """(line number, fields) of every line that is neither empty nor a comment (#). Raises UserError."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"list {path}: it cannot be read ({error}); give a CSV or text file in UTF-8") from None
    first = next((line for line in text.splitlines() if line.strip() and not line.startswith("#")), None)
    if first is None:
        raise UserError(f"list {path}: it holds no link; write one URL a line")
    header = [column.strip().lower() for column in first.split(",")]
    if "url" not in header:
        lines = enumerate(text.splitlines(), start=1)
        return [(number, {"url": line.strip()}) for number, line in lines if line.strip() and not line.startswith("#")]
    unknown = sorted(set(header) - set(COLUMNS))
    if unknown:
        raise UserError(f"list {path}: no column {unknown[0]!r}; there are: {', '.join(COLUMNS)}")
    reader = csv.DictReader(io.StringIO(text[text.index(first) :]), fieldnames=header)
    return [
        (reader.line_num, {k: (v or "").strip() for k, v in row.items() if isinstance(k, str)}) for row in reader if reader.line_num > 1
    ]


def job_of(entry: Mapping[str, str]) -> Job:
    """The download of one line; a YouTube video has one address, however its link is written. Raises ClipError bad_annotation, not_allowed."""
    url = entry["url"]
    host_of(url)
    url = video_page(url) if is_youtube(url) else url
    start, end = _seconds(entry.get("start", ""), url), _seconds(entry.get("end", ""), url)
    if (start is None) != (end is None):
        raise ClipError("bad_annotation", url, "start and end go together", "give both, in seconds, or none")
    if start is not None and end is not None and end <= start:
        raise ClipError("bad_annotation", url, f"end {end:g} is not after start {start:g}", "correct the line")
    part = "" if start is None else f"#{start:.3f}-{end:.3f}"
    columns = {**TERMS.columns(), "split": entry.get("split") or "all", "subject": entry.get("subject") or None}
    if entry.get("licence"):
        columns["licence"] = entry["licence"]
    video_id = hashlib.sha256((url + part).encode()).hexdigest()[:16]
    return Job(video_id=video_id, url=url, start_s=start, end_s=end, columns=columns)


def _seconds(text: str, url: str) -> float | None:
    """Seconds of "75.5", "1:15.5" or "0:01:15.5"; None of "". Raises ClipError bad_annotation."""
    if not text:
        return None
    try:
        parts = [float(part) for part in text.split(":")]
    except ValueError:
        parts = [math.nan]
    value = sum(part * 60.0**power for power, part in enumerate(reversed(parts)))
    if len(parts) > 3 or not math.isfinite(value) or min(parts) < 0:
        raise ClipError("bad_annotation", url, f"{text!r} is no time", "write seconds (75.5) or h:mm:ss")
    return value
