"""An HTTP server that drops, lies, stalls and refuses, for as long as a `with` lasts."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote


class Server(ThreadingHTTPServer):
    """Serves `data` under every path; the path's first word says what goes wrong, `hits` counts its requests."""

    data: bytes
    hits: dict[str, int]
    sent: dict[str, int]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is what some uses are about."""


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        return

    def do_GET(self) -> None:
        name = self.path.strip("/").split("/")[0].split(".")[0]
        hit = self.server.hits[self.path] = self.server.hits.get(self.path, 0) + 1
        self.close_connection = True
        getattr(self, f"do_{name}", self.do_good)(hit)

    def start(self, status: int, **headers: Any) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), str(value))
        self.end_headers()

    def send(self, tag: str, stop: int | None = None, data: bytes | None = None) -> None:
        """The rest of the file that If-Range and Range ask for, `stop` bytes of it at most."""
        data = self.server.data if data is None else data
        asked = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        first = int(asked[1]) if asked and self.headers.get("If-Range") == tag else 0
        extra = {"Content_Range": f"bytes {first}-{len(data) - 1}/{len(data)}"} if first else {}
        self.start(206 if first else 200, Content_Type="video/mp4", Content_Length=len(data) - first, ETag=tag, **extra)
        self.write(data[first:][:stop])

    def write(self, data: bytes) -> None:
        """Send and count."""
        self.wfile.write(data)
        self.server.sent[self.path] = self.server.sent.get(self.path, 0) + len(data)

    def do_good(self, hit: int) -> None:
        self.send('"v1"')

    def do_drops(self, hit: int) -> None:
        self.send('"v1"', stop=len(self.server.data) // 3 if hit < 4 else None)

    def do_changes(self, hit: int) -> None:
        old = bytes(len(self.server.data))
        self.send(f'"v{min(hit, 2)}"', stop=len(old) // 2 if hit == 1 else None, data=old if hit == 1 else None)

    def do_lies(self, hit: int) -> None:  # says less than there is: a cut file that arrives "whole"
        data = self.server.data
        self.start(200, Content_Type="video/mp4", Content_Length=len(data) // 2)
        self.write(data[: len(data) // 2])

    def do_halves(self, hit: int) -> None:  # the same, and better when asked again
        if hit == 1:
            self.do_lies(hit)
        else:
            self.send('"v1"')

    def do_norange(self, hit: int) -> None:  # drops once and knows no ranges
        data = self.server.data
        self.start(200, Content_Type="video/mp4", Content_Length=len(data))
        self.write(data[: len(data) // 2] if hit == 1 else data)

    def do_page(self, hit: int) -> None:
        self.start(200, Content_Type="text/html", Content_Length=4)
        self.wfile.write(b"<b/>")

    def do_disguised(self, hit: int) -> None:
        self.start(200, Content_Type="video/mp4", Content_Length=15)
        self.wfile.write(b"<html>no</html>")

    def do_busy(self, hit: int) -> None:
        if hit < 3:
            self.start(503 if hit == 1 else 429, Retry_After=0, Content_Length=0)
        else:
            self.send('"v1"')

    def do_status(self, hit: int) -> None:
        self.start(int(self.path.split("/")[2].split(".")[0]), Content_Length=0)

    def do_stalls(self, hit: int) -> None:
        self.start(200, Content_Type="video/mp4", Content_Length=len(self.server.data))
        time.sleep(3)

    def do_dribbles(self, hit: int) -> None:
        self.start(200, Content_Type="video/mp4")
        for _ in range(100):
            self.wfile.write(b"\0")
            time.sleep(0.1)

    def do_dribbleshead(self, hit: int) -> None:
        for _ in range(100):
            self.wfile.write(b"H")
            time.sleep(0.1)

    def do_endless(self, hit: int) -> None:
        self.start(200, Content_Type="video/mp4")
        while True:
            self.wfile.write(bytes(1 << 16))

    def do_tofile(self, hit: int) -> None:
        self.start(302, Location="file:///etc/passwd", Content_Length=0)

    def do_redirect(self, hit: int) -> None:
        self.start(302, Location=unquote(self.path.split("/", 2)[2]), Content_Length=0)

    def do_oddheader(self, hit: int) -> None:
        name, _, value = unquote(self.path.split("/", 2)[2]).partition(":")
        self.start(429 if name == "Retry-After" else 200, Content_Type="video/mp4", **{name: value})

    def do_list(self, hit: int) -> None:
        data = f"{self.server.url}/good/{self.path[-5]}.mp4\n".encode()
        self.start(200, Content_Type="text/plain", Content_Length=len(data))
        self.wfile.write(data)


@contextmanager
def flaky(data: bytes) -> Iterator[Server]:
    """Serve `data`, a video, in every way that Handler knows."""
    made = Server(("127.0.0.1", 0), Handler)
    made.data, made.hits, made.sent, made.daemon_threads, made.block_on_close = data, {}, {}, True, False
    thread = threading.Thread(target=lambda: made.serve_forever(poll_interval=0.02), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.shutdown()
        made.server_close()
