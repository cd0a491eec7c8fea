"""Rows of `videos` from URLs: removed ones skipped, present ones kept, the others downloaded; every failure is a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from pipelines.errors import ClipError
from pipelines.fetch import Fetched, Fetcher, FetchLimits, content_id, limits_from
from pipelines.fetch_pace import Pause
from pipelines.fetch_youtube import Range, YouTube, is_youtube, part_name, youtube_ready
from pipelines.forget import mark_removed, removed
from pipelines.lake import Lake
from pipelines.sources.scan import mark_duplicates, scan_file, sha256_of

# Options of every source that downloads; the first ones are FetchLimits.
DOWNLOAD_OPTIONS: dict[str, Any] = {
    **{name: getattr(FetchLimits(), name) for name in FetchLimits.__slots__},
    "workers": 4,  # downloads at once; YouTube is always asked for one at a time
    "youtube_pause_s": 5.0,  # between two videos of YouTube, on average
}

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One row to be: the part of `url` from start_s to end_s (None: to its ends). `finish` completes the row of a usable file."""

    video_id: str
    url: str
    start_s: float | None = None
    end_s: float | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    finish: Callable[[Row], Row] = lambda row: row

    @property
    def key(self) -> tuple[str, float | None, float | None]:
        """Jobs of one key share a file: a site's ranges are files of their own, of a plain file all is downloaded once."""
        return (self.url, self.start_s, self.end_s) if is_youtube(self.url) else (self.url, None, None)


def download_rows(
    lake: Lake, dataset: str, jobs: Sequence[Job], options: Mapping[str, Any], progress: Callable[[int, int], None] | None = None
) -> list[Row]:
    """One row per job, in the order of their ids. Raises UserError where YouTube is asked for and cannot be."""
    removals = Removals(lake, dataset)
    wanted = [job for job in jobs if not removals.holds(_named(dataset, job))]
    crawl = _Crawl(lake, dataset, options)
    keys = {job.key: job for job in wanted if not crawl.is_there(job)}
    if any(is_youtube(job.url) for job in keys.values()):
        youtube_ready(ranges=any(job.start_s is not None for job in keys.values()))
    crawl.run(list(keys.values()), progress)
    asked = {job.video_id for job in wanted}
    rows = [removals.judged(crawl.row(job) if job.video_id in asked else _named(dataset, job)) for job in jobs]
    return unique_rows([_without_file(lake, row) for row in rows])


class Removals:
    """Tombstones of `rotoscope forget`, by digest, address, id and person: what is neither fetched nor used again."""

    def __init__(self, lake: Lake, dataset: str) -> None:
        self._gone = removed(lake)
        mine = (pc.field("dataset") == dataset) & (pc.field("code") == "removed")
        # addresses whose content turned out to be a removed file: what the digest forbids is not downloaded twice to learn it
        self._found = {row["source_url"]: row["sha256"] for row in lake.rows("videos", mine, ["source_url", "sha256"]) if row["source_url"]}

    def judged(self, row: Row) -> Row:
        """The row, or with code `removed` where a tombstone names it."""
        known = row.get("sha256") or self._found.get(row.get("source_url"))
        return mark_removed(self._gone, [{**row, "sha256": known}])[0]

    def holds(self, row: Row) -> bool:
        """Whether a tombstone names the row."""
        return bool(self.judged({**row, "code": None})["code"] == "removed")


def _named(dataset: str, job: Job) -> Row:
    return {"dataset": dataset, "video_id": job.video_id, "source_url": job.url, **job.columns}


def _without_file(lake: Lake, row: Row) -> Row:
    """A removed file that came back under another address goes at once."""
    if row.get("code") == "removed" and row.get("uri"):
        lake.path(row["uri"]).unlink(missing_ok=True)
        lake.storage.remove(row["uri"])
        lake.storage.forget_copy(row["uri"])
        return {**row, "uri": None}
    return row


def unique_rows(rows: Sequence[Row]) -> list[Row]:
    """Marks the same part of the same file as a duplicate; several parts of one file are none."""
    parts = [
        {**row, "sha256": (row.get("sha256"), row.get("range_start_s"), row.get("range_end_s"), tuple(row.get("crop") or ()))}
        for row in rows
    ]
    return [{**row, "sha256": row["sha256"][0]} for row in mark_duplicates(parts)]


