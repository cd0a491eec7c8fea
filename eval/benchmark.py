"""benchmark(): rows of scores and features in, one value per method and metric out.

Sums are added over clips and divided once (no mean of means); FID and FVD are one distance over the features of all
clips. Only rows that were made from the bytes and networks of today are used; what is missing is said in the note.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from eval.benchmark_notes import missing_note, no_value, truth_note
from eval.clip_mean import mean_over_frames
from eval.clip_regions import TRUTH, RegionIndex
from eval.cross_score import cross_columns
from eval.history import write_history
from eval.metrics import METRICS
from eval.networks import current_digests
from eval.predictions import Pair, driven_by_others, pair_clips
from eval.protocol import MAIN_ROLES, Protocol
from eval.protocols import protocol_named
from eval.score_digest import ScoreDigests, known_regions, why_none
from eval.set_distance import SetDistance
from pipelines.errors import UserError
from pipelines.lake import Lake
from pipelines.prediction_manifest import DrivenBy
from pipelines.tables import one_of


@dataclass(frozen=True, kw_only=True, slots=True)
class _Column:
    """One metric of one method."""

    lake: Lake
    features: ds.Dataset  # `metric_features`, one version for all columns
    protocol: Protocol
    metric: str
    digests: ScoreDigests
    pairs: Sequence[Pair]
    prediction_id: str

    def row(self) -> dict[str, Any]:
        """value, low, high, clips, frames, windows, note, and `inputs` for the history."""
        made = self._set() if METRICS[self.metric].kind == "set" else self._per_clip()
        return {**made, "metric": self.metric, "better": METRICS[self.metric].better, "inputs": self._inputs()}

    def _inputs(self) -> dict[str, Any]:
        return {
            "predictions": [(p.clip.clip_id, p.prediction_sha256, (p.prediction or {}).get("reference_frame")) for p in self.pairs],
            "truth": [(p.clip.clip_id, p.truth_sha256) for p in self.pairs],
            "network": "|".join(sorted({self._digest_of(p.clip.clip_id) or "" for p in self.pairs})),
        }

    def _digest_of(self, clip_id: str) -> str | None:
        return self.digests.of(self.metric, clip_id)

    def _per_clip(self) -> dict[str, Any]:
        rows = self._score_rows()
        good = [row for row in rows.values() if row["status"] == "ok"]
        codes = Counter(row["code"] for row in rows.values() if row["status"] != "ok")
        possible = sum(self._digest_of(pair.clip.clip_id) is not None for pair in self.pairs)
        codes["not scored yet"] += possible - len(rows)
        region = METRICS[self.metric].region
        if region is not None:
            codes["nothing says where"] += len(self.pairs) - possible
        by_truth = sum(self.digests.regions.extractor(region, pair.clip.clip_id) == TRUTH for pair in self.pairs)
        notes = [*missing_note(codes, len(self.pairs)), *truth_note(by_truth, len(self.pairs))]
        if not possible:
            return no_value([why_none(METRICS[self.metric], self.protocol)])
        return mean_over_frames(good, notes)

    def _score_rows(self) -> dict[str, dict[str, Any]]:
        """clip id -> the row that was made from what is there now."""
        where = (
            (pc.field("protocol") == self.protocol.name)
            & (pc.field("prediction_id") == self.prediction_id)
            & (pc.field("metric") == self.metric)
        )
        current = {(p.clip.clip_id, p.prediction_sha256, p.truth_sha256, self._digest_of(p.clip.clip_id), (p.prediction or {}).get("reference_frame"))
                   for p in self.pairs}  # fmt: skip
        names = ("clip_id", "prediction_sha256", "truth_sha256", "weights_digest", "reference_frame")
        columns = [*names, "sum", "count", "status", "code"]  # not the values of every frame
        return {row["clip_id"]: row for row in self.lake.rows("scores", where, columns) if tuple(row[name] for name in names) in current}

    def _set(self) -> dict[str, Any]:
        found = SetDistance(
            table=self.features,
            protocol=self.protocol,
            metric=self.metric,
            digest=self.digests.networks.get(self.metric, ""),
            pairs=self.pairs,
            prediction_id=self.prediction_id,
        )
        return found.row()


def benchmark(
    lake: Lake, *, protocol: str, dataset: str, split: str, run_id: str = "", lineage: Mapping[str, Any] | None = None
) -> pa.Table:
    """The benchmark rows of every method that has predictions for the split; writes `benchmark` and `history`.

    Clips that another person drives have no true clip, so they stand only under a protocol that is made for them, and all others
    only under the other protocols. A history row is added only where a value or its inputs changed. Raises UserError when there
    are no predictions.
    """
    chosen = protocol_named(protocol)
    columns = _CrossColumns(lake, chosen, dataset) if chosen.driven_by == "cross" else _Columns(lake, chosen, dataset, split)
    rows = []
    for prediction_id, named in _methods(lake, dataset, split, chosen.driven_by).items():
        same = {"protocol": chosen.name, "dataset": dataset, "split": split, "prediction_id": prediction_id, **named}
        rows += [{**same, **row} for row in columns.of(prediction_id)]
    write_history(lake, rows, run_id=run_id, lineage=lineage)
    _write(
        lake,
        chosen,
        dataset,
        split,
        [{name: value for name, value in row.items() if name != "inputs"} for row in rows],
        lineage,
    )
    return lake.read("benchmark", where=_group(chosen.name, dataset, split))


class _Columns:
    """What every method's columns share."""

    def __init__(self, lake: Lake, protocol: Protocol, dataset: str, split: str) -> None:
        self._lake, self._protocol, self._dataset, self._split = lake, protocol, dataset, split
        self._features = lake.dataset("metric_features")
        self._digests = ScoreDigests(_at_hand(current_digests(lake, protocol)), RegionIndex(lake, dataset, known_regions(protocol)))

    def of(self, prediction_id: str) -> list[dict[str, Any]]:
        """One row per metric of the protocol."""
        pairs = pair_clips(self._lake, dataset=self._dataset, split=self._split, prediction_id=prediction_id)
        return [
            _Column(
                lake=self._lake,
                features=self._features,
                protocol=self._protocol,
                metric=metric,
                digests=self._digests,
                pairs=pairs,
                prediction_id=prediction_id,
            ).row()
            for metric in self._protocol.metrics
        ]


