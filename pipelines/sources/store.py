"""The `videos` table of one data set is what its source holds: rows of files that are gone go too."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import Any

import pyarrow.compute as pc

from pipelines.forget import mark_removed, removed
from pipelines.lake import Lake
from pipelines.progress import Progress
from pipelines.sources.registry import Dataset, scan
from pipelines.tables import one_of


def scan_into(lake: Lake, dataset: Dataset, lineage: Mapping[str, Any] | None = None) -> None:
    """Scan the source into `videos`. Raises UserError for a source that holds nothing."""
    with closing(_Counter(dataset.name)) as counter:
        rows = mark_removed(removed(lake), scan(lake, dataset, counter))
    lake.write("videos", rows, lineage)
    gone = (pc.field("dataset") == dataset.name) & ~one_of("video_id", [row["video_id"] for row in rows])
    lake.delete("videos", gone, lineage)


class _Counter:
    """Turns (done, total) calls into a progress bar."""

    def __init__(self, name: str) -> None:
        self._name, self._done = name, 0
        self._bar: Progress | None = None

    def __call__(self, done: int, total: int) -> None:
        if self._bar is None:
            self._bar = Progress(total, "videos", f"scan {self._name}")
        self._bar.update(done - self._done)
        self._done = done

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
