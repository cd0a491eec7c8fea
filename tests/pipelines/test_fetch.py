"""Downloads from a server that drops, lies, stalls and refuses: whole files or a reason, never something between."""

from __future__ import annotations

import hashlib
import socket
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.availability import availability_counts, availability_table
from pipelines.errors import ClipError, UserError
from pipelines.fetch import Fetcher, FetchError, FetchLimits
from pipelines.fetch_pace import TokenBucket, backoff_s, retry_after_s
from pipelines.fetch_safety import addresses_of, host_of, is_public
from pipelines.fetch_youtube import availability_of, fetch_with_ytdlp, is_throttled, is_youtube
from pipelines.lake import Lake
from pipelines.sources.ted_talks import read_chunks, scan_ted_talks
from pipelines.sources.ubc_fashion import scan_ubc_fashion
from pipelines.sources.url_list import scan_url_list
from pipelines.video import encode_video
from tests.layouts.flaky import Server, flaky

FAST = FetchLimits(
    tries=4, backoff_s=0.01, longest_wait_s=0.05, read_s=1, wall_s=3, requests_per_s=1000, burst=1000, allow_private_hosts=True
)
LOCAL = {n: getattr(FAST, n) for n in FetchLimits.__slots__} | {"accept_terms": True}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    path = tmp_path / "source.mp4"
    encode_video(path, np.random.default_rng(0).integers(0, 255, (50, 64, 64, 3), np.uint8), Fraction(25))
    with flaky(path.read_bytes()) as made:
        yield made


def fetch(server: Server, what: str, folder: Path, **limits: Any) -> Any:
    from dataclasses import replace

    return Fetcher(replace(FAST, **limits)).fetch(f"{server.url}/{what}", folder)


@pytest.mark.parametrize("what", ["good/a.mp4", "drops/a.mp4", "changes/a.mp4", "busy/a.mp4"])
def test_a_flaky_server_still_gives_the_exact_bytes(server: Server, tmp_path: Path, what: str) -> None:
    got = fetch(server, what, tmp_path / "v")
    assert got.path.read_bytes() == server.data
    assert got.sha256 == hashlib.sha256(server.data).hexdigest()
    assert [p.name for p in (tmp_path / "v").iterdir()] == [got.path.name]  # no partial file, no record left


def test_what_has_arrived_is_not_asked_for_again_even_by_a_later_run(server: Server, tmp_path: Path) -> None:
    assert fetch(server, "drops/a.mp4", tmp_path / "v").bytes_received == len(server.data)
    with pytest.raises(FetchError, match=r"the connection (broke|ended)"):
        fetch(server, "drops/b.mp4", tmp_path / "v", tries=2)
    later = fetch(server, "drops/b.mp4", tmp_path / "v")
    assert later.path.read_bytes() == server.data
    assert later.bytes_received < len(server.data) / 2


@pytest.mark.parametrize(
    ("what", "code", "match", "availability"),
    [
        ("status/404.mp4", "not_downloaded", "HTTP 404", "removed"),
        ("status/403.mp4", "not_downloaded", "HTTP 403", "private"),
        ("status/451.mp4", "not_downloaded", "HTTP 451", "region"),
        ("status/500.mp4", "not_downloaded", "HTTP 500", "other"),
        ("page/a.mp4", "not_a_video", "text/html", "other"),
        ("disguised/a.mp4", "not_a_video", "container", "other"),
        ("lies/a.mp4", None, "lies/a.mp4", "other"),
        ("tofile/a.mp4", "not_allowed", "another scheme", "other"),
    ],
)
def test_what_is_no_whole_video_never_gets_a_name(
    server: Server, tmp_path: Path, what: str, code: str | None, match: str, availability: str
) -> None:
    with pytest.raises(FetchError, match=match) as caught:
        fetch(server, what, tmp_path / "v")
    assert code is None or caught.value.code == code
    assert caught.value.availability == availability
    assert [p for p in (tmp_path / "v").iterdir() if not p.name.startswith(".")] == []


