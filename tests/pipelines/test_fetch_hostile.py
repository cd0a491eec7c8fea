"""Servers and lists that mean harm, YouTube's needs and manners: refused, escaped or waited for."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from pipelines import fetch_safety, fetch_youtube
from pipelines.errors import ClipError, UserError
from pipelines.fetch import Fetcher, FetchError, FetchLimits
from pipelines.fetch_pace import Pause, retry_after_s
from pipelines.fetch_safety import host_of, shown
from pipelines.fetch_youtube import Range, YouTube, video_page, youtube_ready
from pipelines.lake import Lake
from pipelines.sources.folder import scan_folder
from pipelines.sources.tiktok import scan_tiktok
from pipelines.sources.url_list import scan_url_list
from pipelines.video import encode_video
from tests.layouts.flaky import Server, flaky
from tests.layouts.tiktok import write_tiktok

FAST = FetchLimits(
    tries=2, backoff_s=0.01, longest_wait_s=0.05, read_s=1, wall_s=3, requests_per_s=1000, burst=1000, allow_private_hosts=True
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("flaky") / "source.mp4"
    encode_video(path, np.random.default_rng(0).integers(0, 255, (12, 32, 32, 3), np.uint8), Fraction(25))
    return path.read_bytes()


@pytest.fixture
def server(data: bytes) -> Iterator[Server]:
    with flaky(data) as made:
        yield made


@pytest.mark.parametrize("target", ["127.0.0.2", "[::1]", "169.254.169.254", "10.0.0.1", "localhost"])
def test_a_redirect_into_a_private_network_is_not_followed(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    real = fetch_safety.is_public
    monkeypatch.setattr(fetch_safety, "is_public", lambda address: (address == "127.0.0.1" and target != "localhost") or real(address))
    limits = replace(FAST, allow_private_hosts=False)
    if target == "localhost":
        first_public = iter([True])
        monkeypatch.setattr(fetch_safety, "is_public", lambda address: next(first_public, False))
    url = f"{server.url}/redirect/{quote(f'http://{target}:{server.server_address[1]}/good/a.mp4', safe='')}"
    with pytest.raises(ClipError, match=r"not_allowed.*private network"):
        Fetcher(limits).fetch(url, tmp_path / "v")
    assert [path for path in server.hits if path.startswith("/good")] == []
    assert [p for p in (tmp_path / "v").iterdir() if not p.name.startswith(".")] == []


@pytest.mark.parametrize("target", ["http://[", "http://a" + "a" * 80 + ".example/", "http://%zz/", "//\\", "data:,x"])
def test_a_redirect_that_is_no_address_is_a_reason(server: Server, tmp_path: Path, target: str) -> None:
    with pytest.raises(ClipError, match=r"not_downloaded|not_allowed"):
        Fetcher(FAST).fetch(f"{server.url}/redirect/{quote(target, safe='')}", tmp_path)


@pytest.mark.parametrize(
    "header",
    [
        "Content-Length:\u00b2",
        "Content-Length:" + "9" * 5000,
        "Content-Length:-5",
        "Retry-After:\u00b2",
        "Retry-After:" + "9" * 400,
        "Content-Range:bytes " + "9" * 5000 + "-1/2",
        'ETag:"a\u00e9b"',
        "Content-Type:\u00e9\u00ff",
        "Location:\u00e9",
    ],
)
def test_headers_made_to_break_a_parser_are_a_reason(server: Server, tmp_path: Path, header: str) -> None:
    with pytest.raises(ClipError):
        Fetcher(FAST).fetch(f"{server.url}/oddheader/{quote(header)}", tmp_path)


def test_dates_beyond_the_calendar_ask_for_no_wait() -> None:
    assert retry_after_s("Wed, 21 Oct 999999999999 07:28:00 GMT") == 0
    assert retry_after_s("\u00b2") == 0


def test_a_link_planted_where_the_partial_file_goes_is_not_followed(server: Server, tmp_path: Path) -> None:
    from pipelines.fetch import content_id

    outside, folder = tmp_path / "outside", tmp_path / "v"
    outside.write_text("precious")
    folder.mkdir()
    url = f"{server.url}/good/a.mp4"
    (folder / f".{content_id(url, chr(34) + 'v1' + chr(34))}.part").symlink_to(outside)
    got = Fetcher(FAST).fetch(url, folder)
    assert outside.read_text() == "precious"
    assert got.path.read_bytes() == server.data
    assert not got.path.is_symlink()


@pytest.mark.parametrize(
    "url",
    [
        "http://user:secret@example.com/a.mp4",
        "http://example.com/\u202e4pm.exe",
        "http://example.com/\u0085x",
        "http://example.com/\u2028x",
        "http://example.com/\x1b[31m",
        "https://",
        "http://:80/x",
    ],
)
def test_addresses_that_hide_or_tell_something_are_refused(url: str) -> None:
    with pytest.raises(ClipError, match="not_allowed") as caught:
        host_of(url)
    assert caught.value.reason.isprintable()
    assert "secret" not in str(caught.value)


def test_text_of_others_is_escaped_before_it_is_printed() -> None:
    assert shown("a\x1b]0;x\x07\nb\u202ec") == "a\\x1b]0;x\\x07\\nb\\u202ec"
    assert shown("Ünïcode <b>'\"") == "Ünïcode <b>'\""  # pages escape HTML themselves
    assert len(shown("x" * 1000)) == 300


def test_names_in_addresses_never_become_file_names(server: Server, tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake").create()
    odd = ["..%2F..%2Fevil.mp4", "it's%20%22quoted%22.mp4", "ünïcode-日本.mp4", "a%0Ab.mp4", "%00.mp4", "-rf.mp4", "x" * 900 + ".mp4"]
    (tmp_path / "list.txt").write_text("".join(f"{server.url}/good/{name}\n" for name in odd), encoding="utf-8")
    options = {name: getattr(FAST, name) for name in FetchLimits.__slots__} | {"accept_terms": True, "list": str(tmp_path / "list.txt")}
    rows = scan_url_list(lake, "mine", options)
    assert sum(row["status"] == "ok" for row in rows) == 1  # the same bytes: one stays, the others are its copies
    assert {row.get("code") for row in rows} == {None, "duplicate"}
    files = [path for path in (tmp_path / "lake" / "videos").rglob("*") if path.is_file()]
    assert len(files) == len(odd)
    assert all(len(path.name) == 24 and path.parent == tmp_path / "lake" / "videos" / "mine" for path in files)


def test_a_certificate_that_proves_nothing_ends_the_download_at_once(data: bytes, tmp_path: Path) -> None:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    _self_signed(key, cert)
    with flaky(data) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        assert isinstance(server, ThreadingHTTPServer)
        with pytest.raises(FetchError, match="certificate"):
            Fetcher(FAST).fetch(f"https://127.0.0.1:{server.server_address[1]}/good/a.mp4", tmp_path / "v")
        assert server.hits == {}


def _self_signed(key: Path, cert: Path) -> None:
    """A certificate for 127.0.0.1 that nobody vouches for."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, *subject, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)


