"""`python -m benchmarks.fault_drill.servers`: from a list of links to rows, with the lake in a bucket, while both servers misbehave.

The HTTP server drops connections, stalls, answers 503 and 429, cuts files short and says that they are whole, or sends a page instead. The
S3 server fails, loses answers, stalls and cuts what it sends. The same list is run once in peace into a local folder. Then the tables
must be equal, every file that is really broken must have its row, and no committed clip may have been extracted again.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa

import pipelines.extract
from benchmarks.fault_drill.drilled import Drilled
from pipelines.errors import UserError
from pipelines.extract import Engine, extract
from pipelines.lake import Lake, digest_rows
from pipelines.performers import write_dataset
from pipelines.sources.url_list import scan_url_list
from pipelines.split import SplitRule, split_video
from pipelines.storage import local_file

COMPARED = ("videos", "clips", "clip_embeddings", "poses")
_MOST_RUNS = 12
_PATIENCE = {"tries": 3, "backoff_s": 0.05, "longest_wait_s": 0.3, "read_s": 1.5, "wall_s": 10.0, "requests_per_s": 1000.0, "burst": 1000,
             "stop_after": 1000, "allow_private_hosts": True, "accept_terms": True}  # fmt: skip
_OF_THE_ANSWER = ("http_status", "retrieved_at")  # 206 of a download that was taken up again, 200 otherwise; and when

# --- the HTTP server -------------------------------------------------------------------------------------------------


class FlakyServer(ThreadingHTTPServer):
    """Serves the videos of a folder. While `flaky`, a video's number says how it misbehaves, at most twice per video."""

    folder: Path
    flaky: bool = False
    hits: Counter[str]
    faults: Counter[str]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is what is drilled."""


class _Handler(BaseHTTPRequestHandler):
    server: FlakyServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self.close_connection = True
        name = self.path.rpartition("/")[2]
        if not (self.server.folder / name).is_file():
            self._head(404, Content_Length=0)
            return
        data = (self.server.folder / name).read_bytes()
        self.server.hits[name] += 1
        fault = FAULTS[sorted(path.name for path in self.server.folder.glob("*.mp4")).index(name) % len(FAULTS)]
        if not self.server.flaky or self.server.hits[name] > 2:
            self._send(data, len(data))
            return
        self.server.faults[fault.__name__] += 1
        fault(self, data)

    def _head(self, status: int, **headers: Any) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), str(value))
        self.end_headers()

    def _send(self, data: bytes, stop: int) -> None:
        """What Range asks for, to byte `stop` of the file at most."""
        asked = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        first = int(asked[1]) if asked else 0
        part = {"Content_Range": f"bytes {first}-{len(data) - 1}/{len(data)}"} if first else {}
        self._head(206 if first else 200, Content_Type="video/mp4", Content_Length=len(data) - first, ETag='"1"', **part)
        self.wfile.write(data[first:stop])

    def drops(self, data: bytes) -> None:
        self._send(data, len(data) * self.server.hits[self.path.rpartition("/")[2]] // 3)

    def is_busy(self, data: bytes) -> None:
        self._head(503, Retry_After=0, Content_Length=0)

    def wants_less(self, data: bytes) -> None:
        self._head(429, Retry_After=0, Content_Length=0)

    def stalls(self, data: bytes) -> None:
        self._head(200, Content_Type="video/mp4", Content_Length=len(data), ETag='"1"')
        time.sleep(2 * _PATIENCE["read_s"])

    def lies_about_the_size(self, data: bytes) -> None:
        self._head(200, Content_Type="video/mp4", Content_Length=len(data) // 2)
        self.wfile.write(data[: len(data) // 2])

    def sends_a_page(self, data: bytes) -> None:
        page = b"<html><body>please log in</body></html>"
        self._head(200, Content_Type="video/mp4", Content_Length=len(page))
        self.wfile.write(page)


FAULTS = (_Handler.drops, _Handler.is_busy, _Handler.wants_less, _Handler.stalls, _Handler.lies_about_the_size, _Handler.sends_a_page)


@contextmanager
def flaky_server(folder: Path) -> Iterator[FlakyServer]:
    """Serve `folder` on a free port."""
    server = FlakyServer(("127.0.0.1", 0), _Handler)
    server.folder, server.hits, server.faults, server.daemon_threads = folder, Counter(), Counter(), True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# --- from links to rows ----------------------------------------------------------------------------------------------


def crawl_to_rows(root: str, links: Path, log: str, engine: Engine | str) -> int:
    """One run of everything that is missing; returns how many videos failed. Raises UserError where the bucket stays away."""
    lake = Lake(root).create()
    lake.write("videos", scan_url_list(lake, "drill", {**_PATIENCE, "list": str(links)}))
    videos = [row for row in lake.rows("videos") if row["status"] == "ok"]
    held = {row["video_id"] for row in lake.rows("clips", columns=["video_id"])}
    rule = SplitRule(min_frames=1)
    for video in videos:
        if video["video_id"] not in held:
            lake.write("clips", split_video(video, lake.path(video["uri"]), rule))
    extract([Drilled(log=log, pause_s=0.0)], lake.clips("drill"), lake, engine, progress=False)
    return len(lake.rows("videos")) - len(videos)


def until_done(root: str, links: Path, log: Path, engine: Engine | str, broken: int, show: Callable[[str], None]) -> int:
    """Run again until only what is really broken has failed; returns the number of runs. A stop with a reason is allowed, a crash is not."""
    repeated: set[str] = set()
    for number in range(1, _MOST_RUNS + 1):
        before = len(_started(log))
        done = _committed(root)
        try:
            failed = crawl_to_rows(root, links, str(log), engine)
        except UserError as error:
            show(f"  stopped with a reason: {str(error.__cause__ or error)[:400]}")
            continue
        repeated |= done & set(_started(log)[before:])
        show(f"  run {number}: {failed} videos failed")
        if failed == broken:
            assert not repeated, f"extracted again although committed: {sorted(repeated)[:5]}"
            return number
    raise AssertionError(f"not done after {_MOST_RUNS} runs")


def _committed(root: str) -> set[str]:
    for _ in range(_MOST_RUNS):
        try:
            return {row["clip_id"] for row in Lake(root).rows("poses", columns=["clip_id"])}
        except UserError as error:
            if "no lake" in str(error):
                return set()
    raise AssertionError(f"{root} cannot be read")


def _started(log: Path) -> list[str]:
    return [line.split()[1] for line in log.read_text().splitlines() if line.startswith("start")] if log.exists() else []


def _digests(root: str) -> dict[str, str]:
    lake = Lake(root)
    read = {table: lake.read(table) for table in COMPARED}
    videos = read["videos"]
    for name in _OF_THE_ANSWER:
        index, field = videos.schema.get_field_index(name), videos.schema.field(name)
        videos = videos.set_column(index, field, pa.nulls(videos.num_rows, field.type))
    read["videos"] = videos
    return {table: digest_rows(table, rows) for table, rows in read.items()}


def _difference(peace: str, fire: str) -> str:
    found = []
    for table in COMPARED:
        for left, right in zip(Lake(peace).rows(table), Lake(fire).rows(table), strict=False):
            found += [f"{table}.{name}: {left[name]!r} {right[name]!r}"[:200] for name in left if left[name] != right[name]]
    return "; ".join(found[:20])


def drill_servers(
    folder: Path, videos: int, bucket: str, disturb: Callable[[bool], int], engine: Engine | str, show: Callable[[str], None]
) -> str:
    """The drill in an empty folder. bucket: an s3:// root; disturb(True) makes its server misbehave, disturb(False) returns how often it did."""
    pipelines.extract._COMMIT_CLIPS = 4
    written = write_dataset(folder / "web", name="w", identities=range(videos), test_identities=[], clips_per_identity=1, frames=8, size=64)
    (folder / "web" / written[0].path.name).write_bytes(b"")  # really broken, whoever asks
    names = [*(item.path.name for item in written), "gone.mp4"]
    with flaky_server(folder / "web") as server:
        links = folder / "links.txt"
        links.write_text("".join(f"http://127.0.0.1:{server.server_address[1]}/{name}\n" for name in names))
        peace = until_done(str(folder / "peace"), links, folder / "peace.log", engine, 2, show)
        server.hits.clear()
        server.flaky = True
        disturb(True)
        runs = until_done(bucket, links, folder / "fire.log", engine, 2, show)
        disturbed = disturb(False)
    left, right = _digests(str(folder / "peace")), _digests(bucket)
    assert left == right, f"differ from the run in peace: {_difference(str(folder / 'peace'), bucket)}"
    assert set(server.faults) == {fault.__name__ for fault in FAULTS} or videos < len(FAULTS), server.faults
    assert disturbed > 0
    assert all(local_file(clip.uri).is_file() for clip in Lake(bucket).clips("drill"))
    return (
        f"server drill: {len(names)} links, {sum(server.faults.values())} downloads and {disturbed} S3 requests disturbed, "
        f"{runs} runs (in peace {peace}), tables equal, nothing extracted twice: PASS"
    )


def main() -> None:
    """Run the drill against an S3 server of its own and print the verdict."""
    from tests.pipelines.s3_server import Faults, s3_server

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=24)
    parser.add_argument("--every", type=int, default=11, help="one in so many S3 requests is disturbed")
    chosen = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name, s3_server() as store:
        os.environ |= {"AWS_ENDPOINT_URL": store.endpoint, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
                       "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "ROTOSCOPE_CACHE": f"{name}/cache"}  # fmt: skip

        def disturb(on: bool) -> int:
            done = store.faults_done()
            store.set_faults(Faults(kinds=("fail", "stall", "lost", "truncate"), every=chosen.every) if on else Faults())
            return done

        folder = Path(name) / "drill"
        folder.mkdir()
        show = lambda text: print(f"{time.monotonic() - started:6.0f} s  {text}", flush=True)  # noqa: E731
        print(drill_servers(folder, chosen.videos, "s3://lakes/drill", disturb, "ray", show))


if __name__ == "__main__":
    main()
