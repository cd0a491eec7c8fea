"""Videos of YouTube and other sites that yt-dlp knows: a time range only, in a process that is killed when it hangs."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pipelines.errors import ClipError, UserError
from pipelines.fetch import Fetched, FetchError, FetchLimits, content_id, ending_of
from pipelines.fetch_pace import Hosts, Pause
from pipelines.fetch_safety import host_of, shown
from pipelines.sources.scan import sha256_of
from pipelines.video import probe

WORKER: tuple[str, ...] = (sys.executable, "-m", "pipelines.fetch_youtube_worker")
_SITES = ("youtube.com", "youtu.be", "youtube-nocookie.com")
_VIDEO_ID = re.compile(r"[\w-]{11}", re.ASCII)

# What the site's messages mean, first match wins; the messages are those of yt-dlp's YouTube extractor.
_MEANINGS: tuple[tuple[str, str], ...] = (
    (r"private video|video is private|members[- ]only|join this channel", "private"),
    (r"confirm your age|age[- ]restricted|inappropriate for some users", "age"),
    (r"(not|n't) (made this video )?available in your country|geo.?restrict|blocked it in your country", "region"),
    (
        r"has been removed|account .*terminated|no longer available|does not exist|video unavailable|video is unavailable|HTTP Error 4(04|10)",
        "removed",
    ),
)
_THROTTLED = re.compile(r"HTTP Error (403|429)|not a bot|too many requests|rate.?limit", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """Seconds of the video, end exclusive."""

    start_s: float
    end_s: float


def is_youtube(url: str) -> bool:
    """Whether the URL's host is YouTube's."""
    host = (urlsplit(url).hostname or "").lower()
    return any(host == site or host.endswith(f".{site}") for site in _SITES)


def video_page(url: str) -> str:
    """The one address of the video that a YouTube link names, however it is written: `https://www.youtube.com/watch?v=<id>`.

    Raises ClipError not_allowed for a channel, a play list or a search, which would be many downloads.
    """
    parts = urlsplit(url)
    short = (parts.hostname or "").lower().endswith("youtu.be")
    match parts.path.strip("/").split("/"):
        case ["watch"]:
            found = parse_qs(parts.query).get("v", [""])[0]
        case [name] if short:
            found = name
        case ["shorts" | "embed" | "live" | "v", name]:
            found = name
        case _:
            found = ""
    if not _VIDEO_ID.fullmatch(found):
        raise ClipError("not_allowed", shown(url), "the link names no single video", "give links like https://www.youtube.com/watch?v=<id>")
    return f"https://www.youtube.com/watch?v={found}"


def youtube_ready(*, ranges: bool = True) -> None:
    """Raises UserError, naming what to install, unless yt-dlp, its JavaScript parts, a runtime and (for ranges) ffmpeg are there."""
    if find_spec("yt_dlp") is None:
        raise UserError("YouTube: the package yt-dlp is not installed; run `pip install 'yt-dlp[default]'`")
    if find_spec("yt_dlp_ejs") is None:
        raise UserError(
            "YouTube: the package yt-dlp-ejs is not installed, without it formats are missing; run `pip install 'yt-dlp[default]'`"
        )
    found = javascript_runtimes()
    if not any(supported for _, supported in found.values()):
        old = "; found, but too old: " + ", ".join(f"{name} {version}" for name, (version, _) in found.items()) if found else ""
        raise UserError(
            f"YouTube: yt-dlp needs a JavaScript runtime (deno, node, bun or quickjs){old}; install deno 2 (`pip install deno`)"
        )
    if ranges and shutil.which("ffmpeg") is None:
        raise UserError("YouTube: the program ffmpeg is not found, and time ranges are cut with it; install it (`apt install ffmpeg`)")


def javascript_runtimes() -> dict[str, tuple[str, bool]]:
    """Runtimes on this machine: name -> (version, whether yt-dlp supports that version)."""
    from yt_dlp.utils import _jsruntime as runtimes

    known = {"deno": "DenoJsRuntime", "node": "NodeJsRuntime", "bun": "BunJsRuntime", "quickjs": "QuickJsRuntime"}
    found = {name: getattr(runtimes, kind)().info for name, kind in known.items()}
    return {name: (info.version, bool(info.supported)) for name, info in found.items() if info is not None}


def availability_of(message: str) -> str:
    """private, removed, region, age or other, from an error text of yt-dlp."""
    return next((meaning for pattern, meaning in _MEANINGS if re.search(pattern, message, re.IGNORECASE)), "other")


def is_throttled(message: str) -> bool:
    """Whether the site says that we ask too much."""
    return _THROTTLED.search(message) is not None


class YouTube:
    """Videos of one crawl, one after the other: a jittered pause between them, and an end when the site refuses several in a row."""

    def __init__(self, folder: Path, limits: FetchLimits, pause: Pause, command: Sequence[str] | None = None) -> None:
        self._folder, self._limits, self._pause, self._command = folder, limits, pause, command
        self._hosts = Hosts(limits.requests_per_s, limits.burst, limits.stop_after)

    def fetch(self, url: str, part: Range | None = None) -> Fetched:
        """As `fetch_with_ytdlp`; after `stop_after` bot checks, 403 or 429 in a row the site is not asked again. Raises ClipError."""
        if self._hosts.throttled("youtube"):
            cause = f"throttled: YouTube refused {self._limits.stop_after} videos in a row, so it is left alone for this run"
            raise FetchError("not_downloaded", url, cause, "run again tomorrow, or with a longer youtube_pause_s")
        self._pause.wait()
        try:
            fetched = fetch_with_ytdlp(url, self._folder, part, wall_s=self._limits.wall_s, command=self._command or WORKER)
        except FetchError as error:
            if error.code == "not_downloaded":
                self._hosts.answered("youtube", 429 if is_throttled(error.cause) else 200)
            raise
        self._hosts.answered("youtube", 200)
        return fetched


def part_name(part: Range | None) -> str:
    """What tells the file of a part from that of the whole."""
    return "" if part is None else f"{part.start_s:.3f}-{part.end_s:.3f}"


def fetch_with_ytdlp(
    url: str, folder: Path, part: Range | None = None, *, wall_s: float = 900.0, command: Sequence[str] = WORKER
) -> Fetched:
    """Download `url`, or `part` of it (re-encoded at its ends, so that it starts and ends exactly there), into `folder`.

    Raises ClipError: not_allowed, not_downloaded, timeout (over `wall_s`; the process and what it started are killed), and the codes of `probe`.
    """
    host_of(url)
    folder.mkdir(parents=True, exist_ok=True)
    name = content_id(url, part_name(part))
    request = {"url": url, "folder": os.fspath(folder), "name": f".{name}.part"}
    if part is not None:
        request |= {"start_s": part.start_s, "end_s": part.end_s}  # type: ignore[dict-item]
    try:
        answer = _run(request, url, wall_s, command)
        return _commit(answer, url, folder, name)
    finally:
        for left in folder.glob(f".{name}.part*"):
            left.unlink(missing_ok=True)


def _commit(answer: dict[str, Any], url: str, folder: Path, name: str) -> Fetched:
    if "path" not in answer:
        message = str(answer.get("error", "yt-dlp gave no answer"))
        remedy = "run again later" if is_throttled(message) else "check the video in a browser"
        cause = f"{'throttled: ' if is_throttled(message) else ''}{_plain(message)}"
        raise FetchError("not_downloaded", url, cause, remedy, None, availability_of(message))
    partial = Path(answer["path"])
    try:
        probe(partial)
    except ClipError as error:
        raise FetchError(error.code, url, error.cause, error.remedy) from None
    target = folder / f"{name}{ending_of(partial.name)}"
    os.replace(partial, target)
    size = target.stat().st_size
    return Fetched(path=target, sha256=sha256_of(target), bytes=size, http_status=200, bytes_received=size)


def _run(request: dict[str, Any], url: str, wall_s: float, command: Sequence[str]) -> dict[str, Any]:
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    )
    try:
        output, _ = process.communicate(json.dumps(request), timeout=wall_s)
    except subprocess.TimeoutExpired:
        raise FetchError("timeout", url, f"yt-dlp was not done after {wall_s:g} s", "run again, or raise wall_s") from None
    finally:
        _kill(process)
    try:
        answer = json.loads(output.strip().splitlines()[-1])
    except (ValueError, IndexError):
        raise FetchError("worker_died", url, f"yt-dlp's process ended with status {process.returncode}", "run again") from None
    return dict(answer)


def _kill(process: subprocess.Popen[str]) -> None:
    """The whole process group: ffmpeg outlives the process that started it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def _plain(message: str) -> str:
    """One line without terminal colours, and without anything else that a terminal would obey."""
    return shown(" ".join(re.sub(r"\x1b\[[0-9;]*m", "", message).split()))