@pytest.mark.parametrize("what", ["stalls/a.mp4", "dribbles/a.mp4", "dribbleshead/a.mp4"])
def test_a_server_that_hangs_or_dribbles_is_cut_off(server: Server, tmp_path: Path, what: str) -> None:
    started = time.monotonic()
    with pytest.raises(FetchError, match=r"not done after|broke"):
        fetch(server, what, tmp_path / "v", tries=1, wall_s=0.5)
    assert time.monotonic() - started < 2


def test_an_endless_body_is_cut_at_the_size_limit(server: Server, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="larger than"):
        fetch(server, "endless/a.mp4", tmp_path / "v", largest_bytes=1 << 20)
    assert list((tmp_path / "v").iterdir()) == []


def test_a_wrong_checksum_is_refused(server: Server, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="sha256"):
        Fetcher(FAST).fetch(f"{server.url}/good/a.mp4", tmp_path / "v", sha256="0" * 64)


def test_a_host_that_refuses_again_and_again_is_left_alone(server: Server, tmp_path: Path) -> None:
    fetcher = Fetcher(FAST)
    for number in range(FAST.stop_after):
        with pytest.raises(FetchError, match="403"):
            fetcher.fetch(f"{server.url}/status/403.mp4?{number}", tmp_path)
    before = sum(server.hits.values())
    with pytest.raises(FetchError, match="throttled"):
        fetcher.fetch(f"{server.url}/good/a.mp4", tmp_path)
    assert sum(server.hits.values()) == before


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://a.b/c", "http:///x", "gopher://x", "http://a b/", "http://a\n.b/", "nothing"])
def test_other_schemes_are_not_opened(url: str) -> None:
    with pytest.raises(ClipError, match="not_allowed"):
        host_of(url)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "192.168.0.1",
        "172.16.0.1",
        "169.254.169.254",
        "0.0.0.0",
        "224.0.0.1",
        "100.64.0.1",
        "::1",
        "fe80::1%eth0",
        "fc00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "::",
        "::7f00:1",
    ],
)
def test_private_addresses_are_told_apart(address: str) -> None:
    assert not is_public(address)
    assert is_public("93.184.216.34")
    assert is_public("2606:2800:220:1:248:1893:25c8:1946")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1"])
def test_private_hosts_are_refused_in_every_spelling(server: Server, tmp_path: Path, host: str) -> None:
    limits = FetchLimits(tries=1, wall_s=5)
    with pytest.raises(ClipError, match="not_allowed"):
        Fetcher(limits).fetch(f"http://{host}:{server.server_address[1]}/good/a.mp4", tmp_path)
    assert server.hits == {}


def test_a_name_that_changes_its_answer_gains_nothing(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, opened = [], []

    def resolve(host: str, port: int, *args: Any, **kwargs: Any) -> list[Any]:
        asked.append(host)
        return [(2, 1, 6, "", ("93.184.216.34" if len(asked) == 1 else "127.0.0.1", port))]

    def connect(address: tuple[str, int], *args: Any, **kwargs: Any) -> Any:
        opened.append(address[0])
        raise OSError("no network in a test")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket, "create_connection", connect)
    with pytest.raises(ClipError, match="not_downloaded"):
        Fetcher(FetchLimits(tries=1)).fetch("http://rebinding.example/a.mp4", tmp_path)
    assert (asked, opened) == (["rebinding.example"], ["93.184.216.34"])
    with pytest.raises(ClipError, match="not_allowed"):
        addresses_of("rebinding.example", 80)


def test_a_bucket_lets_a_burst_through_and_then_the_rate() -> None:
    now = [0.0]
    bucket = TokenBucket(2.0, 3, clock=lambda: now[0])
    assert [bucket.take() for _ in range(5)] == [0, 0, 0, 0.5, 1.0]
    now[0] = 100.0
    assert bucket.take() == 0


def test_back_off_is_jittered_and_honours_retry_after() -> None:
    waits = [backoff_s(3, 1.0, 60.0) for _ in range(200)]
    assert 0 <= min(waits) < 2 < 6 < max(waits) <= 8
    assert backoff_s(0, 0.1, 60.0, "7") == 7
    assert backoff_s(0, 0.1, 5.0, "700") == 5
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert retry_after_s("soon") == 0


