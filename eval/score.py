"""score(): generated clips in, rows of `scores` and `metric_features` out.

Each clip is decoded once; what has been scored with the same bytes and the same networks is not touched again. A clip that
cannot be scored is a failed row with its code, never a number.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from eval.clip_regions import ClipRegions
from eval.clip_scorer import Scorer, Work, make_scorer
from eval.cross_identity import NO_TRUTH
from eval.predictions import Pair, driven_by_others, pair_clips
from eval.protocols import protocol_named
from pipelines.clip import Frames
from pipelines.errors import ClipError
from pipelines.lake import Lake

Progress = Callable[[int, int], None]
Decoded = Callable[[], tuple[Frames, Frames]]
"""(prediction, truth) as soon as they are there; raises what decoding them raised."""

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
    missing: dict[str, str] = field(default_factory=dict)  # role -> why its network is not at hand
    seconds: float = 0.0


def score(lake: Lake, *, protocol: str, dataset: str, split: str, prediction_id: str, ignore_cache: bool = False,
          progress: Progress | None = None, device: str = "cpu", lineage: Mapping[str, Any] | None = None) -> ScoreReport:  # fmt: skip
    """Score every clip of a split against one method's predictions.

    ignore_cache: compute everything again, the truth's features too. progress: called with (clips done, clips in all).
    Clips that another person drives have no true clip: under any but a cross-identity protocol nothing is computed, `clips` is 0 and
    `missing["truth"]` says why. Raises UserError (unknown protocol, split or prediction; MissingWeightsError before anything is decoded).
    """
    started, chosen = time.monotonic(), protocol_named(protocol)
    if chosen.driven_by == "cross":
        from eval.cross_score import score_cross  # which makes reports of this file

        return score_cross(lake, chosen, dataset=dataset, split=split, prediction_id=prediction_id, ignore_cache=ignore_cache,
                           progress=progress, device=device, lineage=lineage)  # fmt: skip
    pairs = pair_clips(lake, dataset=dataset, split=split, prediction_id=prediction_id)
    if driven_by_others(pair.prediction or {} for pair in pairs):
        return ScoreReport(protocol=chosen.name, dataset=dataset, split=split, prediction_id=prediction_id, missing={"truth": NO_TRUTH})
    scorer = make_scorer(
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
        missing=dict(scorer.networks.missing),
    )
    for start in range(0, len(pairs), _CLIPS_PER_COMMIT):
        batch = pairs[start : start + _CLIPS_PER_COMMIT]
        _score_batch(scorer.for_clips(batch), batch, report, progress, lineage)
    report.seconds = time.monotonic() - started
    return report


def _score_batch(
    scorer: Scorer,
    pairs: Sequence[Pair],
    report: ScoreReport,
    progress: Progress | None,
    lineage: Mapping[str, Any] | None,
) -> None:
    """Score some clips and commit their rows; features first, so that a score never lacks them."""
    planned = [(pair, _plan(scorer, pair)) for pair in pairs]
    regions = scorer.regions.load([pair.clip for pair, work in planned if isinstance(work, Work) and work], scorer.protocol)
    scores: list[dict[str, Any]] = []
    features: list[dict[str, Any]] = []
    for pair, work, decoded in _decoded_ahead(scorer, planned):
        new_scores, new_features = _score_clip(scorer, pair, work, regions.get(pair.clip.clip_id, _no_regions), decoded, report)
        scores, features = scores + new_scores, features + new_features
        if progress is not None:
            progress(report.scored + report.cached + len(report.failed), report.clips)
    report.features += len(features)
    scorer.lake.write("metric_features", features, lineage)
    scorer.lake.write("scores", scores, lineage)


def _decoded_ahead(scorer: Scorer, planned: Sequence[tuple[Pair, Work | ClipError]]) -> Iterator[tuple[Pair, Work | ClipError, Decoded]]:
    """The clips in order, each with its frames; while one is scored, the next is being decoded, and no more than that one."""
    with ThreadPoolExecutor(1, "decode") as decoder:
        ready = None
        for pair, work in planned:
            needs_frames = isinstance(work, Work) and bool(work)
            following = pair, work, decoder.submit(scorer.decode, pair).result if needs_frames else _no_frames
            if ready is not None:
                yield ready
            ready = following
        if ready is not None:
            yield ready


def _no_frames() -> tuple[Frames, Frames]:
    raise AssertionError("nothing of this clip is to be computed")


def _no_regions() -> ClipRegions:
    return ClipRegions()


def _plan(scorer: Scorer, pair: Pair) -> Work | ClipError:
    try:
        return scorer.work(pair)
    except ClipError as error:
        return error


def _score_clip(
    scorer: Scorer, pair: Pair, work: Work | ClipError, regions: Callable[[], ClipRegions], decoded: Decoded, report: ScoreReport
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(score rows, feature rows) of one clip; a clip that cannot be scored gives failed rows."""
    try:
        if isinstance(work, ClipError):
            raise work
        made = scorer.compute(pair, work, regions(), decoded()) if work else ([], [])
    except ValueError as error:  # a network gave NaN
        failure = ClipError("extractor_failed", pair.clip.clip_id, str(error), "check the weights and the frames")
    except ClipError as error:
        failure = error
    else:
        report.scored, report.cached = report.scored + bool(work), report.cached + (not work)
        return made
    report.failed.append((pair.clip.clip_id, failure.code, failure.reason))
    return scorer.failed_rows(pair, failure), []
