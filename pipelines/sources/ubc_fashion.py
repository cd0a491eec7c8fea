"""UBC Fashion (Zablotskaia et al., BMVC 2019): two lists of MP4 links, 500 for training and 100 for testing."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pipelines.errors import ClipError, UserError
from pipelines.fetch import Fetcher, limits_from
from pipelines.fetch_rows import DOWNLOAD_OPTIONS, Job, Row, download_rows, failed_row
from pipelines.fetch_safety import host_of, shown
from pipelines.lake import Lake
from pipelines.sources.terms import Terms, chosen_options, require_terms

TERMS = Terms(
    licence="no licence is stated; product videos of a shop and its vendors: research use only, not to be passed on",
    url="https://vision.cs.ubc.ca/datasets/fashion/",
)
OPTIONS: dict[str, Any] = {
    # paths of the two lists, or their URLs
    "train_list": "https://vision.cs.ubc.ca/datasets/fashion/resources/fashion_dataset/fashion_train.txt",
    "test_list": "https://vision.cs.ubc.ca/datasets/fashion/resources/fashion_dataset/fashion_test.txt",
    "accept_terms": False,  # true: you have read TERMS and accept them
    **DOWNLOAD_OPTIONS,
}
_PUBLISHED_TEST_LIST = "e9cd631922db7a9ed312c3a8891b37d7ae335308768c0e835e7fd5835f702e1a"  # sha256 of fashion_test.txt, 100 lines
PATHS: tuple[str, ...] = ("train_list", "test_list")  # options that name files, or their addresses


def scan_ubc_fashion(
    lake: Lake, name: str, options: Mapping[str, Any], progress: Callable[[int, int], None] | None = None
) -> list[dict[str, Any]]:
    """One row of `videos` per link; the split is the list that names it. Raises UserError for lists that are not there or not disjoint."""
    chosen = chosen_options(name, options, OPTIONS)
    require_terms(name, TERMS, chosen["accept_terms"])
    jobs: dict[str, Job] = {}
    bad: list[Row] = []
    for side in ("train", "test"):
        lines = _list_lines(lake, name, str(chosen[f"{side}_list"]), chosen)
        split = "ubc_100" if _is_published_test_list(lines) else side
        for line, url in enumerate(lines, start=1):
            try:
                job = _job(url, split)
            except ClipError as error:
                known = {**TERMS.columns(), "split": split, "source_url": shown(url)}
                bad.append(failed_row(name, f"{split} line {line:06d}", error, **known))
                continue
            _register(name, jobs, job)
    return sorted(download_rows(lake, name, list(jobs.values()), chosen, progress) + bad, key=lambda row: str(row["video_id"]))


def _is_published_test_list(lines: list[str]) -> bool:
    text = "\n".join(lines)
    return _PUBLISHED_TEST_LIST in {hashlib.sha256((text + end).encode()).hexdigest() for end in ("", "\n")}


def _job(url: str, split: str) -> Job:
    host_of(url)
    stem = posixpath.splitext(posixpath.basename(unquote(urlsplit(url).path)))[0]
    stem = shown(stem)
    if not stem:
        raise ClipError("bad_annotation", url, "the link names no file", "correct the list")
    return Job(video_id=stem, url=url, columns={**TERMS.columns(), "split": split})


def _register(name: str, jobs: dict[str, Job], job: Job) -> None:
    """Raises UserError where an id is in both lists, or is two files."""
    other = jobs.setdefault(job.video_id, job)
    if other.columns["split"] != job.columns["split"]:
        raise UserError(f"data set {name}: {job.video_id} is in both lists; a video must not be trained and tested on, correct the lists")
    if other.url != job.url:
        raise UserError(f"data set {name}: {other.url} and {job.url} have one name; correct the lists")


def _list_lines(lake: Lake, name: str, where: str, options: Mapping[str, Any]) -> list[str]:
    """Lines of a list that is a file or a URL. Raises UserError."""
    path = Path(where)
    try:
        if "://" in where:
            fetcher = Fetcher(limits_from(dict(options)), check=_is_list, pages=True)
            path = fetcher.fetch(where, lake.root / "videos" / name / "lists").path
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (ClipError, OSError, UnicodeDecodeError) as error:
        raise UserError(f"data set {name}: the list {where} cannot be read ({error}); give train_list and test_list as files") from None
    if not lines:
        raise UserError(f"data set {name}: the list {where} is empty; download it again")
    return lines


def _is_list(path: Path) -> None:
    head = path.read_text(encoding="utf-8-sig", errors="replace").lstrip()[:20].lower()
    if not head.startswith("http"):
        raise ClipError("bad_annotation", path.name, "its first line is no link", "check the list's address")
