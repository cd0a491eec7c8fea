"""How right the extractors are on synthetic people, as rows of `benchmark`: their rows against those of the `truth` extractor.

The protocol of these rows is `extractor_accuracy`; method = the extractor. They judge extractors and never a method of animation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from eval.uncertainty import FEW_CLIPS, bootstrap_ratio
from pipelines import accuracy
from pipelines.errors import UserError
from pipelines.lake import Lake
from pipelines.masks import decode_rle, unpack_array

PROTOCOL = "extractor_accuracy"
TRUTH = "truth"

Rows = Sequence[Mapping[str, Any]]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Accuracy:
    """One column. better: "higher" or "lower"."""

    id: str
    title: str
    unit: str
    better: str


_ALL = (
    Accuracy(id="oks", title="OKS, 17 body joints", unit="0..1", better="higher"),
    Accuracy(id="pck_body", title="PCK@0.1 body", unit="0..1", better="higher"),
    Accuracy(id="pck_face", title="PCK@0.1 face", unit="0..1", better="higher"),
    Accuracy(id="pck_hands", title="PCK@0.1 hands", unit="0..1", better="higher"),
    Accuracy(id="keypoint_error", title="keypoint error", unit="% of body height", better="lower"),
    Accuracy(id="mask_iou", title="mask IoU", unit="0..1", better="higher"),
    Accuracy(id="part_accuracy", title="IUV part accuracy", unit="0..1", better="higher"),
    Accuracy(id="uv_error", title="UV error", unit="0..1", better="lower"),
    Accuracy(id="flow_epe_body", title="flow EPE, body", unit="px", better="lower"),
    Accuracy(id="flow_epe_background", title="flow EPE, background", unit="px", better="lower"),
    Accuracy(id="clothing_accuracy", title="clothing accuracy", unit="0..1", better="higher"),
    Accuracy(id="face_found", title="frames with the face found", unit="0..1", better="higher"),
    Accuracy(id="face_point_error", title="five face points", unit="% of the face's height", better="lower"),
    Accuracy(id="verification_auc", title="identity ROC area", unit="0..1", better="higher"),
    Accuracy(id="verification_tpr", title="identity TPR at 1 % FPR", unit="0..1", better="higher"),
)
ACCURACIES: dict[str, Accuracy] = {each.id: each for each in _ALL}


@dataclass(frozen=True, slots=True)
class _Side:
    """Rows of one clip by table, each sorted by frame, and the clip's true masks [T, H, W]."""

    found: Rows
    true: Rows
    masks: npt.NDArray[np.bool_]


Judge = Callable[[_Side], dict[str, Floats]]
"""One clip -> values per frame of each accuracy, NaN where a frame has none."""


def _points(rows: Rows) -> tuple[Floats, Floats]:
    keypoints = np.array([row["keypoints"] for row in rows], np.float64).reshape(len(rows), -1, 2)
    return keypoints, np.array([row["scores"] for row in rows], np.float64)


def _judge_poses(side: _Side) -> dict[str, Floats]:
    """Points that are seen (true score 1); the body's height and area are those of the true mask."""
    (found, _), (true, scores) = _points(side.found), _points(side.true)
    seen = scores >= 1
    there = side.masks.any(2)
    height = there.shape[1] - np.argmax(there[:, ::-1], 1) - np.argmax(there, 1)
    area = side.masks.sum((1, 2))
    hands = [accuracy.pck(found[:, part], true[:, part], seen[:, part]) for part in (slice(91, 112), slice(112, 133))]
    return {
        "oks": accuracy.oks(found, true, seen, area),
        "pck_body": accuracy.pck(found[:, accuracy.BODY], true[:, accuracy.BODY], seen[:, accuracy.BODY]),
        "pck_face": accuracy.pck(found[:, accuracy.FACE], true[:, accuracy.FACE], seen[:, accuracy.FACE]),
        "pck_hands": np.concatenate(hands),
        "keypoint_error": accuracy.keypoint_error(found, true, seen, height),
    }


def _judge_masks(side: _Side) -> dict[str, Floats]:
    return {"mask_iou": accuracy.mask_iou(_masks(side.found), side.masks)}


def _judge_densepose(side: _Side) -> dict[str, Floats]:
    found, true = (np.stack([unpack_array(row["iuv"], row["shape"], row["dtype"]) for row in rows]) for rows in (side.found, side.true))
    return {"part_accuracy": accuracy.part_accuracy(found, true), "uv_error": accuracy.uv_error(found, true)}


def _judge_flow(side: _Side) -> dict[str, Floats]:
    found, true = (_flows(rows) for rows in (side.found, side.true))
    body = side.masks[: len(true)]
    return {
        "flow_epe_body": accuracy.endpoint_error(found, true, body),
        "flow_epe_background": accuracy.endpoint_error(found, true, ~body),
    }


