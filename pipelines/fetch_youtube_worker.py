"""One video through yt-dlp, in a process of its own that may be killed: a JSON request on stdin, one JSON line on stdout."""

from __future__ import annotations

import json
import sys
from typing import Any

# AV1 last: not every decoder of ours reads it. Small sizes are enough, audio is not asked for.
_SORT = ["res:1080", "vcodec:h264", "ext:mp4:m4a"]
_FORMAT = "bestvideo[vcodec!^=av01]/best[vcodec!^=av01]/bestvideo/best"


def options_of(request: dict[str, Any]) -> dict[str, Any]:
    """yt-dlp's options of one request {url, folder, name, start_s, end_s}; no download archive: it has recorded failures as done (yt-dlp#17458)."""
    from yt_dlp.utils import download_range_func

    options: dict[str, Any] = {
        "format": _FORMAT,
        "format_sort": _SORT,
        "outtmpl": {"default": f"{request['name']}.%(ext)s"},
        "paths": {"home": request["folder"], "temp": request["folder"]},
        "retries": 3,
        "socket_timeout": 30,
        "sleep_interval_requests": request.get("sleep_s", 1.0),
        "noplaylist": True,
        "playlist_items": "1",
        "quiet": True,
        "no_warnings": True,
        "noprogress": True,
        "logtostderr": True,
        "overwrites": True,
        "cachedir": False,
        "enable_file_urls": False,
        "js_runtimes": {name: {} for name in ("deno", "node", "bun", "quickjs")},
    }
    if request.get("start_s") is not None:
        options |= {
            "download_ranges": download_range_func(None, [(request["start_s"], request["end_s"])]),
            "force_keyframes_at_cuts": True,
        }
    return options


def run(request: dict[str, Any]) -> dict[str, Any]:
    """{path, title, extractor} or {error}."""
    import yt_dlp

    try:
        with yt_dlp.YoutubeDL(options_of(request)) as downloader:
            info = downloader.extract_info(request["url"], download=True)
        if info is None or not info.get("requested_downloads"):
            return {"error": "yt-dlp gave no file"}
        return {"path": info["requested_downloads"][0]["filepath"], "title": info.get("title"), "extractor": info.get("extractor")}
    except (yt_dlp.utils.YoutubeDLError, OSError) as error:
        return {"error": str(error)}


if __name__ == "__main__":
    print(json.dumps(run(json.load(sys.stdin))), flush=True)
