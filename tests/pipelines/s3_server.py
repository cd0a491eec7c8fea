"""A real S3 server in a process of its own for the tests, whose requests can be made to fail or stall.

Its own process, because some calls of the deltalake package hold the interpreter while they wait for an answer.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import threading
import time
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from typing import Any

_CONTROL = "/faults-of-the-test"


@dataclass(frozen=True)
class Faults:
    """Every `every`-th request of these methods whose path contains `path` gets the next of `kinds`, `times` times at most.

    "fail": answered with 503 and not done; "lost": done, but answered with 503; "stall": done late; "truncate": of what a GET asks for
    only the first half arrives, then the connection ends.
    """

    kinds: tuple[str, ...] = ()
    every: int = 1
    methods: tuple[str, ...] = ("GET", "HEAD", "PUT", "POST", "DELETE")
    path: str = ""
    times: int = 1_000_000
    stall_s: float = 0.5


class _Faulty:
    """WSGI middleware. Requests go one after the other, so that a conditional put is atomic as in a real store."""

    def __init__(self, app: Any) -> None:
        self._app, self._lock = app, threading.Lock()
        self._plan(Faults())

    def _plan(self, faults: Faults) -> None:
        self.faults, self.seen, self.done, self.kinds = faults, itertools.count(1), 0, itertools.cycle(faults.kinds)

    def _fault(self, method: str, path: str) -> str | None:
        chosen = self.faults.kinds and method in self.faults.methods and self.faults.path in path and self.done < self.faults.times
        if not chosen or next(self.seen) % self.faults.every:
            return None
        self.done += 1
        return next(self.kinds)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == _CONTROL:
            text = str(self.done).encode()
            plan = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            if plan:
                self._plan(Faults(**json.loads(plan)))
            start_response("200 OK", [("Content-Length", str(len(text)))])
            return [text]
        fault = self._fault(environ["REQUEST_METHOD"], environ["PATH_INFO"])
        if fault == "stall":
            time.sleep(self.faults.stall_s)
        if fault == "fail":
            return _unavailable(start_response)
        if fault == "truncate" and environ["REQUEST_METHOD"] == "GET":
            with self._lock:
                return self._first_half(environ, start_response)
        with self._lock:
            body = list(self._app(environ, (lambda *_: None) if fault == "lost" else start_response))
        return _unavailable(start_response) if fault == "lost" else body

    def _first_half(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            return start_response(status, [*headers, ("Connection", "close")], *more)

        whole = b"".join(self._app(environ, start))
        return [whole[: len(whole) // 2]]


def _unavailable(start_response: Any) -> Iterable[bytes]:
    body = b"<?xml version='1.0'?><Error><Code>ServiceUnavailable</Code><Message>on purpose</Message></Error>"
    start_response("503 Service Unavailable", [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [body]


def _serve(port: Connection) -> None:
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log(self, *args: Any) -> None:
            pass

    server = make_server("127.0.0.1", 0, _Faulty(DomainDispatcherApplication(create_backend_app)), threaded=True, request_handler=Quiet)
    port.send(server.server_port)
    server.serve_forever()


class S3Server:
    """A running server with the bucket `lakes`."""

    def __init__(self, port: int) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"

    def set_faults(self, faults: Faults) -> None:
        """From now on."""
        self._control(json.dumps(asdict(faults)).encode())

    def faults_done(self) -> int:
        """How many requests were disturbed since."""
        return int(self._control(b""))

    def _control(self, body: bytes) -> bytes:
        with urllib.request.urlopen(urllib.request.Request(self.endpoint + _CONTROL, data=body, method="POST")) as answer:
            text: bytes = answer.read()
        return text


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """Starts it on a free port, and ends it."""
    import boto3

    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        assert ours.poll(60), "the S3 server did not start"
        server = S3Server(ours.recv())
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
        boto3.client("s3", endpoint_url=server.endpoint, **keys).create_bucket(Bucket="lakes")
        yield server
    finally:
        process.kill()  # a shell may have told us to ignore SIGTERM, and children inherit that
        process.join()