@pytest.mark.parametrize(
    ("message", "availability"),
    [
        ("ERROR: [youtube] x: Private video. Sign in if you've been granted access", "private"),
        ("ERROR: [youtube] x: Sign in to confirm your age. This video may be inappropriate for some users.", "age"),
        ("The uploader has not made this video available in your country", "region"),
        ("Video unavailable. This video has been removed by the uploader", "removed"),
        ("Sign in to confirm you're not a bot", "other"),
    ],
)
def test_messages_of_the_site_are_told_apart(tmp_path: Path, message: str, availability: str) -> None:
    assert availability_of(message) == availability
    program = "import json,sys; sys.stdin.read(); print(json.dumps({'error': sys.argv[1]}))"
    with pytest.raises(FetchError) as caught:
        fetch_with_ytdlp("https://youtu.be/x", tmp_path, command=[sys.executable, "-c", program, message])
    assert (caught.value.code, caught.value.availability) == ("not_downloaded", availability)
    assert is_throttled(message) == ("bot" in message)


def test_a_downloader_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    program = f"sleep 60 & echo $! > {tmp_path}/child; wait"
    with pytest.raises(FetchError, match="timeout"):
        fetch_with_ytdlp("https://youtu.be/x", tmp_path / "v", wall_s=0.5, command=["sh", "-c", program])
    stat = Path(f"/proc/{(tmp_path / 'child').read_text().strip()}/stat")
    deadline = time.monotonic() + 5
    while stat.exists() and stat.read_text().split()[2] != "Z" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not stat.exists() or stat.read_text().split()[2] == "Z"


def test_a_downloader_that_dies_is_a_reason(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="worker_died"):
        fetch_with_ytdlp("https://youtu.be/x", tmp_path, command=["sh", "-c", "exit 3"])
    assert is_youtube("https://www.youtube.com/watch?v=x")
    assert not is_youtube("https://youtube.com.evil.example/x")


def test_yt_dlp_itself_downloads_a_plain_file(server: Server, tmp_path: Path) -> None:
    got = fetch_with_ytdlp(f"{server.url}/good/a.mp4", tmp_path / "v", wall_s=60)
    assert got.path.read_bytes() == server.data


