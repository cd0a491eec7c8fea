"""From the rows of feature tables to a clip's signals, and which clips have the rows that a method needs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from models.clip_signals import ClipSignals, FaceSignals, Floats, PackedFrames
from models.motion_blur_map import HandSignals
from models.signals import SignalName
from pipelines.clip import Clip
from pipelines.crop import to_crop
from pipelines.errors import UserError
from pipelines.extractors.registry import extractors_named
from pipelines.lake import Lake
from pipelines.sources.registry import Dataset
from pipelines.tables import SPARSE, one_of

Row = Mapping[str, Any]

TABLE_OF: Mapping[SignalName, str] = {
    "hands": "hands",
    "faces": "faces",
    "body_mask": "body_masks",
    "densepose": "densepose",
    "clothing": "clothing",
    "actions": "actions",
    "caption": "captions",
}
DRAWN_CHARTS = ("truth", "densepose_tiny")  # extractors whose IUV is that of the drawn people

_COLUMNS: Mapping[SignalName, tuple[str, ...]] = {
    "hands": ("boxes", "valid", "sharpness", "movement"),
    "faces": ("boxes", "subject", "warp", "embedding"),
    "body_mask": ("soft", "soft_shape", "soft_dtype"),
    "densepose": ("iuv", "shape", "dtype"),
    "clothing": ("probabilities",),
    "actions": ("tokens", "shape", "dtype"),
    "caption": ("caption", "character"),
}
_IDENTITY = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
_PERCENTILE = 99


@dataclass(frozen=True, kw_only=True, slots=True)
class Maker:
    """Whose rows are read."""

    extractor: str
    version: int
    weights_digest: str


Makers = Mapping[SignalName, Maker]


def makers_of(dataset: Dataset, needs: Sequence[SignalName]) -> dict[SignalName, Maker]:
    """The extractor of each signal, as its version and weights are today. Raises UserError where none fills the table, or its weights are missing."""
    extractors = {name: extractors_named([dataset.extractor_of(TABLE_OF[name])])[0] for name in needs}
    digests = {extractor.name: extractor.weights_digest() for extractor in extractors.values()}
    return {
        name: Maker(extractor=extractor.name, version=extractor.version, weights_digest=digests[extractor.name])
        for name, extractor in extractors.items()
    }


def makers_json(makers: Makers) -> str:
    """For the column `signals` of `training_rows`, and for manifests."""
    return json.dumps({name: asdict(maker) for name, maker in makers.items()}, sort_keys=True)


def rows_of(dataset: str, maker: Maker, clip_ids: Sequence[str]) -> pc.Expression:
    """Rows of this maker for these clips, failures left out."""
    return (
        (pc.field("dataset") == dataset)
        & (pc.field("extractor") == maker.extractor)
        & (pc.field("version") == maker.version)
        & (pc.field("weights_digest") == maker.weights_digest)
        & one_of("clip_id", clip_ids)
        & (pc.field("frame") >= 0)
    )


# --- which clips have them -------------------------------------------------------------------------------------------


def clips_with(lake: Lake, dataset: Dataset, clips: Sequence[Clip], name: SignalName, maker: Maker) -> set[str]:
    """Ids of the clips whose rows of this signal are whole, without an error and with values."""
    where = rows_of(dataset.name, maker, [clip.clip_id for clip in clips])
    if name == "actions":  # annotations name the class of an action, but hold no network's tokens
        where = where & pc.field("tokens").is_valid()
    table = TABLE_OF[name]
    rows = lake.read(table, ["clip_id", *(("subject", "embedding_norm") if name == "faces" else ())], where)
    counted = Counter(rows["clip_id"].to_pylist())
    nameless = set(rows.filter(_nameless())["clip_id"].to_pylist()) if name == "faces" else set()
    return {
        clip.clip_id
        for clip in clips
        if clip.clip_id not in nameless and (counted[clip.clip_id] >= 1 if table in SPARSE else counted[clip.clip_id] == clip.num_frames)
    }


def _nameless() -> pc.Expression:
    """Faces that no recogniser looked at."""
    return (pc.field("subject") >= 0) & pc.field("embedding_norm").is_null()


def sharpness_percentile(lake: Lake, dataset: Dataset, clips: Sequence[Clip], maker: Maker) -> float:
    """99th percentile of s_128 over all hands of these clips (HIA's scale of sharpness). Raises UserError where no hand is seen."""
    rows = lake.read("hands", ["valid", "sharpness"], rows_of(dataset.name, maker, [clip.clip_id for clip in clips]))
    sharpness = np.asarray(rows["sharpness"].combine_chunks().flatten(), np.float64).reshape(-1, 2, 2)[..., 1]
    seen = sharpness[np.asarray(rows["valid"].combine_chunks().flatten(), bool).reshape(-1, 2)]
    value = float(np.percentile(seen, _PERCENTILE)) if len(seen) else 0.0
    if value <= 0:
        raise UserError(
            f"data set {dataset.name}: extractor {maker.extractor!r} sees no hand with any detail in {len(clips)} training clips, so the "
            "motion-blur map has no scale; use clips that show hands, or a method without that map"
        )
    return value


def faces_seen(lake: Lake, dataset: Dataset, clips: Sequence[Clip], maker: Maker) -> dict[str, npt.NDArray[np.bool_]]:
    """Clip id -> [T] whether the subject's face is found in the frame."""
    seen: dict[str, list[bool]] = {}
    where = rows_of(dataset.name, maker, [clip.clip_id for clip in clips])
    for row in lake.rows("faces", where, ["clip_id", "frame", "subject"]):
        seen.setdefault(row["clip_id"], []).append(row["subject"] >= 0)
    return {clip_id: np.asarray(found, bool) for clip_id, found in seen.items()}


def embedding_size(lake: Lake, dataset: Dataset, maker: Maker) -> int:
    """Numbers of one face embedding of this maker. Raises UserError where it has seen no face in the whole data set."""
    where = (pc.field("dataset") == dataset.name) & (pc.field("extractor") == maker.extractor) & pc.field("embedding").is_valid()
    where = where & (pc.field("version") == maker.version) & (pc.field("weights_digest") == maker.weights_digest)
    first = lake.dataset("faces").head(1, columns=["embedding"], filter=where).to_pylist()
    if not first:
        raise UserError(
            f"data set {dataset.name}: extractor {maker.extractor!r} sees no face in any clip, and this method needs faces; "
            "use clips that show them, or name another extractor for the table faces in its signal_extractors"
        )
    return len(first[0]["embedding"])


# --- reading one clip ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class LakeSignals:
    """Reads a clip's signals when called with their names. Holds the lake's address, no open table, so that it may be pickled."""

    address: str
    clip: Clip
    makers: Makers
    sharpness_p99: float | None = None
    embedding_size: int = 0  # of the face embeddings of all clips, for one without a face

    def __call__(self, names: Sequence[SignalName]) -> ClipSignals:
        """The signals of these names. Raises UserError where rows are gone since the training rows were written."""
        rows = {name: self._rows(Lake(self.address), name) for name in names}
        drawn = "densepose" in rows and self.makers["densepose"].extractor in DRAWN_CHARTS
        return signals_of_rows(self.clip, rows, sharpness_p99=self.sharpness_p99, embedding_size=self.embedding_size, drawn_charts=drawn)

    def _rows(self, lake: Lake, name: SignalName) -> list[dict[str, Any]]:
        where = rows_of(self.clip.dataset, self.makers[name], [self.clip.clip_id])
        rows = lake.rows(TABLE_OF[name], where, ["frame", *_COLUMNS[name]])
        if not rows or (TABLE_OF[name] not in SPARSE and len(rows) != self.clip.num_frames):
            raise UserError(
                f"clip {self.clip.clip_id}: {len(rows)} rows of {name} for {self.clip.num_frames} frames; materialize training_rows again"
            )
        return rows


def readers(lake: Lake, dataset: Dataset, makers: Makers, sharpness_p99: float | None) -> Callable[[Clip], LakeSignals]:
    """From a clip to what reads its signals."""
    size = embedding_size(lake, dataset, makers["faces"]) if "faces" in makers else 0
    return lambda clip: LakeSignals(address=lake.address, clip=clip, makers=makers, sharpness_p99=sharpness_p99, embedding_size=size)


def signals_of_rows(
    clip: Clip,
    rows: Mapping[SignalName, Sequence[Row]],
    *,
    sharpness_p99: float | None = None,
    embedding_size: int = 0,
    drawn_charts: bool = False,
) -> ClipSignals:
    """Signals from tables' rows in the order of their frames, in pixels of the full frame; sparse ones name their frames."""
    found: dict[str, Any] = {}
    if "hands" in rows:
        found |= {"hands": _hands(rows["hands"], clip), "sharpness_p99": sharpness_p99}
    if "faces" in rows:
        found["faces"] = _faces(rows["faces"], clip, embedding_size)
    if "body_mask" in rows:
        found["body_mask"] = PackedFrames([(row["soft"], row["soft_shape"], row["soft_dtype"]) for row in rows["body_mask"]])
    if "densepose" in rows:
        found |= {"densepose": _packed(rows["densepose"], "iuv"), "drawn_charts": drawn_charts}
    if "clothing" in rows:
        found["clothing"] = np.asarray(rows["clothing"][0]["probabilities"], np.float32)
    if "actions" in rows:
        found |= {"actions": _packed(rows["actions"], "tokens"), "action_starts": tuple(int(row["frame"]) for row in rows["actions"])}
    if "caption" in rows:
        found |= _words(rows["caption"][0])
    return ClipSignals(frames=clip.num_frames, fps=float(clip.fps), **found)


def _packed(rows: Sequence[Row], column: str) -> PackedFrames:
    return PackedFrames([(row[column], row["shape"], row["dtype"]) for row in rows])


def _words(row: Row) -> dict[str, str]:
    start, end = row["character"] or (0, 0)
    return {"caption": row["caption"], "character": row["caption"][start:end]}


def _hands(rows: Sequence[Row], clip: Clip) -> HandSignals:
    valid = np.asarray([row["valid"] for row in rows], bool).reshape(-1, 2)
    corners = np.asarray([row["boxes"] for row in rows], np.float32).reshape(-1, 2, 2, 2)
    return HandSignals(
        boxes=to_crop(corners, clip.crop).reshape(-1, 2, 4) * valid[..., None],
        valid=valid,
        movement=np.asarray([row["movement"] for row in rows], np.float32).reshape(-1, 2, 2),
        sharpness=np.asarray([row["sharpness"] for row in rows], np.float32).reshape(-1, 2, 2)[..., 1],
    )


def _faces(rows: Sequence[Row], clip: Clip, embedding_size: int) -> FaceSignals:
    found = np.asarray([row["subject"] >= 0 for row in rows], bool)
    length = max((len(row["embedding"]) for row in rows if row["embedding"]), default=embedding_size)
    boxes, warps = np.zeros((len(rows), 4), np.float32), np.tile(_IDENTITY, (len(rows), 1, 1))
    embeddings = np.zeros((len(rows), length), np.float32)
    for t in np.flatnonzero(found):
        row = rows[t]
        corners = np.asarray(row["boxes"], np.float32).reshape(-1, 2, 2)[row["subject"]]
        boxes[t], warps[t] = to_crop(corners, clip.crop).ravel(), _warp_of_crop(row["warp"], clip)
        if row["embedding"]:
            embeddings[t] = row["embedding"]
    return FaceSignals(boxes=boxes, warps=warps, found=found, embeddings=embeddings)


def _warp_of_crop(warp: Sequence[float], clip: Clip) -> Floats:
    """A q + b of a point q = p + corner of the full frame is A p + (b + A corner) of the same point of the crop."""
    matrix = np.asarray(warp, np.float64).reshape(2, 3)
    if clip.crop is not None:
        matrix[:, 2] += matrix[:, :2] @ np.asarray(clip.crop[:2], np.float64)
    return matrix.astype(np.float32)