def test_a_file_whose_name_is_not_unicode_is_a_row(tmp_path: Path) -> None:
    lake, folder = Lake(tmp_path / "lake").create(), tmp_path / "videos"
    folder.mkdir()
    (folder / 'it\'s "quoted"\nü.mp4').write_bytes(b"x")
    with open(os.fsencode(folder) + b"/\xff.mp4", "wb") as file:
        file.write(b"x")
    rows = scan_folder(lake, folder, "mine")
    lake.write("videos", rows)
    assert {(row["video_id"], row["code"]) for row in lake.rows("videos")} == {
        ('it\'s "quoted"\nü.mp4', "not_a_video"),
        ("\\udcff.mp4", "not_allowed"),
    }


def test_sequences_and_images_whose_names_are_not_unicode_are_rows(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake").create()
    root = write_tiktok(tmp_path, {"00001": 1, "00002": 2}, frames=3, size=64)
    os.rename(root / "00001" / "images" / "0002.png", os.fsencode(root / "00001" / "images") + b"/\xff.png")
    os.mkdir(os.fsencode(root) + b"/\xfe")
    rows = scan_tiktok(lake, "tiktok", {"folder": str(root), "accept_terms": True, "sequences": "1-2"})
    lake.write("videos", rows)
    assert {row["video_id"]: row["code"] for row in lake.rows("videos")} == {"00001": "truncated", "00002": None, "\\udcfe": "not_allowed"}


# --- YouTube ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "link",
    [
        "https://www.youtube.com/watch?v=VM6HZqQKhok",
        "https://m.youtube.com/watch?list=PLx&v=VM6HZqQKhok&t=3",
        "https://youtu.be/VM6HZqQKhok?si=x",
        "https://www.youtube.com/shorts/VM6HZqQKhok",
        "https://www.youtube-nocookie.com/embed/VM6HZqQKhok",
    ],
)
def test_a_video_has_one_address_however_its_link_is_written(link: str) -> None:
    assert video_page(link) == "https://www.youtube.com/watch?v=VM6HZqQKhok"