def test_a_list_of_links_becomes_rows_and_is_fetched_once(server: Server, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake").create()
    good = f"{server.url}/good/a.mp4"
    lines = ["url,start,end,split,subject", f"{good},0.2,1.0,train,eve", f"{good},1,0:01.6,test,", f"{good},2,1,,", "file:///x,,,,"]
    (tmp_path / "list.csv").write_text("\n".join([*lines, f"{server.url}/status/404.mp4,,,,", f"{good},x,1,,"]))
    options = {**LOCAL, "list": str(tmp_path / "list.csv")}
    rows = scan_url_list(lake, "mine", options)
    assert sorted(str(row.get("code")) for row in rows) == [
        "None",
        "None",
        "bad_annotation",
        "bad_annotation",
        "not_allowed",
        "not_downloaded",
    ]
    fine = [row for row in rows if row["status"] == "ok"]
    assert {(row["range_start_s"], row["range_end_s"], row["split"], row["subject"]) for row in fine} == {
        (0.2, 1.0, "train", "eve"),
        (1.0, 1.6, "test", None),
    }
    assert all(row["http_status"] == 200 and row["availability"] == "ok" and row["terms_accepted"] for row in fine)
    lake.write("videos", rows)
    again = scan_url_list(lake, "mine", options)
    assert server.hits["/good/a.mp4"] == 1
    assert [row for row in again if row["status"] == "ok"] == fine
    lake.path(fine[0]["uri"]).write_bytes(b"spoiled")
    assert next(row for row in scan_url_list(lake, "mine", options) if row["status"] == "ok")["sha256"] == fine[0]["sha256"]
    assert server.hits["/good/a.mp4"] == 2
    assert availability_counts(rows)["all"]["removed"] == 1
    assert "| train | 1 |" in availability_table(rows)


def test_removed_videos_do_not_come_back(server: Server, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake").create()
    (tmp_path / "list.txt").write_text(f"# mine\n{server.url}/good/a.mp4\n{server.url}/busy/b.mp4\n")
    lake.write("removals", [{"kind": "url", "value": f"{server.url}/good/a.mp4", "reason": "asked"}])
    rows = scan_url_list(lake, "mine", {**LOCAL, "list": str(tmp_path / "list.txt")})
    assert {row["source_url"]: row.get("code") for row in rows} == {f"{server.url}/good/a.mp4": "removed", f"{server.url}/busy/b.mp4": None}
    assert "/good/a.mp4" not in server.hits


def test_fashion_lists_give_the_splits(server: Server, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake").create()
    options = {**LOCAL, "train_list": f"{server.url}/list/1.txt", "test_list": f"{server.url}/list/2.txt"}
    with pytest.raises(UserError, match="accept_terms"):
        scan_ubc_fashion(lake, "ubc_fashion", {**options, "accept_terms": False})
    rows = scan_ubc_fashion(lake, "ubc_fashion", options)
    assert [(row["video_id"], row["split"]) for row in rows] == [("1", "train"), ("2", "test")]
    lake.write("videos", rows)
    with pytest.raises(UserError, match="both lists"):
        scan_ubc_fashion(lake, "ubc_fashion", {**options, "test_list": options["train_list"]})


HEADER = "video_id,start,end,bbox,fps,width,height,partition\n"


def ted(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "ted.csv"
    path.write_text(HEADER + "\n".join(lines))
    return path


def test_ted_rows_of_a_local_folder_have_ranges_and_crops(server: Server, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake").create()
    (tmp_path / "talks").mkdir()
    (tmp_path / "talks" / "AAAAAAAAAAA.mp4").write_bytes(server.data)
    row = "AAAAAAAAAAA,5,20,10-20-101-120,25,128,128,train"
    path = ted(
        tmp_path,
        row,
        "AAAAAAAAAAA,20,40,0-0-64-64,25,64,64,train",
        "BBBBBBBBBBB,1,9,0-0-9-9,25,64,64,test",
        "CCCCCCCCCCC,9,1,0-0-9-9,25,64,64,test",
    )
    rows = scan_ted_talks(lake, "ted_talks", {"accept_terms": True, "metadata": str(path), "talks": str(tmp_path / "talks")})
    assert [(r["status"], r.get("code")) for r in rows] == [
        ("ok", None),
        ("ok", None),
        ("failed", "unreadable"),
        ("failed", "bad_annotation"),
    ]
    assert {(r["range_start_s"], r["range_end_s"], tuple(r["crop"])) for r in rows[:2]} == {
        (0.2, 0.8, (5, 10, 44, 50)),
        (0.8, 1.6, (0, 0, 64, 64)),
    }
    lake.write("videos", rows)


def test_the_layout_without_ranges_is_refused_or_read_from_its_ids(tmp_path: Path) -> None:
    path = ted(tmp_path, "AAAAAAAAAAA#000010#000030,0,0,0-0-9-9,10.0,64,64,train")
    with pytest.raises(UserError, match=r"start and end are 0 in every row.*id_range_fps"):
        read_chunks(path)
    chunks, bad = read_chunks(path, 10)
    assert [(c.start_s, c.end_s) for c in chunks] == [(1.0, 3.0)]
    assert bad == []


@pytest.mark.parametrize(
    ("second", "match"),
    [("AAAAAAAAAAA,5,20,0-0-9-9,25,64,64,train", "twice"), ("AAAAAAAAAAA,30,40,0-0-9-9,25,64,64,test", "both train and test")],
)
def test_ted_tables_that_contradict_themselves_are_refused(tmp_path: Path, second: str, match: str) -> None:
    with pytest.raises(UserError, match=match):
        read_chunks(ted(tmp_path, "AAAAAAAAAAA,5,20,0-0-9-9,25,64,64,train", second))


def test_the_file_in_the_authors_repository_is_refused(media: Path) -> None:
    path = media / "metadata" / "ted-metadata.csv"
    with pytest.raises(UserError, match="every clip would be empty"):
        read_chunks(path)
    chunks, bad = read_chunks(path, 30)
    assert len(chunks) + len(bad) == 1320
    assert len({chunk.talk for chunk in chunks}) <= 411
