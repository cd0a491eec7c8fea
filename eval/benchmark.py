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

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from eval.clip_regions import RegionIndex
from eval.feature_rows import TRUTH, read_features, wanted_frames
from eval.frechet import frechet_distance_of_rows
from eval.frechet_interval import FrechetInterval, frechet_interval
from eval.history import write_history
from eval.metrics import METRICS
from eval.networks import WINDOW_ROLES, current_digests
from eval.predictions import Pair, pair_clips
from eval.protocol import MAIN_ROLES, Protocol
from eval.protocols import protocol_named
from eval.score_digest import ScoreDigests, known_regions, why_none
from eval.uncertainty import FEW_CLIPS, bootstrap_ratio
from pipelines.errors import UserError
from pipelines.lake import Lake
from pipelines.tables import one_of


@dataclass(frozen=True, kw_only=True, slots=True)
class _Column:
    """One metric of one method."""

    lake: Lake
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
        if METRICS[self.metric].region is not None:
            codes["nothing says where"] += len(self.pairs) - possible
        notes = _missing_note(codes, len(self.pairs))
        frames = sum(row["count"] for row in good)
        if not possible:
            return _no_value([why_none(METRICS[self.metric], self.protocol)])
        if not frames:
            return _no_value([*notes, "no frame has a score"])
        good = [row for row in good if row["count"]]
        interval = bootstrap_ratio([row["sum"] for row in good], [row["count"] for row in good])
        if interval is None:
            notes.append("no interval: one clip says nothing about other clips")
        elif len(good) < FEW_CLIPS:
            notes.append(f"rough interval: {len(good)} clips only")
        low, high = interval or (None, None)
        return {
            "value": math.fsum(row["sum"] for row in good) / frames,
            "low": low,
            "high": high,
            "clips": len(good),
            "frames": frames,
            "windows": None,
            "note": "; ".join(notes) or None,
        }

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
        return {row["clip_id"]: row for row in self.lake.rows("scores", where) if tuple(row[name] for name in names) in current}

    def _set(self) -> dict[str, Any]:
        generated_clips, clips = self._features(self.prediction_id)
        true_clips, _ = self._features(TRUTH, only=clips)
        generated, true = (np.concatenate(blocks) if blocks else np.empty((0, 0)) for blocks in (generated_clips, true_clips))
        expected = self._expected()
        lacking = {
            "without features": len(expected) - len(clips),
            f"shorter than a window of {self.protocol.window}": len(self.pairs) - len(expected),
        }
        notes = _missing_note(lacking, len(self.pairs))
        if min(len(generated), len(true)) < 2:
            return _no_value([*notes, f"{len(generated)} {self._unit}: a distance of sets needs at least 2"])
        if min(len(generated), len(true)) <= generated.shape[1]:
            notes.append(
                f"fewer {self._unit} than feature dimensions ({len(generated)} of {generated.shape[1]}): biased "
                "upwards, compare with equal counts only"
            )
        interval = frechet_interval(generated_clips, true_clips)
        notes.append(interval if isinstance(interval, str) else _interval_note(interval))
        low, high = (None, None) if isinstance(interval, str) else (interval.low, interval.high)
        counts = {"frames": len(generated), "windows": None} if self.metric == "fid" else {"frames": None, "windows": len(generated)}
        return {
            "value": frechet_distance_of_rows(generated, true, float32_means=self._float32_means),
            "low": low,
            "high": high,
            "clips": len(clips),
            **counts,
            "note": "; ".join(notes),
        }

    @property
    def _float32_means(self) -> bool:
        return self.protocol.frechet == "float32-means" and self.metric in WINDOW_ROLES

    @property
    def _unit(self) -> str:
        return "frames" if self.metric == "fid" else "windows"

    def _expected(self) -> dict[str, tuple[Pair, list[int]]]:
        """clip id -> the pair and the rows that it must have."""
        found = {}
        for pair in self.pairs:
            reference = (pair.prediction or {}).get("reference_frame")
            frames = wanted_frames(self.protocol, self.metric, pair.clip.num_frames, reference)
            if frames:
                found[pair.clip.clip_id] = (pair, frames)
        return found

    def _features(self, source: str, only: set[str] | None = None) -> tuple[list[npt.NDArray[np.float64]], set[str]]:
        """(per clip [n, D] features in the order of frames, clips in the order of ids; clips that have all their rows).

        `only` restricts the clips.
        """
        extractor = self.protocol.networks[self.metric]
        digest = self.digests.networks.get(self.metric, "")
        table = read_features(self.lake, self.protocol, self.pairs[0].clip.dataset, source, extractor, digest)
        held = _rows_by_clip(table)
        blocks, clips = [], set()
        for clip_id, (pair, frames) in sorted(self._expected().items()):
            sha256 = pair.truth_sha256 if source == TRUTH else pair.prediction_sha256
            rows = [held.get((clip_id, frame, sha256)) for frame in frames]
            if (only is None or clip_id in only) and all(row is not None for row in rows) and _delivered(pair):
                blocks.append(np.stack([row for row in rows if row is not None]))
                clips.add(clip_id)
        return blocks, clips