class _CrossColumns:
    """The same of clips that another person drives."""

    def __init__(self, lake: Lake, protocol: Protocol, dataset: str) -> None:
        self._lake, self._protocol, self._dataset = lake, protocol, dataset
        self._digests = _at_hand(current_digests(lake, protocol))

    def of(self, prediction_id: str) -> list[dict[str, Any]]:
        """One row per metric of the protocol."""
        return list(cross_columns(self._lake, self._protocol, self._digests, self._dataset, prediction_id))


def _at_hand(digests: Mapping[str, str]) -> dict[str, str]:
    """Without the roles of which there is neither a file nor a score."""
    return {role: digest for role, digest in digests.items() if digest or role in MAIN_ROLES}


def _methods(lake: Lake, dataset: str, split: str, driven_by: DrivenBy) -> dict[str, dict[str, Any]]:
    rows = lake.rows(
        "predictions",
        (pc.field("dataset") == dataset) & (pc.field("split") == split),
        columns=["prediction_id", "method", "variant", "seed", "driving_clip_id"],
    )
    rows = [row for row in rows if driven_by_others([row]) == (driven_by == "cross")]
    if not rows:
        kind = "that another person drives " if driven_by == "cross" else ""
        raise UserError(f"no predictions {kind}for {dataset}/{split} in this lake; generate or import some, then score them")
    return {row["prediction_id"]: {name: row[name] for name in ("method", "variant", "seed")} for row in rows}


def _group(protocol: str, dataset: str, split: str) -> pc.Expression:
    return (pc.field("protocol") == protocol) & (pc.field("dataset") == dataset) & (pc.field("split") == split)


def _write(
    lake: Lake,
    protocol: Protocol,
    dataset: str,
    split: str,
    rows: Sequence[Mapping[str, Any]],
    lineage: Mapping[str, Any] | None,
) -> None:
    """Replace the rows of this table; rows of predictions that are gone go too."""
    kept = {row["prediction_id"] for row in rows}
    lake.delete("benchmark", _group(protocol.name, dataset, split) & ~one_of("prediction_id", kept), lineage)
    lake.write("benchmark", rows, lineage)


def rescore_differences(old_rows: Sequence[Mapping[str, Any]], new_rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Numbers that changed although nothing they depend on did: one line each, empty when all is well.

    Takes rows of `scores` (same digests of prediction, truth and network, other sum or count) or of `benchmark` (other
    value). Pixel metrics must be equal to the last bit; networks may differ by the metric's relative tolerance. A row
    that is gone, or that has become a failure, is a difference too.
    """
    key = ("protocol", "split", "prediction_id", "clip_id", "metric")
    now = {tuple(row.get(name) for name in key): row for row in new_rows}
    lines = []
    for row in old_rows:
        named = tuple(row.get(name) for name in key)
        difference = _difference(row, now.get(named))
        if difference:
            lines.append(f"{' / '.join(str(part) for part in named if part)}: {difference}")
    return lines


def _difference(old: Mapping[str, Any], new: Mapping[str, Any] | None) -> str | None:
    if new is None:
        return "the row is gone"
    inputs = ("prediction_sha256", "truth_sha256", "weights_digest")
    if any(old.get(name) != new.get(name) for name in inputs):
        return None  # another input may give another number
    tolerance = METRICS[old["metric"]].tolerance
    for name in ("sum", "count", "value"):
        before, after = old.get(name), new.get(name)
        if (before is None) != (after is None) or (
            before is not None and after is not None and not math.isclose(before, after, rel_tol=tolerance, abs_tol=tolerance)
        ):
            return f"{name} was {before}, is {after}"
    return None