@pytest.mark.parametrize("path", ["playlist?list=PLx", "@someone", "c/someone", "elevenchars", "results?search_query=x", "", "watch", "watch?v=x/../y"])  # fmt: skip
def test_links_to_many_videos_are_refused(path: str) -> None:
    with pytest.raises(ClipError, match="no single video"):
        video_page(f"https://www.youtube.com/{path}")


def test_what_youtube_needs_is_said_before_anything_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = Lake(tmp_path / "lake").create()
    (tmp_path / "list.csv").write_text("url,start,end\nhttps://youtu.be/VM6HZqQKhok,1,2\n")
    options = {"accept_terms": True, "list": str(tmp_path / "list.csv")}
    monkeypatch.setattr(fetch_youtube, "WORKER", (sys.executable, "-c", "raise SystemExit('asked')"))
    ready = {"deno": ("2.5.0", True)}
    monkeypatch.setattr(fetch_youtube, "javascript_runtimes", lambda: {})
    with pytest.raises(UserError, match=r"JavaScript runtime \(deno.*pip install deno"):
        scan_url_list(lake, "mine", options)
    monkeypatch.setattr(fetch_youtube, "javascript_runtimes", lambda: {"node": ("12.1.0", False)})
    with pytest.raises(UserError, match=r"found, but too old: node 12\.1\.0"):
        youtube_ready()
    monkeypatch.setattr(fetch_youtube, "javascript_runtimes", lambda: ready)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(UserError, match="ffmpeg is not found"):
        youtube_ready()
    youtube_ready(ranges=False)
    for package in ("yt_dlp_ejs", "yt_dlp"):
        monkeypatch.setattr(fetch_youtube, "find_spec", lambda name, missing=package: None if name == missing else True)
        with pytest.raises(UserError, match=f"{package.replace('_', '-')} is not installed"):
            youtube_ready()


def _worker(tmp_path: Path, *answers: str) -> list[str]:
    """A downloader that gives one answer after the other and notes that it was asked."""
    script = tmp_path / "worker.py"
    script.write_text(
        "import json, sys, pathlib\n"
        f"log, answers = pathlib.Path({str(tmp_path / 'asked')!r}), {list(answers)!r}\n"
        "request = json.load(sys.stdin)\n"
        "asked = log.read_text().count('.') if log.exists() else 0\n"
        "log.write_text('.' * (asked + 1))\n"
        "print(json.dumps({'error': answers[min(asked, len(answers) - 1)]}))\n"
    )
    return [sys.executable, str(script)]


BOT = "ERROR: [youtube] x: Sign in to confirm you're not a bot"
GONE = "ERROR: [youtube] x: Video unavailable. This video has been removed by the uploader"


def _ask(youtube: YouTube, times: int) -> list[Any]:
    causes = []
    for number in range(times):
        with pytest.raises(FetchError) as caught:
            youtube.fetch(f"https://www.youtube.com/watch?v={number:011d}", Range(start_s=0, end_s=1))
        causes.append(caught.value.cause)
    return causes


def test_youtube_is_left_alone_after_bot_checks_in_a_row(tmp_path: Path) -> None:
    pauses: list[float] = []
    limits = replace(FAST, stop_after=3)
    youtube = YouTube(
        tmp_path / "v", limits, Pause(10.0, sleep=pauses.append), _worker(tmp_path, BOT, BOT, GONE, BOT, "HTTP Error 429", BOT)
    )
    causes = _ask(youtube, 8)
    assert (tmp_path / "asked").read_text() == "." * 6  # a plain answer begins the count anew
    assert ["refused 3 videos" in cause for cause in causes] == [False] * 6 + [True] * 2
    assert len(pauses) == 5  # between videos, none before the first
    assert all(5 <= pause < 15 for pause in pauses)
    assert len(set(pauses)) == 5


def test_an_unavailable_video_tells_nothing_about_the_next(tmp_path: Path) -> None:
    youtube = YouTube(tmp_path / "v", replace(FAST, stop_after=2), Pause(0.0), _worker(tmp_path, GONE))
    assert not any("throttled" in cause for cause in _ask(youtube, 5))


def test_what_a_site_says_is_escaped(tmp_path: Path) -> None:
    youtube = YouTube(tmp_path / "v", FAST, Pause(0.0), _worker(tmp_path, "\x1b[31mERROR\x1b]0;pwned\x07 \u202e gone"))
    (cause,) = _ask(youtube, 1)
    assert cause.isprintable()