def _interval_note(interval: FrechetInterval) -> str:
    return f"interval: jackknife over clips around {interval.corrected:.4g}, the distance without the bias of finite samples"


def _delivered(pair: Pair) -> bool:
    return pair.prediction is not None and pair.prediction["status"] == "ok"


def _rows_by_clip(table: pa.Table) -> dict[tuple[str, int, str], npt.NDArray[np.float64]]:
    names = zip(*(table[name].to_pylist() for name in ("clip_id", "frame", "source_sha256")), strict=True)
    features = [np.asarray(feature.values.to_numpy(zero_copy_only=False), dtype=np.float64) for feature in table["feature"]]
    return dict(zip(names, features, strict=True))


def _missing_note(codes: Mapping[str, int], clips: int) -> list[str]:
    missing = {code: number for code, number in codes.items() if number}
    detail = ", ".join(f"{code}: {number}" for code, number in sorted(missing.items()))
    return [f"{sum(missing.values())} of {clips} clips missing ({detail})"] if missing else []


def _no_value(notes: Sequence[str]) -> dict[str, Any]:
    return {
        "value": None,
        "low": None,
        "high": None,
        "clips": 0,
        "frames": None,
        "windows": None,
        "note": "; ".join(notes),
    }


def benchmark(
    lake: Lake, *, protocol: str, dataset: str, split: str, run_id: str = "", lineage: Mapping[str, Any] | None = None
) -> pa.Table:
    """The benchmark rows of every method that has predictions for the split; writes `benchmark` and `history`.

    A history row is added only where a value or its inputs changed. Raises UserError when there are no predictions.
    """
    chosen = protocol_named(protocol)
    methods = _methods(lake, dataset, split)
    digests = ScoreDigests(_at_hand(current_digests(lake, chosen)), RegionIndex(lake, dataset, known_regions(chosen)))
    rows = []
    for prediction_id, named in methods.items():
        pairs = pair_clips(lake, dataset=dataset, split=split, prediction_id=prediction_id)
        for metric in chosen.metrics:
            column = _Column(
                lake=lake,
                protocol=chosen,
                metric=metric,
                digests=digests,
                pairs=pairs,
                prediction_id=prediction_id,
            )
            rows.append(
                {
                    "protocol": chosen.name,
                    "dataset": dataset,
                    "split": split,
                    "prediction_id": prediction_id,
                    **named,
                    **column.row(),
                }
            )
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


def _at_hand(digests: Mapping[str, str]) -> dict[str, str]:
    """Without the roles of which there is neither a file nor a score."""
    return {role: digest for role, digest in digests.items() if digest or role in MAIN_ROLES}


def _methods(lake: Lake, dataset: str, split: str) -> dict[str, dict[str, Any]]:
    rows = lake.rows(
        "predictions",
        (pc.field("dataset") == dataset) & (pc.field("split") == split),
        columns=["prediction_id", "method", "variant", "seed"],
    )
    if not rows:
        raise UserError(f"no predictions for {dataset}/{split} in this lake; generate or import some, then score them")
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
