"""Scoring one clip: what it still needs, and its rows. eval/score.py goes over the clips."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from eval.clip_regions import ClipRegions, RegionIndex
from eval.feature_rows import TRUTH, KnownFeatures, SeenFrames, clip_features, make_rows, wanted_frames
from eval.geometry import bring_to_size
from eval.metrics import METRICS
from eval.networks import MetricNetworks
from eval.predictions import Pair, delivered, verify_file
from eval.protocol import Protocol
from eval.score_digest import ScoreDigests, known_regions, per_clip_metrics
from eval.sides import PerFrame, Sides
from pipelines.clip import Frames
from pipelines.errors import ClipError
from pipelines.lake import Lake
from pipelines.tables import one_of
from pipelines.video import decode_frames, read_video

_SAID = ("reference_frame", "lossy", "truth_sharpness")  # what a prediction says of a clip, and what its scores are of


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What one clip still needs."""

    metrics: tuple[str, ...]
    features: Mapping[tuple[str, str], list[int]]  # (source, role) -> frames

    def __bool__(self) -> bool:
        return bool(self.metrics) or any(self.features.values())


@dataclass(kw_only=True, slots=True)
class Scorer:
    """Everything that scoring one clip needs; what the lake knows already is that of a few clips at a time (`for_clips`)."""

    lake: Lake
    protocol: Protocol
    networks: MetricNetworks
    regions: RegionIndex
    digests: ScoreDigests
    named: dict[str, str]  # protocol, dataset, split, prediction_id
    ignore_cache: bool = False
    known_features: KnownFeatures = field(default_factory=KnownFeatures)
    known_scores: frozenset[tuple[Any, ...]] = frozenset()  # as `_score_key`

    def for_clips(self, pairs: Sequence[Pair]) -> Scorer:
        """The same, knowing what the lake holds of these clips, unless that is to be ignored."""
        if self.ignore_cache:
            return self
        clip_ids = [pair.clip.clip_id for pair in pairs]
        features = KnownFeatures.read(self.lake, self.protocol, self.named["dataset"], [TRUTH, self.named["prediction_id"]], clip_ids)
        return replace(self, known_features=features, known_scores=_known_scores(self.lake, self.named, clip_ids))

    def work(self, pair: Pair) -> Work:
        clip, prediction = pair.clip, delivered(pair)
        reference = prediction["reference_frame"]
        if not self.protocol.scored_frames(clip.num_frames, reference):
            raise ClipError(
                "too_short",
                clip.clip_id,
                self._why_nothing_counts(clip.num_frames),
                f"use clips of {max(2, self.protocol.window)} frames or more",
            )
        metrics = tuple(m for m in self.possible(pair) if self._score_key(pair, m) not in self.known_scores)
        return Work(metrics=metrics, features={key: self._missing(pair, *key) for key in self._feature_keys()})

    def _why_nothing_counts(self, frames: int) -> str:
        if self.protocol.pixel_frames == "first-of-window":
            return f"{frames} frames hold no window of {self.protocol.window}"
        return "no frame is left when the reference frame is taken out"

    def possible(self, pair: Pair) -> list[str]:
        """Metrics that the clip can have now."""
        return [m for m in per_clip_metrics(self.protocol) if self.digests.of(m, pair.clip.clip_id) is not None]

    def _feature_keys(self) -> list[tuple[str, str]]:
        """(source, role) of every network once, though several roles may share it."""
        names = {self.protocol.networks[role]: role for role in reversed(self.networks.features)}
        return [(source, role) for role in reversed(names.values()) for source in (TRUTH, self.named["prediction_id"])]

    def _missing(self, pair: Pair, source: str, role: str) -> list[int]:
        reference = (pair.prediction or {})["reference_frame"]
        wanted: set[int] = set()
        for other in self.networks.features:
            if self.protocol.networks[other] == self.protocol.networks[role]:
                wanted |= set(wanted_frames(self.protocol, other, pair.clip.num_frames, reference, of_truth=source == TRUTH))
        return self.known_features.missing(self.networks, role, source, pair.clip.clip_id, self._sources(pair)[source], sorted(wanted))

    def _sources(self, pair: Pair) -> dict[str, str]:
        return {TRUTH: pair.truth_sha256, self.named["prediction_id"]: pair.prediction_sha256}

    def _score_key(self, pair: Pair, metric: str) -> tuple[Any, ...]:
        return (
            pair.clip.clip_id,
            metric,
            pair.prediction_sha256,
            pair.truth_sha256,
            self.digest(pair, metric),
            *_said(pair.prediction or {}),
        )

    def digest(self, pair: Pair, metric: str) -> str:
        """ "" for pixel arithmetic."""
        return self.digests.of(metric, pair.clip.clip_id) or ""

    def decode(self, pair: Pair) -> tuple[Frames, Frames]:
        """(prediction, truth) at the protocol's size, uint8 [T, H, W, 3] each. Raises ClipError."""
        row = delivered(pair)
        path = self.lake.path(row["uri"])
        verify_file(path, pair.clip.clip_id, row["sha256"])
        return bring_to_size(self.protocol, pair.clip.clip_id, read_video(Path(path)), decode_frames(pair.clip))

    def compute(
        self, pair: Pair, work: Work, regions: ClipRegions, decoded: tuple[Frames, Frames]
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """(score rows, feature rows) of one clip from what `decode` gave. Raises ClipError."""
        prediction, truth = decoded
        frames = {source: SeenFrames(self.protocol, side) for source, side in ((TRUTH, truth), (self.named["prediction_id"], prediction))}
        made = {
            key: make_rows(self.protocol, self.networks, key[1], frames[key[0]], wanted, self._feature_name(pair, key[0]))
            for key, wanted in work.features.items()
        }
        sides = self._sides(pair, prediction, truth, regions, made)
        scores = [self._score_row(pair, metric, METRICS[metric].values(sides)) for metric in work.metrics]
        return scores, [feature for rows in made.values() for feature in rows]

    def _feature_name(self, pair: Pair, source: str) -> dict[str, str]:
        return {
            "source": source,
            "dataset": self.named["dataset"],
            "clip_id": pair.clip.clip_id,
            "source_sha256": self._sources(pair)[source],
        }

    def _sides(
        self, pair: Pair, prediction: Frames, truth: Frames, regions: ClipRegions, made: Mapping[tuple[str, str], list[dict[str, Any]]]
    ) -> Sides:
        reference = delivered(pair)["reference_frame"]
        return Sides(
            prediction=prediction,
            truth=truth,
            counted=self.protocol.scored_frames(len(truth), reference),
            reference_frame=reference,
            regions=regions.masks,
            hand_boxes=regions.hand_boxes,
            l1_over_pixels=self.protocol.l1 == "over-pixels",
            lpips_against=self.protocol.lpips_against,
            distance=self.networks.distance,
            flow=self.networks.flow,
            features=partial(self._clip_features, pair, made),
        )

    def _clip_features(
        self, pair: Pair, made: Mapping[tuple[str, str], list[dict[str, Any]]], role: str, side: str
    ) -> dict[int, np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
        """Rows of earlier calls from the lake, and those of this one."""
        source = TRUTH if side == "truth" else self.named["prediction_id"]
        name = self.protocol.networks[role]
        held = {}
        if len(self.known_features.of(self.networks, role, source, pair.clip.clip_id, self._sources(pair)[source])):
            held = clip_features(self.lake, self.protocol, self._feature_name(pair, source), name, self.networks.digests[role])
        fresh = [row for (at, other), rows in made.items() if at == source and self.protocol.networks[other] == name for row in rows]
        return held | {row["frame"]: np.asarray(row["feature"], np.float64) for row in fresh}

    def _score_row(self, pair: Pair, metric: str, values: PerFrame) -> dict[str, Any]:
        """per_frame has one value per clip frame; null where the frame does not count or has no value."""
        found = values[np.isfinite(values)]
        return {
            **self._row(pair, metric),
            "sum": math.fsum(found),
            "count": len(found),
            "per_frame": [float(value) if math.isfinite(value) else None for value in values],
            "status": "ok",
        }

    def _row(self, pair: Pair, metric: str) -> dict[str, Any]:
        return {
            **self.named,
            **{name: (pair.prediction or {}).get(name) for name in _SAID},
            "clip_id": pair.clip.clip_id,
            "metric": metric,
            "prediction_sha256": pair.prediction_sha256,
            "truth_sha256": pair.truth_sha256,
            "weights_digest": self.digest(pair, metric),
            "region_from": self.regions.extractor(METRICS[metric].region, pair.clip.clip_id),
        }

    def failed_rows(self, pair: Pair, error: ClipError) -> list[dict[str, Any]]:
        """One row per metric, without a number."""
        return [
            {**self._row(pair, metric), "status": "failed", "code": error.code, "reason": error.reason} for metric in self.possible(pair)
        ]


def make_scorer(lake: Lake, protocol: Protocol, named: dict[str, str], ignore_cache: bool, device: str) -> Scorer:
    """For all clips of a split. ignore_cache: nothing counts as known."""
    networks = MetricNetworks(protocol, device)
    regions = RegionIndex(lake, named["dataset"], known_regions(protocol))
    return Scorer(
        lake=lake,
        protocol=protocol,
        networks=networks,
        regions=regions,
        digests=ScoreDigests(networks.digests, regions),
        named=named,
        ignore_cache=ignore_cache,
    )


def _said(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return (row.get("reference_frame"), bool(row.get("lossy")), bool(row.get("truth_sharpness")))


def _known_scores(lake: Lake, named: Mapping[str, str], clip_ids: Sequence[str]) -> frozenset[tuple[Any, ...]]:
    where = (pc.field("status") == "ok") & one_of("clip_id", clip_ids)
    for column in ("protocol", "split", "prediction_id"):
        where = where & (pc.field(column) == named[column])
    key = ["clip_id", "metric", "prediction_sha256", "truth_sha256", "weights_digest"]
    rows = lake.rows("scores", where, columns=[*key, *_SAID])
    return frozenset((*(row[name] for name in key), *_said(row)) for row in rows)
