"""One file from the web, whole and decodable, or the reason why not: resumed by range, checked before it gets its name."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import requests
import urllib3

from pipelines.errors import ClipError, Code
from pipelines.fetch_pace import Hosts, backoff_s
from pipelines.fetch_safety import Guard, host_of, safe_session
from pipelines.sources.scan import sha256_of
from pipelines.video import probe

_CHUNK = 1 << 16
_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_AVAILABILITY = {401: "private", 403: "private", 404: "removed", 410: "removed", 451: "region"}
_BROKEN = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)
USER_AGENT = "rotoscope (research; downloads only what its user lists)"


@dataclass(frozen=True, kw_only=True, slots=True)
class FetchLimits:
    """How hard and how politely to try."""

    tries: int = 5
    backoff_s: float = 1.0  # ceiling of the first wait; doubles with each try
    longest_wait_s: float = 120.0
    connect_s: float = 10.0
    read_s: float = 30.0  # without any byte
    wall_s: float = 1800.0  # for one try, whatever the server does
    largest_bytes: int = 20 << 30
    requests_per_s: float = 2.0  # of one host
    burst: int = 4
    stop_after: int = 5  # 403 or 429 in a row, after which a host is left alone for this run
    allow_private_hosts: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetched:
    """A committed file."""

    path: Path
    sha256: str
    bytes: int
    http_status: int
    bytes_received: int  # over the network in all tries


class FetchError(ClipError):
    """A ClipError that also says how the server answered, for the columns http_status and availability."""

    def __init__(self, code: Code, subject: str, cause: str, remedy: str, status: int | None = None, availability: str = "other") -> None:
        super().__init__(code, subject, cause, remedy)
        self.args = (code, subject, cause, remedy, status, availability)  # what pickle hands back
        self.http_status, self.availability = status, availability


class _Again(Exception):
    """Worth another try."""

    def __init__(self, cause: str, status: int | None = None, retry_after: str | None = None) -> None:
        super().__init__(cause)
        self.status, self.retry_after = status, retry_after


class Fetcher:
    """Downloads under one set of limits; safe to share between threads."""

    def __init__(
        self,
        limits: FetchLimits | None = None,
        check: Callable[[Path], object] = probe,
        sleep: Callable[[float], None] = time.sleep,
        *,
        pages: bool = False,
    ) -> None:
        self.limits = limits or FetchLimits()
        self._check, self._sleep, self._pages = check, sleep, pages  # pages: text is what is wanted
        self._hosts = Hosts(self.limits.requests_per_s, self.limits.burst, self.limits.stop_after)

    def fetch(self, url: str, folder: Path, sha256: str | None = None) -> Fetched:
        """Download `url` into `folder`; the file is named by the digest of its URL and validator (ETag or Last-Modified).

        sha256: what the file must have, where it is known. Raises ClipError: not_downloaded, not_allowed, not_a_video and the codes of `probe`.
        """
        host = host_of(url)
        folder.mkdir(parents=True, exist_ok=True)
        attempt, received, failure = _Attempt(url, folder, self.limits, pages=self._pages), 0, _Again("no try was made")
        for number in range(self.limits.tries):
            if self._hosts.throttled(host):
                raise FetchError(
                    "not_downloaded", url, f"throttled: {host} refused several requests in a row", "run again later", failure.status
                )
            self._sleep(self._hosts.wait(host))
            try:
                partial = attempt.run(lambda status: self._hosts.answered(host, status))
                return self._commit(attempt, partial, sha256, received + attempt.received)
            except _Again as error:
                failure = error
            except ClipError as error:
                if error.code not in ("truncated", "decode_error", "no_frames", "empty_file") or number + 1 == self.limits.tries:
                    raise
                failure = _Again(error.cause)
            received += attempt.received
            if number + 1 < self.limits.tries:
                self._sleep(backoff_s(number, self.limits.backoff_s, self.limits.longest_wait_s, failure.retry_after))
        cause = f"{failure} ({self.limits.tries} tries)"
        raise FetchError(
            "not_downloaded",
            url,
            cause,
            "run again; what has arrived is kept",
            failure.status,
            _AVAILABILITY.get(failure.status or 0, "other"),
        )

    def _commit(self, attempt: _Attempt, partial: Path, sha256: str | None, received: int) -> Fetched:
        try:
            digest = sha256_of(partial)
            if sha256 is not None and digest != sha256:
                raise ClipError(
                    "truncated", attempt.url, f"its sha256 is {digest}, not {sha256}", "the file on the server is another one now"
                )
            self._check(partial)
        except ClipError as error:
            attempt.forget()
            raise FetchError(error.code, attempt.url, error.cause, error.remedy, attempt.status) from None
        target = partial.with_name(partial.name.removeprefix(".").removesuffix(".part") + ending_of(attempt.url, attempt.content_type))
        os.replace(partial, target)
        attempt.forget()
        return Fetched(path=target, sha256=digest, bytes=target.stat().st_size, http_status=attempt.status or 200, bytes_received=received)


class _Attempt:
    """Tries of one URL; between them a `.part` file named by content id, and beside it what it is a part of."""

    def __init__(self, url: str, folder: Path, limits: FetchLimits, *, pages: bool = False) -> None:
        self.url, self._folder, self._limits, self._pages = url, folder, limits, pages
        self._state = folder / f".{content_id(url)}.resume"
        self.status: int | None = None
        self.content_type, self.received = "", 0

    def forget(self) -> None:
        """Drop the partial file, if any, and its record."""
        self._part(self._validator()).unlink(missing_ok=True)
        self._state.unlink(missing_ok=True)

    def _validator(self) -> str:
        try:
            return str(json.loads(self._state.read_text())["validator"])
        except (OSError, ValueError, KeyError):
            return ""

    def _part(self, validator: str) -> Path:
        return self._folder / f".{content_id(self.url, validator)}.part"

    def run(self, answered: Callable[[int], None]) -> Path:
        """One try; the path of the whole partial file. Raises _Again, ClipError."""
        guard, self.received = Guard(allow_private=self._limits.allow_private_hosts), 0
        alarm = threading.Timer(self._limits.wall_s, guard.cut)
        alarm.daemon = True
        alarm.start()
        try:
            with safe_session(guard) as session:
                part = self._run(session, answered)
            if guard.expired:  # a body without a stated length ends like this too
                raise _Again("cut off")
            return part
        except requests.exceptions.InvalidSchema as error:
            raise FetchError("not_allowed", self.url, f"it leads to another scheme ({error})", "only http and https are opened") from None
        except (requests.exceptions.InvalidURL, requests.exceptions.TooManyRedirects) as error:
            raise FetchError("not_downloaded", self.url, str(error), "check the address") from None
        except requests.exceptions.SSLError as error:
            if "CERTIFICATE_VERIFY_FAILED" not in str(error):
                raise _Again(self._expiry(guard) or "the connection broke (SSLError)", self.status) from None
            raise FetchError("not_downloaded", self.url, "the server's certificate does not prove its name", "check the address") from None
        except _BROKEN as error:
            if isinstance(error, OSError) and not isinstance(error, requests.RequestException) and error.errno in (28, 122):
                raise  # the disk is full: no fault of the video
            raise _Again(self._expiry(guard) or f"the connection broke ({type(error).__name__})", self.status) from None
        except ValueError as error:  # a redirect or a header that the libraries below choke on
            cause = f"the server's answer cannot be read ({type(error).__name__})"
            raise FetchError("not_downloaded", self.url, cause, "check the address", self.status) from None
        except _Again as error:
            raise _Again(self._expiry(guard) or str(error), error.status, error.retry_after) from None
        finally:
            alarm.cancel()
            guard.close()

    def _expiry(self, guard: Guard) -> str | None:
        return f"not done after {self._limits.wall_s:g} s" if guard.expired else None

    def _run(self, session: requests.Session, answered: Callable[[int], None]) -> Path:
        validator = self._validator()
        part = self._part(validator)
        have = part.stat().st_size if validator and part.is_file() else 0
        headers = {"Accept-Encoding": "identity", "User-Agent": USER_AGENT}
        if have:
            headers |= {"Range": f"bytes={have}-", "If-Range": validator}
        with session.get(self.url, headers=headers, stream=True, timeout=(self._limits.connect_s, self._limits.read_s)) as response:
            self.status, self.content_type = response.status_code, response.headers.get("Content-Type", "").split(";")[0].strip().lower()
            answered(response.status_code)
            self._check_status(response)
            if response.status_code != 206 or _range_start(response) != have or _validator_of(response) not in ("", validator):
                if response.status_code == 206:
                    self.forget()
                    raise _Again("the server sent another part than the one asked for", 206)
                part, have = self._restart(_validator_of(response)), 0
            self._receive(response, part, have)
        return part

    def _check_status(self, response: requests.Response) -> None:
        status = response.status_code
        if status == 416:
            self.forget()
            raise _Again("the server has no more bytes than we do", status)
        if status in _RETRIED:
            raise _Again(f"HTTP {status}", status, response.headers.get("Retry-After"))
        if status not in (200, 206):
            raise FetchError("not_downloaded", self.url, f"HTTP {status}", "check the address", status, _AVAILABILITY.get(status, "other"))
        if self._pages:
            return
        if self.content_type.startswith("text/") or self.content_type in ("application/json", "application/xhtml+xml", "application/xml"):
            cause = f"the server sent {self.content_type}, a page and no video"
            raise FetchError("not_a_video", self.url, cause, "give the address of the file itself", status)

    def _restart(self, validator: str) -> Path:
        self.forget()
        partial = self._state.with_suffix(f".{os.getpid()}.tmp")
        partial.write_text(json.dumps({"url": self.url, "validator": validator}))
        os.replace(partial, self._state)
        part = self._part(validator)
        part.unlink(missing_ok=True)
        return part

    def _receive(self, response: requests.Response, part: Path, have: int) -> None:
        length = response.headers.get("Content-Length", "")
        expected = have + int(length) if re.fullmatch(r"[0-9]{1,18}", length) else None
        if (expected or 0) > self._limits.largest_bytes:
            self._too_large()
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | (os.O_APPEND if have else os.O_TRUNC)
        with os.fdopen(os.open(part, flags, 0o666), "wb") as file:
            size = have
            while chunk := response.raw.read1(_CHUNK):
                file.write(chunk)
                size += len(chunk)
                self.received += len(chunk)
                if size > self._limits.largest_bytes:
                    self._too_large()
        if expected is not None and size != expected:
            raise _Again(f"the connection ended after {size} of {expected} bytes", self.status)

    def _too_large(self) -> None:
        self.forget()
        raise FetchError(
            "not_downloaded", self.url, f"it is larger than {self._limits.largest_bytes} bytes", "raise largest_bytes", self.status
        )


def content_id(url: str, validator: str = "") -> str:
    """20 hex digits of sha256 over the URL and what the server calls this version of the file."""
    return hashlib.sha256(f"{url}\n{validator}".encode()).hexdigest()[:20]


def ending_of(url: str, content_type: str = "") -> str:
    """File ending: of the URL's path where it is a plain one, else by MIME type, else .mp4."""
    match = re.search(r"\.(mp4|m4v|mov|avi|mkv|webm|gif|mpe?g|wmv|flv|ts|3gp|ogv)$", url.split("?")[0].split("#")[0].lower())
    by_type = {"video/webm": ".webm", "video/quicktime": ".mov", "image/gif": ".gif", "video/x-msvideo": ".avi", "video/x-matroska": ".mkv"}
    return match[0] if match else by_type.get(content_type, ".mp4")


def _validator_of(response: requests.Response) -> str:
    """A strong ETag, or Last-Modified; empty where there is neither, and then nothing is resumed (RFC 9110, 13.1.5)."""
    tag, date = response.headers.get("ETag", ""), response.headers.get("Last-Modified", "")
    pattern, value = (r'"[!#-~]{0,500}"', tag) if tag else (r"[ -~]{0,100}", date)  # it is sent back: plain letters only
    return value if re.fullmatch(pattern, value) else ""


def _range_start(response: requests.Response) -> int:
    match = re.match(r"bytes ([0-9]{1,18})-", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else -1


def limits_from(options: dict[str, Any]) -> FetchLimits:
    """The options that name a field of FetchLimits, over the defaults."""
    return replace(FetchLimits(), **{name: options[name] for name in FetchLimits.__slots__ if name in options})