def failed_row(dataset: str, video_id: str, error: ClipError, **known: Any) -> Row:
    """Row of a video that is not there."""
    said = {"http_status": getattr(error, "http_status", None), "availability": getattr(error, "availability", None)}
    return {"dataset": dataset, "video_id": video_id, **known, **said, "status": "failed", "code": error.code, "reason": error.reason}


class _Crawl:
    """The files of one data set: those of earlier runs that are still whole, and those downloaded now."""

    def __init__(self, lake: Lake, dataset: str, options: Mapping[str, Any]) -> None:
        self._lake, self._dataset, self._options = lake, dataset, dict(options)
        self._folder = lake.root / "videos" / dataset
        self._fetcher = Fetcher(limits_from(self._options))
        self._youtube = YouTube(self._folder, self._fetcher.limits, Pause(float(self._options["youtube_pause_s"])))
        self._results: dict[Any, Fetched | ClipError] = {}
        self._whole: dict[str, bool] = {}  # uri -> its digest is still the recorded one
        before = lake.rows("videos", (pc.field("dataset") == dataset) & (pc.field("status") != "failed"))
        self._before = {row["video_id"]: row for row in before if row["source_url"] and row["sha256"] and row["retrieved_at"]}

    def is_there(self, job: Job) -> bool:
        """Whether the file of an earlier run has the digest that was recorded."""
        row = self._before.get(job.video_id)
        if row is None or row["source_url"] != job.url or (is_youtube(job.url) and row["uri"] != self._expected_uri(job, row)):
            return False
        if row["uri"] not in self._whole:
            path = self._lake.path(row["uri"])
            self._whole[row["uri"]] = path.is_file() and sha256_of(path) == row["sha256"]
        return self._whole[row["uri"]]

    def _expected_uri(self, job: Job, row: Row) -> str:
        name = content_id(job.url, part_name(_range(job)))
        return self._lake.uri(self._folder / f"{name}{Path(row['uri']).suffix}")

    def run(self, jobs: Sequence[Job], progress: Callable[[int, int], None] | None) -> None:
        """Plain files by several threads, sites one after the other."""
        with ThreadPoolExecutor(max(1, int(self._options.get("workers", 4)))) as pool, ThreadPoolExecutor(1) as single:
            futures = {(single if is_youtube(job.url) else pool).submit(self._fetch, job): job for job in jobs}
            for done, future in enumerate(as_completed(futures), start=1):
                self._results[futures[future].key] = future.result()
                if progress is not None:
                    progress(done, len(futures))

    def _fetch(self, job: Job) -> Fetched | ClipError:
        try:
            fetched = self._youtube.fetch(job.url, _range(job)) if is_youtube(job.url) else self._fetcher.fetch(job.url, self._folder)
        except ClipError as error:
            return error
        self._lake.put(fetched.path)
        return fetched

    def row(self, job: Job) -> Row:
        """The row of a job whose file is there, was downloaded, or could not be."""
        known: Row = {"source_url": job.url, **job.columns}
        if not is_youtube(job.url):  # a site's file is the range itself
            known |= {"range_start_s": job.start_s, "range_end_s": job.end_s}
        result = self._results.get(job.key)
        if isinstance(result, ClipError):
            return failed_row(self._dataset, job.video_id, result, **known)
        if result is None:
            before = self._before[job.video_id]
            path, known = (
                self._lake.path(before["uri"]),
                {**known, **{n: before[n] for n in ("retrieved_at", "http_status", "availability")}},
            )
        else:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            path, known = result.path, {**known, "retrieved_at": now, "http_status": result.http_status, "availability": "ok"}
        row = scan_file(self._lake, path, dataset=self._dataset, video_id=job.video_id, **known)
        return finished(row, job.finish)


def _range(job: Job) -> Range | None:
    return None if job.start_s is None or job.end_s is None else Range(start_s=job.start_s, end_s=job.end_s)


def finished(row: Row, finish: Callable[[Row], Row]) -> Row:
    """`finish` applied to a usable row; a ClipError that it raises is the row's reason."""
    if row["status"] != "ok":
        return row
    try:
        return finish(row)
    except ClipError as error:
        return {**row, "status": "failed", "code": error.code, "reason": error.reason}