def _flows(rows: Rows) -> Floats:
    """[T - 1, H, W, 2]."""
    flows = [unpack_array(row["flow"], row["shape"], row["dtype"]) for row in rows if row["flow"] is not None]
    return np.asarray(np.stack(flows).astype(np.float64).transpose(0, 2, 3, 1))


def _judge_clothing(side: _Side) -> dict[str, Floats]:
    found, true = (row["names"][int(np.argmax(row["probabilities"]))] for row in (side.found[0], side.true[0]))
    return {"clothing_accuracy": np.array([float(found == true)])}


def _judge_faces(side: _Side) -> dict[str, Floats]:
    """Where the true face is seen from the front half: whether the subject's face was found, and how far its points are off."""
    values = [_face(found, true) for found, true in zip(side.found, side.true, strict=True)]
    return {"face_found": np.array([v[0] for v in values]), "face_point_error": np.array([v[1] for v in values])}


def _face(found: Mapping[str, Any], true: Mapping[str, Any]) -> tuple[float, float]:
    if true["subject"] is None or true["subject"] < 0:
        return np.nan, np.nan
    if found["subject"] is None or found["subject"] < 0:
        return 0.0, np.nan
    points, right = (np.array(row["points"], np.float64).reshape(-1, 5, 2)[row["subject"]] for row in (found, true))
    box = np.array(true["boxes"], np.float64).reshape(-1, 4)[true["subject"]]
    return 1.0, float(100 * np.linalg.norm(points - right, axis=1).mean() / (box[3] - box[1]))


JUDGES: dict[str, Judge] = {
    "poses": _judge_poses,
    "body_masks": _judge_masks,
    "densepose": _judge_densepose,
    "flow": _judge_flow,
    "clothing": _judge_clothing,
    "faces": _judge_faces,
}


def _masks(rows: Rows) -> npt.NDArray[np.bool_]:
    return np.stack([decode_rle(row["rle"], row["height"], row["width"]) for row in rows])


