"""Feature rows of one source and network, read from the lake clip by clip in the order of clip ids."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from pipelines.parts import CLIPS_PER_ROW_GROUP
from pipelines.tables import one_of

Features = npt.NDArray[np.float32]
_ROWS = 4096  # read at a time, in whole clips; 32 MB in 2,048 dimensions
_BATCH = 1024  # rows that Arrow decodes at a time


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one clip must have: rows of these bytes, at these frames (ascending)."""

    sha256: str
    frames: Sequence[int]


@dataclass(frozen=True, slots=True)
class StoredFeatures:
    """table: one version of `metric_features`;  where: the rows of one protocol, data set, source and network."""

    table: ds.Dataset
    where: pc.Expression

    @classmethod
    def of(cls, table: ds.Dataset, **columns: str) -> StoredFeatures:
        """columns: protocol, dataset, source, extractor, weights_digest."""
        where = pc.scalar(True)
        for name, value in columns.items():
            where = where & (pc.field(name) == value)
        return cls(table, where)

    def complete(self, wanted: Mapping[str, Wanted]) -> list[str]:
        """Ids of the clips that have all their rows, sorted. Keys only are read."""
        found: Counter[str] = Counter()
        for batch in self._batches(["clip_id", "frame", "source_sha256"], one_of("clip_id", wanted)):
            by_clip = pa.table(batch).group_by(["clip_id", "source_sha256"]).aggregate([("frame", "list")]).to_pylist()
            for row in by_clip:
                clip = wanted[row["clip_id"]]
                if row["source_sha256"] == clip.sha256:
                    found[row["clip_id"]] += int(np.isin(row["frame_list"], clip.frames).sum())
        return sorted(clip_id for clip_id, clip in wanted.items() if found[clip_id] == len(clip.frames))

    def clips(self, wanted: Mapping[str, Wanted], clip_ids: Iterable[str]) -> Iterator[Features]:
        """[n_i, D] of each of the complete clips, in order; a few clips are in memory at a time. Raises ValueError for a row without a feature."""
        for few in _portions(wanted, clip_ids):
            names = ["clip_id", "frame", "source_sha256", "feature"]
            rows = pa.Table.from_batches(self._batches(names, one_of("clip_id", few)), self.table.schema.empty_table().select(names).schema)
            for clip_id in few:
                yield _features_of(rows, clip_id, wanted[clip_id])

    def _batches(self, columns: Sequence[str], further: pc.Expression) -> Iterator[pa.RecordBatch]:
        """One after another: read ahead, they would add up to the whole table."""
        scanner = self.table.scanner(
            columns=list(columns),
            filter=self.where & further,
            batch_size=_BATCH,
            batch_readahead=1,
            fragment_readahead=1,
            use_threads=False,
        )
        yield from scanner.to_batches()


def _portions(wanted: Mapping[str, Wanted], clip_ids: Iterable[str]) -> Iterator[list[str]]:
    """Consecutive clips of at most _ROWS rows together, as many as a row group holds at most; a long clip alone."""
    portion: list[str] = []
    rows = 0
    for clip_id in clip_ids:
        count = len(wanted[clip_id].frames)
        if portion and (rows + count > _ROWS or len(portion) == CLIPS_PER_ROW_GROUP):
            yield portion
            portion, rows = [], 0
        portion.append(clip_id)
        rows += count
    if portion:
        yield portion


def _features_of(rows: pa.Table, clip_id: str, clip: Wanted) -> Features:
    where = (pc.field("clip_id") == clip_id) & (pc.field("source_sha256") == clip.sha256)
    where = where & pc.field("frame").isin(pa.array(list(clip.frames), pa.int32()))
    mine = rows.filter(where).sort_by("frame")
    feature = mine["feature"].combine_chunks()
    widths = pc.unique(pc.list_value_length(feature)).to_pylist()
    if len(mine) != len(clip.frames) or len(widths) != 1 or not widths[0]:
        raise ValueError(f"clip {clip_id}: {len(mine)} feature rows of {widths} numbers, not {len(clip.frames)} of one width")
    return np.array(pc.list_flatten(feature), dtype=np.float32).reshape(len(mine), -1)
