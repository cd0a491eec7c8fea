"""A progress bar on a terminal; elsewhere a line every ten seconds. Both show the rate and the time left; a listener hears the lines too."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import ClassVar


class Progress:
    """Counts `total` things; `label` says what is going on."""

    _LINE_SECONDS = 10.0
    listener: ClassVar[Callable[[str], None] | None] = None
    """Gets every line of this process as well, for example to show it in the page of a run."""

    def __init__(self, total: int, unit: str, label: str, *, shown: bool = True) -> None:
        self._total, self._unit, self._label = total, unit, label
        self._done, self._started = 0, time.monotonic()
        self._last, self._said = self._started, -1
        self._shown, self._lines = shown, shown and not sys.stderr.isatty()
        self._bar = None
        if shown and not self._lines:
            from tqdm import tqdm

            self._bar = tqdm(total=total, unit=f" {unit}", desc=label)

    def update(self, count: int) -> None:
        """`count` more are finished (0 only redraws)."""
        self._done += count
        if self._bar is not None:
            self._bar.update(count)
        if time.monotonic() - self._last >= self._LINE_SECONDS:
            self._last = time.monotonic()
            self._say()

    def line(self) -> str:
        """For example "extract: 12/40 clips, 1.3 clips/s, 22 s left"."""
        rate = self._done / max(time.monotonic() - self._started, 1e-9)
        left = f"{(self._total - self._done) / rate:.0f} s left" if rate > 0 else "time left unknown"
        return f"{self._label}: {self._done}/{self._total} {self._unit}, {rate:.2g} {self._unit}/s, {left}"

    def close(self) -> None:
        """Leave the terminal tidy."""
        if self._bar is not None:
            self._bar.close()
        if self._said != self._done:  # the last thing may have had its line already
            self._say()

    def _say(self) -> None:
        self._said = self._done
        if self._lines:
            print(self.line(), file=sys.stderr, flush=True)
        if self._shown and Progress.listener is not None:
            Progress.listener(self.line())
