"""Politeness: how often a host is asked, when it is left alone, and how long a retry waits."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime


@dataclass(slots=True)
class TokenBucket:
    """At most `burst` requests at once and `rate` per second in the long run."""

    rate: float
    burst: float
    clock: Callable[[], float] = time.monotonic
    _tokens: float = field(init=False)
    _last: float = field(init=False)

    def __post_init__(self) -> None:
        self._tokens, self._last = self.burst, self.clock()

    def take(self) -> float:
        """Reserve one request; seconds to wait before making it."""
        now = self.clock()
        self._tokens = min(self.burst, self._tokens + (now - self._last) * self.rate) - 1
        self._last = now
        return max(0.0, -self._tokens / self.rate)


class Pause:
    """A jittered pause between videos of a site that watches for machines: uniform in [0.5, 1.5) of the mean; none before the first."""

    def __init__(self, mean_s: float, sleep: Callable[[float], None] = time.sleep) -> None:
        self._mean_s, self._sleep, self._first = mean_s, sleep, True

    def wait(self) -> None:
        """Return when the next video may be asked for."""
        if not self._first:
            self._sleep(self._mean_s * random.uniform(0.5, 1.5))
        self._first = False


class Hosts:
    """One bucket and one count of refusals (403, 429) in a row per host; shared by threads."""

    def __init__(self, rate: float, burst: float, stop_after: int) -> None:
        self._rate, self._burst, self._stop_after = rate, burst, stop_after
        self._buckets: dict[str, TokenBucket] = {}
        self._refusals: dict[str, int] = {}
        self._lock = threading.Lock()

    def wait(self, host: str) -> float:
        """Seconds until this host may be asked."""
        with self._lock:
            return self._buckets.setdefault(host, TokenBucket(self._rate, self._burst)).take()

    def throttled(self, host: str) -> bool:
        """Whether the host refused so often in a row that it is left alone for the rest of this run."""
        with self._lock:
            return self._refusals.get(host, 0) >= self._stop_after

    def answered(self, host: str, status: int) -> None:
        """Note what the host said."""
        with self._lock:
            if status in (403, 429):
                self._refusals[host] = self._refusals.get(host, 0) + 1
            elif status < 500 and not self._refusals.get(host, 0) >= self._stop_after:
                self._refusals[host] = 0


def backoff_s(attempt: int, first_s: float, longest_s: float, retry_after: str | None = None) -> float:
    """Seconds before try `attempt` + 1: full jitter, uniform in [0, first * 2^attempt]; not before the server's Retry-After.

    A Retry-After beyond `longest_s` is cut to it. Source: Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
    """
    jittered = random.uniform(0, min(longest_s, first_s * 2**attempt))
    return min(longest_s, max(jittered, retry_after_s(retry_after)))


def retry_after_s(header: str | None) -> float:
    """Seconds that a Retry-After header (seconds or a date) asks for; 0 where there is none or it cannot be read."""
    if not header:
        return 0.0
    if header.strip().isdecimal():
        return float(header)
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return 0.0