def extractor_accuracy(lake: Lake, *, dataset: str, split: str, lineage: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """Judge every extractor that has rows of the split beside those of `truth`; writes and returns rows of `benchmark`.

    Clips in which an extractor failed are counted in the note, not in the value. Raises UserError where `truth` has no rows.
    """
    usable = (pc.field("dataset") == dataset) & (pc.field("split") == split) & (pc.field("status") == "ok")
    clips = {row["clip_id"] for row in lake.rows("clips", usable, ["clip_id"])}
    rows = [row for table in JUDGES for row in _of_table(lake, dataset, clips, table)]
    if not rows:
        raise UserError(
            f"nothing to judge in {dataset}/{split}: extract it with `truth` and with another extractor (data sets of performers only)"
        )
    rows = [{"protocol": PROTOCOL, "dataset": dataset, "split": split, "seed": 0, "windows": None, **row} for row in rows]
    group = (pc.field("protocol") == PROTOCOL) & (pc.field("dataset") == dataset) & (pc.field("split") == split)
    lake.delete("benchmark", group, lineage)
    lake.write("benchmark", rows, lineage)
    return rows


def _of_table(lake: Lake, dataset: str, clips: set[str], table: str) -> Iterator[dict[str, Any]]:
    where = pc.field("dataset") == dataset
    keys = lake.read(table, columns=["clip_id", "extractor", "version", "weights_digest"], where=where).group_by(
        ["clip_id", "extractor", "version", "weights_digest"]
    )
    held: dict[tuple[str, int, str], set[str]] = {}
    for row in keys.aggregate([]).to_pylist():
        if row["clip_id"] in clips:
            held.setdefault((row["extractor"], row["version"], row["weights_digest"]), set()).add(row["clip_id"])
    true = {clip: key for key, there in held.items() if key[0] == TRUTH for clip in there}
    for key, there in sorted(held.items()):
        shared = sorted(there & set(true))
        if key[0] != TRUTH and shared:
            yield from _of_extractor(lake, dataset, table, key, shared)


def _of_extractor(lake: Lake, dataset: str, table: str, key: tuple[str, int, str], clips: Sequence[str]) -> Iterator[dict[str, Any]]:
    extractor, version, digest = key
    values: dict[str, list[Floats]] = {}
    embeddings: list[tuple[str, Floats]] = []
    failed = 0
    for clip in clips:
        found = _rows(lake, dataset, table, clip, extractor, version, digest)
        if any(row["error"] is not None for row in found):
            failed += 1
            continue
        for name, per_frame in JUDGES[table](_Side(found, *_truth(lake, dataset, table, clip, found))).items():
            values.setdefault(name, []).append(per_frame)
        if table == "faces":
            embeddings += _embeddings(lake, clip, found)
    common = {"prediction_id": f"{extractor}@{digest[:12]}", "method": extractor, "variant": f"version {version}"}
    note = f"{failed} clips failed" if failed else ""
    for name, parts in values.items():
        yield {**common, **_mean_row(ACCURACIES[name], parts, note)}
    yield from ({**common, **row} for row in _verification_rows(embeddings, note))


def _rows(lake: Lake, dataset: str, table: str, clip: str, extractor: str, version: int, digest: str) -> list[dict[str, Any]]:
    where = (pc.field("dataset") == dataset) & (pc.field("clip_id") == clip) & (pc.field("extractor") == extractor)
    where = where & (pc.field("version") == version) & (pc.field("weights_digest") == digest)
    return sorted(lake.rows(table, where), key=lambda row: int(row["frame"]))


def _truth(lake: Lake, dataset: str, table: str, clip: str, found: Rows) -> tuple[Rows, npt.NDArray[np.bool_]]:
    """The true rows of the frames that `found` has, and the true masks of the whole clip."""
    where = (pc.field("dataset") == dataset) & (pc.field("clip_id") == clip) & (pc.field("extractor") == TRUTH)
    newest = max(row["version"] for row in lake.rows(table, where, ["version"]))
    rows = {row["frame"]: row for row in lake.rows(table, where & (pc.field("version") == newest))}
    masks = sorted(lake.rows("body_masks", where & (pc.field("version") == newest)), key=lambda row: int(row["frame"]))
    return [rows[row["frame"]] for row in found], _masks(masks)


def _mean_row(kind: Accuracy, parts: Sequence[Floats], note: str) -> dict[str, Any]:
    """The mean over frames with an interval over clips."""
    judged = [part[np.isfinite(part)] for part in parts]
    judged = [part for part in judged if len(part)]
    sums, counts = [float(part.sum()) for part in judged], [len(part) for part in judged]
    interval = bootstrap_ratio(sums, counts)
    notes = [
        note,
        "no interval: one clip" if len(judged) == 1 else "",
        "few clips: the interval is rough" if 1 < len(judged) < FEW_CLIPS else "",
    ]
    low, high = interval or (None, None)
    return {"metric": kind.id, "value": sum(sums) / sum(counts) if counts else None, "low": low, "high": high, "better": kind.better,
            "clips": len(judged), "frames": sum(counts), "note": "; ".join(filter(None, notes))}  # fmt: skip


def _embeddings(lake: Lake, clip: str, found: Rows) -> list[tuple[str, Floats]]:
    """(person, mean unit embedding) of a quarter of the clip each, where the extractor has a recogniser."""
    (subject,) = {row["subject"] for row in lake.rows("clips", pc.field("clip_id") == clip, ["subject"])}
    units = [np.array(row["embedding"]) / np.linalg.norm(row["embedding"]) for row in found if row["embedding"] is not None]
    return [(subject or clip, part.mean(0)) for part in map(np.array, _quarters(units)) if len(part)]


def _quarters(units: list[Floats]) -> list[list[Floats]]:
    step = max(-(-len(units) // 4), 1)
    return [units[start : start + step] for start in range(0, len(units), step)]


def _verification_rows(embeddings: Sequence[tuple[str, Floats]], note: str) -> Iterator[dict[str, Any]]:
    """All pairs of quarters; no interval, because pairs share people."""
    same: list[float] = []
    different: list[float] = []
    for i, (person, a) in enumerate(embeddings):
        for other, b in embeddings[:i]:
            (same if person == other else different).append(float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)))
    if not same or not different:
        return
    why = "; ".join(filter(None, [note, f"no interval: {len(same)} and {len(different)} pairs share people"]))
    for name, value in zip(("verification_auc", "verification_tpr"), accuracy.verification(same, different), strict=True):
        yield {"metric": name, "value": value, "low": None, "high": None, "better": "higher", "clips": None,
               "frames": None, "note": why}  # fmt: skip


def accuracy_text(rows: Rows) -> str:
    """The rows as lines: extractor, what, value with its interval, unit."""
    lines = []
    for row in rows:
        kind, value = ACCURACIES[row["metric"]], row["value"]
        between = f" [{row['low']:.4g}, {row['high']:.4g}]" if row["low"] is not None else ""
        said = "no value" if value is None else f"{value:.4g}{between} ({kind.unit})"
        lines.append(f"{row['method']:<24} {kind.title:<28} {said}" + (f"  {row['note']}" if row["note"] else ""))
    return "\n".join(lines)
