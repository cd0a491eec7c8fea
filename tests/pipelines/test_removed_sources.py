"""What was forgotten is neither downloaded nor unpacked again, whichever way its tombstone names it, from any source."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines import fetch_rows, fetch_youtube
from pipelines.lake import Lake
from pipelines.sources.scan import sha256_of
from pipelines.sources.ted_talks import scan_ted_talks
from pipelines.sources.tiktok import scan_tiktok
from pipelines.sources.ubc_fashion import scan_ubc_fashion
from pipelines.sources.ucf101 import scan_ucf101
from pipelines.sources.url_list import scan_url_list
from pipelines.video import encode_video
from tests.layouts.flaky import Server, flaky
from tests.layouts.ted_talks import Talk, write_ted_talks
from tests.layouts.tiktok import as_zip, write_tiktok
from tests.layouts.ucf101 import write_ucf101

FETCHING = {"accept_terms": True, "allow_private_hosts": True, "requests_per_s": 1000, "burst": 1000, "tries": 1}
Rows = dict[str, dict[str, Any]]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake").create()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    path = tmp_path / "source.mp4"
    encode_video(path, np.random.default_rng(0).integers(0, 255, (12, 32, 32, 3), np.uint8), Fraction(25))
    with flaky(path.read_bytes()) as made:
        yield made


def bury(lake: Lake, kind: str, value: str) -> None:
    lake.write("removals", [{"kind": kind, "value": value, "dataset": "", "reason": "asked"}])


def kept(lake: Lake, scan: Callable[[], list[dict[str, Any]]]) -> Rows:
    """Rows of one scan by id, written as the crawl writes them."""
    rows = scan()
    lake.write("videos", rows)
    return {row["video_id"]: row for row in rows}


def files(lake: Lake, dataset: str) -> list[str]:
    return sorted(path.name for path in (lake.root / "videos" / dataset).rglob("*") if path.is_file() and not path.name.startswith("."))


def url_rows(lake: Lake, server: Server, tmp_path: Path) -> Rows:
    (tmp_path / "list.csv").write_text(f"url,subject\n{server.url}/good/a.mp4,eve\n{server.url}/status/404.mp4,ada\n")
    return kept(lake, lambda: scan_url_list(lake, "mine", {**FETCHING, "list": str(tmp_path / "list.csv")}))


@pytest.mark.parametrize("kind", ["url", "video_id", "person"])
def test_a_listed_link_is_not_asked_for_again(lake: Lake, server: Server, tmp_path: Path, kind: str) -> None:
    video_id = next(name for name, row in url_rows(Lake(tmp_path / "other").create(), server, tmp_path).items() if row["subject"] == "eve")
    server.hits.clear()
    bury(lake, kind, {"url": f"{server.url}/good/a.mp4", "video_id": f"mine/{video_id}", "person": "eve"}[kind])
    rows = url_rows(lake, server, tmp_path)
    assert (rows[video_id]["status"], rows[video_id]["code"]) == ("failed", "removed")
    assert set(server.hits) == {"/status/404.mp4"}
    assert files(lake, "mine") == []


def test_removed_bytes_under_another_address_are_deleted_and_asked_for_once(lake: Lake, server: Server, tmp_path: Path) -> None:
    bury(lake, "sha256", sha256_of(tmp_path / "source.mp4"))
    for _ in range(3):
        rows = url_rows(lake, server, tmp_path)
        assert sorted(row["code"] for row in rows.values()) == ["not_downloaded", "removed"]
        assert files(lake, "mine") == []
        assert server.hits["/good/a.mp4"] == 1


def test_an_id_of_another_data_set_removes_nothing(lake: Lake, server: Server, tmp_path: Path) -> None:
    video_id = next(name for name, row in url_rows(lake, server, tmp_path).items() if row["subject"] == "eve")
    bury(lake, "video_id", f"other/{video_id}")
    assert url_rows(lake, server, tmp_path)[video_id]["status"] == "ok"


@pytest.mark.parametrize("kind", ["url", "video_id", "sha256"])
def test_fashion_links(lake: Lake, server: Server, tmp_path: Path, kind: str) -> None:
    for split in ("train", "test"):
        (tmp_path / f"{split}.txt").write_text(f"{server.url}/good/{split}.mp4\n")
    digest = sha256_of(tmp_path / "source.mp4")
    bury(lake, kind, {"url": f"{server.url}/good/test.mp4", "video_id": "ubc_fashion/test", "sha256": digest}[kind])
    options = {**FETCHING, "train_list": str(tmp_path / "train.txt"), "test_list": str(tmp_path / "test.txt")}
    rows = kept(lake, lambda: scan_ubc_fashion(lake, "ubc_fashion", options))
    assert rows["test"]["code"] == "removed"
    if kind == "sha256":  # both links have these bytes
        assert rows["train"]["code"] == "removed"
        assert files(lake, "ubc_fashion") == []
    else:
        assert rows["train"]["status"] == "ok"
        assert "/good/test.mp4" not in server.hits


TALKS = {"VM6HZqQKhok": Talk(identity=1, partition="train", ranges=((0, 8), (8, 16))), "4E_1AB1rsSw": Talk(identity=2, partition="test", ranges=((0, 8),))}  # fmt: skip


@pytest.mark.parametrize("kind", ["url", "video_id", "person", "sha256"])
def test_talks_from_a_folder(lake: Lake, tmp_path: Path, kind: str) -> None:
    made = write_ted_talks(tmp_path / "public", TALKS, size=64)
    gone = {"url": set(), "video_id": {"VM6HZqQKhok#0#8"}}.get(kind, {"VM6HZqQKhok#0#8", "VM6HZqQKhok#8#16"})
    file = made.videos / "VM6HZqQKhok.mp4"
    names = {"url": "https://x.example", "video_id": "ted/VM6HZqQKhok#0#8", "person": "VM6HZqQKhok", "sha256": sha256_of(file)}
    bury(lake, kind, names[kind])
    options = {"accept_terms": True, "metadata": str(made.ted384), "talks": str(made.videos)}
    rows = kept(lake, lambda: scan_ted_talks(lake, "ted", options))
    assert {name for name, row in rows.items() if row.get("code") == "removed"} == gone
    assert {row["status"] for name, row in rows.items() if name not in gone} == {"ok"}
    assert file.is_file()  # the user's own


@pytest.mark.parametrize("kind", ["url", "video_id", "person"])
def test_talks_from_youtube_are_not_asked_for_again(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    made = write_ted_talks(tmp_path / "public", TALKS, size=64)
    script = tmp_path / "worker.py"
    script.write_text(
        "import json, sys, pathlib, shutil\nrequest = json.load(sys.stdin)\n"
        f"folder, log = pathlib.Path({str(made.videos)!r}), pathlib.Path({str(tmp_path / 'asked')!r})\n"
        "log.open('a').write(json.dumps([request['url'], request['start_s']]) + '\\n')\n"
        "path = pathlib.Path(request['folder']) / (request['name'] + '.mp4')\n"
        "shutil.copy(folder / (request['url'][-11:] + '.mp4'), path)\nprint(json.dumps({'path': str(path)}))\n"
    )
    monkeypatch.setattr(fetch_youtube, "WORKER", (sys.executable, str(script)))
    monkeypatch.setattr(fetch_rows, "youtube_ready", lambda *, ranges: None)
    names = {"url": "https://www.youtube.com/watch?v=VM6HZqQKhok", "video_id": "ted/VM6HZqQKhok#0#8", "person": "VM6HZqQKhok"}
    bury(lake, kind, names[kind])
    options = {**FETCHING, "metadata": str(made.ted384), "youtube_pause_s": 0.0}
    rows = kept(lake, lambda: scan_ted_talks(lake, "ted", options))
    asked = {tuple(json.loads(line)) for line in (tmp_path / "asked").read_text().splitlines()}
    assert rows["VM6HZqQKhok#0#8"]["code"] == "removed"
    assert ("https://www.youtube.com/watch?v=VM6HZqQKhok", 0.0) not in asked
    assert rows["4E_1AB1rsSw#0#8"]["status"] == "ok"
    assert len(asked) == (2 if kind == "video_id" else 1)


@pytest.mark.parametrize("kind", ["video_id", "sha256"])
def test_a_sequence_of_an_archive_is_deleted_again_after_unpacking(lake: Lake, tmp_path: Path, kind: str) -> None:
    root = write_tiktok(tmp_path / "public", {"00001": 1, "00002": 2}, frames=3, size=64)
    bury(lake, kind, {"video_id": "tiktok/00001", "sha256": sha256_of(root / "00001" / "images")}[kind])
    options = {"archive": str(as_zip(root, tmp_path / "TikTok.zip")), "accept_terms": True, "sequences": "1-2"}
    for _ in range(2):
        rows = kept(lake, lambda: scan_tiktok(lake, "tiktok", options))
        assert (rows["00001"]["code"], rows["00002"]["status"]) == ("removed", "ok")
        there = sorted(path.name for path in (lake.root / "videos" / "tiktok" / "archive" / "TikTok_dataset").iterdir())
        assert there == ["00002"]


@pytest.mark.parametrize("kind", ["video_id", "sha256", "person"])
def test_files_of_an_archive_are_deleted_again_and_those_of_a_folder_stay(lake: Lake, tmp_path: Path, kind: str) -> None:
    folder = write_ucf101(tmp_path / "public", {"TaiChi": {1: 1, 2: 2}}, frames=3, size=64)
    video = "TaiChi/v_TaiChi_g01_c01.avi"
    digest = sha256_of(folder / "UCF-101" / video)
    for name in ("ucf101", "own"):
        bury(lake, kind, {"video_id": f"{name}/{video}", "sha256": digest, "person": "TaiChi_g01"}[kind])
    lists = str(folder / "ucfTrainTestlist")
    options = {"archive": str(as_zip(folder / "UCF-101", tmp_path / "UCF101.zip")), "lists": lists, "accept_terms": True}
    for _ in range(2):
        rows = kept(lake, lambda: scan_ucf101(lake, "ucf101", options))
        assert sorted((row["status"], row.get("code")) for row in rows.values()) == [("failed", "removed"), ("ok", None)]
        assert [path.name for path in (lake.root / "videos" / "ucf101").rglob("*.avi")] == ["v_TaiChi_g02_c01.avi"]
    rows = kept(lake, lambda: scan_ucf101(lake, "own", {"folder": str(folder), "accept_terms": True}))
    assert rows[video]["code"] == "removed"
    assert (folder / "UCF-101" / video).is_file()
