"""What the Ray engine knows of one actor: its calls, and since when the first is at work."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from pipelines.extract_worker import Task


@dataclass
class Slot:
    """One actor and its calls in order; the first is at work since `since`, as far as the driver saw. A call without a task is the loading."""

    actor: Any
    calls: deque[tuple[Any, Task | None]]
    since: float = field(default_factory=time.monotonic)
    question: tuple[Any, float] | None = None  # how long the worker itself says it is at the first call, and when it was asked

    def begin(self) -> None:
        """Another call is the first one from now on."""
        self.since, self.question = time.monotonic(), None

    @property
    def tasks(self) -> list[Task]:
        return [task for _, task in self.calls if task is not None]
