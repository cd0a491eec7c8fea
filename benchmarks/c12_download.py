"""Downloading 200 files from a server that fails: `python -m benchmarks.c12_download`. What gets a final name, and what travels twice.

The server (tests/layouts/flaky.py) breaks bodies off, answers 404, 429 and 503, sends pages as video/mp4, states lengths that are
too short, and here and there ignores ranges; files that can be had at all can be had within five requests. Sides, four downloads
at once each: ours; plain `requests.get(url).content` written to its name; and the way of video2dataset's downloader: the body, whatever the
status, under a temporary random name, all of it again after a broken connection. Politeness is off on our side, back-off is 10 ms.
Gates: no corrupt file of ours gets a name (peers: some do), and every file that can be had is there with the server's bytes.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
import requests

from benchmarks.side_by_side import alternate, report
from pipelines.errors import ClipError
from pipelines.fetch import Fetcher, FetchLimits
from pipelines.video import encode_video
from tests.layouts.flaky import Server, flaky

# Of ten files: what the server does to each; the last two can never be had.
KINDS = ("good", "good", "drops", "busy", "good", "halves", "norange", "drops", "status/404", "disguised")
LOST = frozenset({"status/404", "disguised"})
TRIES, WORKERS = 5, 4
LIMITS = FetchLimits(
    tries=TRIES, backoff_s=0.01, longest_wait_s=0.05, requests_per_s=1e6, burst=1_000_000, stop_after=1_000_000, allow_private_hosts=True
)
Download = Callable[[str, Path], Path | None]
"""(URL, folder) -> the file under its final name, or None."""


def ours() -> Download:
    """A fetcher, shared by the threads."""
    fetcher = Fetcher(LIMITS)

    def download(url: str, folder: Path) -> Path | None:
        try:
            return fetcher.fetch(url, folder).path
        except ClipError:
            return None

    return download


def plain(url: str, folder: Path) -> Path | None:
    """The body, written; a connection that breaks is a file less."""
    path = folder / url.split("://")[1].replace("/", "_")
    try:
        path.write_bytes(requests.get(url, timeout=30).content)
    except requests.RequestException:
        return None
    return path


def whole_again(url: str, folder: Path) -> Path | None:
    """The body under a random name, from its beginning after each broken connection."""
    for _ in range(TRIES):
        try:
            body = requests.get(url, timeout=60).content
        except requests.RequestException:
            continue
        path = folder / f"{uuid.uuid4()}.mp4"
        path.write_bytes(body)
        return path
    return None


class Side:
    """Runs one way of downloading and counts, in its last round, what became of the files."""

    def __init__(self, server: Server, folder: Path, files: int, make: Callable[[], Download]) -> None:
        self._server, self._folder, self._make = server, folder, make
        self._urls = {f"{kind}/{number:04d}.mp4": kind not in LOST for number in range(files) for kind in [KINDS[number % len(KINDS)]]}
        self.found: Counter[str] = Counter()

    def __call__(self) -> None:
        self._server.hits.clear()
        self._server.sent.clear()
        with tempfile.TemporaryDirectory(dir=self._folder) as name, ThreadPoolExecutor(WORKERS) as pool:
            download = self._make()
            paths = list(pool.map(lambda url: download(f"{self._server.url}/{url}", Path(name)), self._urls))
            self.found = Counter()
            for path, can_be_had in zip(paths, self._urls.values(), strict=True):
                self.found[self._verdict(path, can_be_had)] += 1
        needed = len(self._server.data)
        self.found["again"] = sum(max(0, sent - needed) for sent in self._server.sent.values())

    def _verdict(self, path: Path | None, can_be_had: bool) -> str:
        if path is None:
            return "missing" if can_be_had else "refused"
        return "right" if can_be_had and path.read_bytes() == self._server.data else "corrupt"

    def text(self) -> str:
        """Counts of the last round."""
        counts = ", ".join(f"{self.found[name]} {name}" for name in ("right", "corrupt", "missing", "refused"))
        return f"{counts}, {self.found['again'] / 1e6:.1f} MB sent again"


def main() -> None:
    """Print times, what became of the files, and the gates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", type=int, default=128, help="width and height of the video, px: of noise, so that it is large")
    chosen = parser.parse_args()
    os.environ["NO_PROXY"] = "127.0.0.1"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        noise = np.random.default_rng(0).integers(0, 255, (25, chosen.side, chosen.side, 3), np.uint8)
        encode_video(folder / "source.mp4", noise, Fraction(25))
        with flaky((folder / "source.mp4").read_bytes()) as server:
            makers: dict[str, Callable[[], Download]] = {"ours": ours, "plain": lambda: plain, "whole_again": lambda: whole_again}
            sides = {side: Side(server, folder, chosen.files, make) for side, make in makers.items()}
            seconds = alternate(sides, chosen.rounds)
            size = len(server.data)
    mine, peers = sides["ours"].found, [sides["plain"].found, sides["whole_again"].found]
    can_be_had = sum(KINDS[number % len(KINDS)] not in LOST for number in range(chosen.files))
    assert mine["right"] == can_be_had, "a file that can be had is missing or differs from the server's"
    assert mine["corrupt"] == 0, "a corrupt file got a final name"
    assert all(peer["corrupt"] > 0 for peer in peers), "the server was too kind: no peer kept a corrupt file"
    again = sides["whole_again"].found["again"] / max(1, mine["again"])
    title = f"C12 download, {chosen.files} files of {size / 1e6:.2f} MB"
    equal = "; ".join(f"{side}: {counted.text()}" for side, counted in sides.items())
    report(title, seconds, {"bytes sent again, whole_again/ours": (again, 1.0)}, equal)


if __name__ == "__main__":
    main()
