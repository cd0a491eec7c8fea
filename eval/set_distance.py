"""One set metric (FID, FVD and their like) of one method, from stored feature rows: value, interval, counts and notes.

Rows are read clip by clip in the order of clip ids, so the number does not depend on how the lake came about, and what is held does not
grow with the clips (`frechet_groups.py`): both sets together at most 0.7 GB of scatters in 2,048 dimensions, 26 MB in 400.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.dataset as ds

from eval.benchmark_notes import missing_note, no_value
from eval.feature_rows import TRUTH, wanted_frames
from eval.frechet_groups import GroupedClips
from eval.frechet_interval import FrechetInterval, frechet_estimate, grouped
from eval.networks import WINDOW_ROLES
from eval.predictions import Pair
from eval.protocol import Protocol
from eval.stored_features import StoredFeatures, Wanted


@dataclass(frozen=True, kw_only=True, slots=True)
class SetDistance:
    """table: the version of `metric_features` to read;  digest: of the metric's network."""

    table: ds.Dataset
    protocol: Protocol
    metric: str
    digest: str
    pairs: Sequence[Pair]
    prediction_id: str

    def row(self) -> dict[str, Any]:
        """value, low, high, clips, frames, windows, note."""
        sources = {source: self._wanted(source) for source in (self.prediction_id, TRUTH)}
        delivered = {p.clip.clip_id for p in self.pairs if p.prediction is not None and p.prediction["status"] == "ok"}
        clips = sorted(delivered.intersection(*(self._stored(source).complete(wanted) for source, wanted in sources.items())))
        lacking = {
            "without features": len(sources[TRUTH]) - len(clips),
            f"shorter than a window of {self.protocol.window}": sum(not self._frames(pair) for pair in self.pairs),
        }
        notes = missing_note(lacking, len(self.pairs))
        count = sum(len(sources[TRUTH][clip_id].frames) for clip_id in clips)
        if count < 2:
            return no_value([*notes, f"{count} {self._unit}: a distance of sets needs at least 2"])
        generated, true = (self._groups(source, wanted, clips) for source, wanted in sources.items())
        return self._of(generated, true, notes)

    def _of(self, generated: GroupedClips, true: GroupedClips, notes: Sequence[str]) -> dict[str, Any]:
        count, dimensions = generated.n, generated.dimensions
        few = [f"fewer {self._unit} than feature dimensions ({count} of {dimensions}): biased upwards, compare with equal counts only"]
        found = frechet_estimate(generated, true)
        interval = found.interval
        low, high = (None, None) if isinstance(interval, str) else (interval.low, interval.high)
        return {
            "value": found.value,
            "low": low,
            "high": high,
            "clips": generated.clips,
            "frames": count if self.metric == "fid" else None,
            "windows": None if self.metric == "fid" else count,
            "note": "; ".join([*notes, *(few if count <= dimensions else []), self._interval_note(interval)]),
        }

    def _interval_note(self, interval: FrechetInterval | str) -> str:
        if isinstance(interval, str):
            return interval
        means = ", with float32 means as the value" if self._float32_means else ""
        return f"interval: jackknife over clips around {interval.corrected:.4g}, the distance without the bias of finite samples{means}"

    @property
    def _float32_means(self) -> bool:
        return self.protocol.frechet == "float32-means" and self.metric in WINDOW_ROLES

    @property
    def _unit(self) -> str:
        return "frames" if self.metric == "fid" else "windows"

    def _frames(self, pair: Pair) -> list[int]:
        reference = (pair.prediction or {}).get("reference_frame")
        return wanted_frames(self.protocol, self.metric, pair.clip.num_frames, reference)

    def _wanted(self, source: str) -> dict[str, Wanted]:
        """clip id -> the rows that it must have, of every clip that is long enough."""
        return {
            pair.clip.clip_id: Wanted(pair.truth_sha256 if source == TRUTH else pair.prediction_sha256, frames)
            for pair in self.pairs
            if (frames := self._frames(pair))
        }

    def _stored(self, source: str) -> StoredFeatures:
        return StoredFeatures.of(
            self.table,
            protocol=self.protocol.name,
            dataset=self.pairs[0].clip.dataset,
            source=source,
            extractor=self.protocol.networks[self.metric],
            weights_digest=self.digest,
        )

    def _groups(self, source: str, wanted: dict[str, Wanted], clip_ids: Sequence[str]) -> GroupedClips:
        rows = sum(len(wanted[clip_id].frames) for clip_id in clip_ids)
        return grouped(self._stored(source).clips(wanted, clip_ids), len(clip_ids), rows, float32_means=self._float32_means)
