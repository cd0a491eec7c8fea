"""score(): generated clips in, rows of `scores` and `metric_features` out.

Each clip is decoded once; what has been scored with the same bytes and the same networks is not touched again. A clip that
cannot be scored is a failed row with its code, never a number.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from eval.feature_rows import FEATURE_ROLES, TRUTH, KnownFeatures, make_rows, wanted_frames
from eval.geometry import bring_to_size
from eval.metrics import METRICS
from eval.metrics.lpips import lpips
from eval.metrics.metric import PerFrame
from eval.networks import MetricNetworks
from eval.predictions import Pair, delivered, pair_clips, verify_file
from eval.protocol import Protocol, protocol_named
from pipelines.clip import Frames
from pipelines.errors import ClipError
from pipelines.lake import Lake
from pipelines.video import decode_frames, read_video

Progress = Callable[[int, int], None]
_CLIPS_PER_COMMIT = 16


@dataclass(kw_only=True, slots=True)
class ScoreReport:
    """What one call of `score` did."""

    protocol: str
    dataset: str
    split: str
    prediction_id: str
    clips: int = 0  # of the split
    scored: int = 0  # computed in this call, in whole or in part
    cached: int = 0  # nothing to do
    failed: list[tuple[str, str, str]] = field(default_factory=list)  # clip id, code, reason
    features: int = 0  # feature rows made
    networks: dict[str, str] = field(default_factory=dict)  # role -> weights digest
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class _Work:
    """What one clip still needs."""

    metrics: tuple[str, ...]
    features: Mapping[tuple[str, str], list[int]]  # (source, role) -> frames

    def __bool__(self) -> bool:
        return bool(self.metrics) or any(self.features.values())


@dataclass(kw_only=True, slots=True)
class _Scorer:
    """Everything that scoring one clip needs."""

    lake: Lake
    protocol: Protocol
    networks: MetricNetworks
    known_features: KnownFeatures
    known_scores: set[tuple[str, str, str, str, str]]  # clip_id, metric, prediction and truth sha256, weights digest
    named: dict[str, str]  # protocol, dataset, split, prediction_id

    def work(self, pair: Pair) -> _Work:
        clip, prediction = pair.clip, delivered(pair)
        reference = prediction["reference_frame"]
        if not self.protocol.scored_frames(clip.num_frames, reference):
            raise ClipError(
                "too_short",
                clip.clip_id,
                "no frame is left when the reference frame is taken out",
                "use clips of two frames or more",
            )
        metrics = tuple(m for m in per_clip_metrics(self.protocol) if self._score_key(pair, m) not in self.known_scores)
        wanted = {role: wanted_frames(self.protocol, role, clip.num_frames, reference) for role in FEATURE_ROLES}
        features = {(source, role): self.known_features.missing(self.networks, role, source, clip.clip_id, sha256, wanted[role])
                    for source, sha256 in self._sources(pair).items() for role in FEATURE_ROLES}  # fmt: skip
        return _Work(metrics=metrics, features=features)

    def _sources(self, pair: Pair) -> dict[str, str]:
        return {TRUTH: pair.truth_sha256, self.named["prediction_id"]: pair.prediction_sha256}

    def _score_key(self, pair: Pair, metric: str) -> tuple[str, str, str, str, str]:
        return (pair.clip.clip_id, metric, pair.prediction_sha256, pair.truth_sha256, self.digest(metric))

    def digest(self, metric: str) -> str:
        """ "" for pixel arithmetic."""
        return self.networks.digests.get(metric, "")

    def compute(self, pair: Pair, work: _Work) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """(score rows, feature rows) of one clip. Raises ClipError."""
        row = delivered(pair)
        path = self.lake.path(row["uri"])
        verify_file(path, pair.clip.clip_id, row["sha256"])
        prediction, truth = bring_to_size(self.protocol, pair.clip.clip_id, read_video(Path(path)), decode_frames(pair.clip))
        counted = self.protocol.scored_frames(len(truth), row["reference_frame"])
        scores = [
            self._score_row(pair, metric, self._values(metric, prediction[counted], truth[counted]), counted) for metric in work.metrics
        ]
        sides = {TRUTH: truth, self.named["prediction_id"]: prediction}
        features: list[dict[str, Any]] = []
        for (source, role), frames in work.features.items():
            named = {
                "source": source,
                "dataset": self.named["dataset"],
                "clip_id": pair.clip.clip_id,
                "source_sha256": self._sources(pair)[source],
            }
            features += make_rows(self.protocol, self.networks, role, sides[source], frames, named)
        return scores, features

    def _values(self, metric: str, prediction: Frames, truth: Frames) -> PerFrame:
        per_frame = METRICS[metric].per_frame
        return lpips(self.networks.distance, prediction, truth) if per_frame is None else per_frame(prediction, truth)

    def _score_row(self, pair: Pair, metric: str, values: PerFrame, counted: Sequence[int]) -> dict[str, Any]:
        """per_frame has one value per clip frame; null where the frame does not count."""
        per_frame: list[float | None] = [None] * pair.clip.num_frames
        for frame, value in zip(counted, values, strict=True):
            per_frame[frame] = float(value)
        return {
            **self._row(pair, metric),
            "sum": math.fsum(values),
            "count": len(values),
            "per_frame": per_frame,
            "status": "ok",
        }

    def _row(self, pair: Pair, metric: str) -> dict[str, Any]:
        return {**self.named, "clip_id": pair.clip.clip_id, "metric": metric, "prediction_sha256": pair.prediction_sha256,
                "truth_sha256": pair.truth_sha256, "weights_digest": self.digest(metric)}  # fmt: skip

    def failed_rows(self, pair: Pair, error: ClipError) -> list[dict[str, Any]]:
        """One row per metric, without a number."""
        return [
            {**self._row(pair, metric), "status": "failed", "code": error.code, "reason": error.reason}
            for metric in per_clip_metrics(self.protocol)
        ]


def per_clip_metrics(protocol: Protocol) -> tuple[str, ...]:
    """Metrics of the protocol that have a value per clip; set metrics have none."""
    return tuple(metric for metric in protocol.metrics if METRICS[metric].kind != "set")


def score(lake: Lake, *, protocol: str, dataset: str, split: str, prediction_id: str, ignore_cache: bool = False,
          progress: Progress | None = None, device: str = "cpu", lineage: Mapping[str, Any] | None = None) -> ScoreReport:  # fmt: skip
    """Score every clip of a split against one method's predictions.

    ignore_cache: compute everything again, the truth's features too. progress: called with (clips done, clips in all).
    Raises UserError (unknown protocol, split or prediction; MissingWeightsError before anything is decoded).
    """
    started, chosen = time.monotonic(), protocol_named(protocol)
    pairs = pair_clips(lake, dataset=dataset, split=split, prediction_id=prediction_id)
    scorer = _scorer(
        lake,
        chosen,
        {"protocol": chosen.name, "dataset": dataset, "split": split, "prediction_id": prediction_id},
        ignore_cache,
        device,
    )
    report = ScoreReport(
        protocol=chosen.name,
        dataset=dataset,
        split=split,
        prediction_id=prediction_id,
        clips=len(pairs),
        networks=dict(scorer.networks.digests),
    )
    for start in range(0, len(pairs), _CLIPS_PER_COMMIT):
        _score_batch(scorer, pairs[start : start + _CLIPS_PER_COMMIT], report, progress, lineage)
    report.seconds = time.monotonic() - started
    return report


def _scorer(lake: Lake, protocol: Protocol, named: dict[str, str], ignore_cache: bool, device: str) -> _Scorer:
    features, scores = KnownFeatures(), set()
    if not ignore_cache:
        features = KnownFeatures.read(lake, protocol, named["dataset"], [TRUTH, named["prediction_id"]])
        scores = _known_scores(lake, named)
    return _Scorer(
        lake=lake,
        protocol=protocol,
        networks=MetricNetworks(protocol, device),
        known_features=features,
        known_scores=scores,
        named=named,
    )


def _known_scores(lake: Lake, named: Mapping[str, str]) -> set[tuple[str, str, str, str, str]]:
    where = pc.field("status") == "ok"
    for column in ("protocol", "split", "prediction_id"):
        where = where & (pc.field(column) == named[column])
    columns = ["clip_id", "metric", "prediction_sha256", "truth_sha256", "weights_digest"]
    return {tuple(row[name] for name in columns) for row in lake.rows("scores", where, columns=columns)}


def _score_batch(
    scorer: _Scorer,
    pairs: Sequence[Pair],
    report: ScoreReport,
    progress: Progress | None,
    lineage: Mapping[str, Any] | None,
) -> None:
    """Score some clips and commit their rows; features first, so that a score never lacks them."""
    scores: list[dict[str, Any]] = []
    features: list[dict[str, Any]] = []
    for pair in pairs:
        new_scores, new_features = _score_clip(scorer, pair, report)
        scores, features = scores + new_scores, features + new_features
        if progress is not None:
            progress(report.scored + report.cached + len(report.failed), report.clips)
    report.features += len(features)
    scorer.lake.write("metric_features", features, lineage)
    scorer.lake.write("scores", scores, lineage)


def _score_clip(scorer: _Scorer, pair: Pair, report: ScoreReport) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(score rows, feature rows) of one clip; a clip that cannot be scored gives failed rows."""
    try:
        work = scorer.work(pair)
        made = scorer.compute(pair, work) if work else ([], [])
    except ValueError as error:  # a network gave NaN
        failure = ClipError("extractor_failed", pair.clip.clip_id, str(error), "check the weights and the frames")
    except ClipError as error:
        failure = error
    else:
        report.scored, report.cached = report.scored + bool(work), report.cached + (not work)
        return made
    report.failed.append((pair.clip.clip_id, failure.code, failure.reason))
    return scorer.failed_rows(pair, failure), []
