"""Every table of the lake: columns, key, and which ones people read as plain files.

A column name says its unit where it has one (`_s` seconds, `_px` pixels); coordinates are source pixels of the upright
full frame, origin top left, x right, y down. Delta Lake has no unsigned, float16, fixed-size list or duration types,
so arrays are flat lists (the comment gives the shape) or zstd-compressed bytes with shape and dtype columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

TEXT, INT, LONG, REAL, BOOL = pa.string(), pa.int32(), pa.int64(), pa.float64(), pa.bool_()
FLOATS, INTS, FLAGS, BYTES = pa.list_(pa.float32()), pa.list_(pa.int32()), pa.list_(pa.bool_()), pa.binary()

Columns = Sequence[tuple[str, pa.DataType]]


@dataclass(frozen=True, kw_only=True, slots=True)
class TableSpec:
    """One table: `key` names the columns that identify a row; `published` ones get a snapshot in tables/."""

    name: str
    key: tuple[str, ...]
    columns: tuple[tuple[str, pa.DataType], ...]
    published: bool = False

    @property
    def schema(self) -> pa.Schema:
        """Arrow schema; key columns may not be null."""
        return pa.schema([pa.field(name, kind, nullable=name not in self.key) for name, kind in self.columns])


STATUS: Columns = [("status", TEXT), ("code", TEXT), ("reason", TEXT)]  # ok | failed | dropped; errors.CODES; why
FEATURE_KEY = ("dataset", "clip_id", "frame", "extractor", "version", "weights_digest")


def _table(name: str, key: Sequence[str], columns: Columns, *, published: bool = False) -> TableSpec:
    return TableSpec(name=name, key=tuple(key), columns=tuple(columns), published=published)


def _feature(name: str, values: Columns) -> TableSpec:
    """One row per frame of a clip, frame counted from 0 in the clip; a failed clip is one row with frame -1 and an error."""
    key: Columns = [("dataset", TEXT), ("clip_id", TEXT), ("frame", INT), ("extractor", TEXT), ("version", INT), ("weights_digest", TEXT)]
    return _table(name, FEATURE_KEY, [*key, *values, ("error", TEXT), ("reason", TEXT)])


_SPECS = [
    _table(
        "videos",
        ["dataset", "video_id"],
        [
            ("dataset", TEXT),
            ("video_id", TEXT),
            ("uri", TEXT),
            ("source_url", TEXT),
            ("sha256", TEXT),
            ("bytes", LONG),
            ("width", INT),
            ("height", INT),
            ("rotation_deg", INT),  # size after rotation
            ("fps_num", LONG),
            ("fps_den", LONG),
            ("variable_frame_rate", BOOL),
            ("time_base_num", LONG),
            ("time_base_den", LONG),
            ("frames", INT),
            ("duration_s", REAL),
            ("codec", TEXT),
            ("container", TEXT),
            ("split", TEXT),
            ("subject", TEXT),
            ("licence", TEXT),
            ("terms_url", TEXT),
            ("terms_accepted", BOOL),
            ("retrieved_at", TEXT),  # ISO 8601, UTC; null for the user's own files
            ("http_status", INT),
            ("availability", TEXT),  # of a file from the web: ok | private | removed | region | age | other
            ("range_start_s", REAL),  # the part of the file that the data set names; null = all
            ("range_end_s", REAL),
            ("crop", INTS),  # x, y, w, h px of the part of the frame that the data set names; null = all
            ("annotations", TEXT),  # uri of the folder or file with annotations that came with the video
            *STATUS,
        ],
        published=True,
    ),
    _table(
        "clips",
        ["dataset", "clip_id"],
        [
            ("dataset", TEXT),
            ("clip_id", TEXT),
            ("video_id", TEXT),
            ("video_sha256", TEXT),
            ("uri", TEXT),
            ("split", TEXT),
            ("subject", TEXT),
            ("start_frame", INT),
            ("end_frame", INT),
            ("start_s", REAL),
            ("end_s", REAL),
            ("start_pts", LONG),
            ("end_pts", LONG),
            ("time_base_num", LONG),
            ("time_base_den", LONG),
            ("fps_num", LONG),
            ("fps_den", LONG),
            ("width", INT),
            ("height", INT),
            ("crop", INTS),  # x, y, w, h of the part to use; null = all
            ("split_rule", TEXT),  # digest of the thresholds and the code that cut it
            *STATUS,
        ],
        published=True,
    ),
    _feature("poses", [("keypoints", FLOATS), ("scores", FLOATS)]),  # [133 * 2] x, y in px; [133] in 0..1
    _feature(
        "body_masks",
        [
            ("rle", BYTES),
            ("height", INT),
            ("width", INT),
            ("area_px", LONG),  # COCO run lengths of mask >= 0.5
            ("soft", BYTES),
            ("soft_shape", INTS),
            ("soft_dtype", TEXT),
        ],
    ),  # zstd; covers the full frame
    _feature(
        "faces",
        [
            ("boxes", FLOATS),
            ("box_scores", FLOATS),
            ("points", FLOATS),  # [n*4] x1 y1 x2 y2; [n]; [n*5*2]
            ("subject", INT),
            ("warp", FLOATS),
            ("embedding", FLOATS),
            ("embedding_norm", REAL),  # index or -1; [2*3]; [D]
            ("embedding_reason", TEXT),
        ],
    ),  # why the embedding is null
    _feature(
        "hands",
        [
            ("boxes", FLOATS),
            ("valid", FLAGS),  # [2*4] left then right; [2]
            ("sharpness", FLOATS),  # [2*2] s_raw, s_128 per hand
            ("movement", FLOATS),
            ("movement_valid", FLAGS),
        ],
    ),  # [2*2] px per native frame; [2]
    _feature(
        "person_boxes",
        [
            ("boxes", FLOATS),
            ("box_scores", FLOATS),  # [n*4] x1 y1 x2 y2 px; [n] in 0..1
            ("tracks", INTS),  # [n] the same person has the same number all through the clip
            ("subject", INT),  # index of the clip's person, or -1
        ],
    ),
    _feature("densepose", [("iuv", BYTES), ("shape", INTS), ("dtype", TEXT)]),  # zstd [H, W, 3] I, U, V
    _feature(
        "flow", [("flow", BYTES), ("shape", INTS), ("dtype", TEXT)]
    ),  # zstd float16 [2, H, W] px to the next frame; null at the last one
    _feature(
        "latents", [("codec", TEXT), ("mean", BYTES), ("std", BYTES), ("shape", INTS), ("dtype", TEXT)]
    ),  # zstd [C, h, w] each, posterior
    _feature("clip_embeddings", [("embedding", FLOATS)]),  # [D], not normalised; the extractor's name says which encoder
    # Sparse: rows of some frames only, the first one always among them.
    _feature(
        "actions", [("tokens", BYTES), ("shape", INTS), ("dtype", TEXT), ("action_class", TEXT)]
    ),  # zstd float16 [256, 512] of the 16 frames from `frame` on
    _feature("clothing", [("names", pa.list_(TEXT)), ("probabilities", FLOATS)]),  # frame 0: mean over the clip's sampled frames
    _feature(
        "captions", [("caption", TEXT), ("character", INTS), ("tokens", INTS)]
    ),  # frame 0; [start, end) characters of the person's noun; indices of its tokens
    _table(
        "metric_features",
        ["protocol", "source", *FEATURE_KEY],
        [
            ("protocol", TEXT),
            ("source", TEXT),  # "truth" or a prediction_id
            ("dataset", TEXT),
            ("clip_id", TEXT),
            ("frame", INT),
            ("extractor", TEXT),
            ("version", INT),
            ("weights_digest", TEXT),
            ("source_sha256", TEXT),
            ("feature", FLOATS),
        ],
    ),  # frame = first frame of a window; [D]
    _table(
        "screening",
        ["dataset", "clip_id", "version"],
        [
            ("dataset", TEXT),
            ("clip_id", TEXT),
            ("version", TEXT),  # digest of the code and of the extractors whose rows were read
            ("frames", INT),  # of the clip
            ("short_side_px", INT),  # of its frames
            ("persons_from", TEXT),  # person_boxes | poses (those see one person at most)
            ("person_counts", INTS),  # [9] frames with 0, 1, .. 7, and 8 or more people
            ("persons", REAL),  # mean number of people per frame
            ("one_person_share", REAL),  # share of frames with exactly one
            ("overlap_share", REAL),  # share of frames in which another person covers a tenth of the subject's box or more
            ("body_coverage", REAL),  # mean share of the 17 body joints inside the frame and confident, over frames with the person
            ("person_area", REAL),  # mean share of the frame that the person's box covers, over frames with the person
            ("face_area", REAL),  # mean share of the frame, over frames with the face; 0 without any
            ("face_share", REAL),  # share of frames with the subject's face
            ("face_sharpness", REAL),  # variance of the Laplacian of the face crop at 128x128, median over sampled frames
            ("keypoint_confidence", REAL),  # mean body score, over frames with the person
            ("pose_jump", REAL),  # largest median body joint step between consecutive frames, in person heights
            ("occlusion", REAL),  # mean share of the body joints that are hidden inside the box of the visible ones
            ("static_background", REAL),  # median |luma difference| outside the dilated person, mean over sampled pairs, grey levels
            ("motion", REAL),  # mean joint speed, person heights per second
            ("exposure", REAL),  # mean luma inside the bars, 0..255
            ("clipped_share", REAL),  # share of pixels with luma 0 or 255 inside the bars
            ("black_bars", REAL),  # share of the frame's height or width
            ("reference_frames", INTS),  # sampled frames that may serve as the reference
            ("hashes", pa.list_(LONG)),  # perceptual hashes of the key frames, 64 bits as signed integers
            ("duplicate_clip_id", TEXT),  # the clip that looks most alike
            ("duplicate_distance", REAL),  # its distance in bits of 64; null = no clip within 8
            ("embedding_size", INT),  # of the face recogniser; tells which threshold of similarity holds
            ("leak_clip_id", TEXT),  # clip of another split with the most similar face
            ("leak_similarity", REAL),  # cosine, -1..1
            ("error", TEXT),
            ("reason", TEXT),
        ],
        published=True,
    ),
    _table(
        "screening_faces",
        ["dataset", "clip_id", "version"],
        [
            ("dataset", TEXT),
            ("clip_id", TEXT),
            ("version", TEXT),
            ("embedding", FLOATS),  # [D] unit length: mean of the clip's unit face embeddings; null without a face
        ],
    ),  # identifies people, so it is not published
    _table(
        "screening_verdicts",
        ["dataset", "rule", "clip_id"],
        [
            ("dataset", TEXT),
            ("rule", TEXT),  # name and digest of the screening rule
            ("clip_id", TEXT),
            ("version", TEXT),  # of the scores that were judged
            ("kept", BOOL),
            ("conditions", pa.list_(TEXT)),  # names of the conditions that it did not meet
            ("near_duplicate_group", TEXT),  # smallest clip id of the group; null = alone
            ("reason", TEXT),
        ],
        published=True,
    ),
    _table(
        "removals",
        ["kind", "value"],
        [
            ("kind", TEXT),  # sha256 | url | video_id | person
            ("value", TEXT),
            ("dataset", TEXT),
            ("removed_at", TEXT),  # ISO 8601, UTC
            ("reason", TEXT),
        ],
        published=True,
    ),
    _table(
        "training_rows",
        ["dataset", "method", "clip_id"],
        [
            ("dataset", TEXT),
            ("method", TEXT),
            ("clip_id", TEXT),
            ("video_id", TEXT),
            ("subject", TEXT),
            ("split", TEXT),
            ("uri", TEXT),
            ("frames", INT),
            ("references", INTS),
            ("extractor", TEXT),
            ("extractor_version", INT),
            ("weights_digest", TEXT),
            ("clips_version", LONG),
            ("poses_version", LONG),
        ],
    ),
    _table(
        "checkpoints",
        ["checkpoint_id"],
        [
            ("checkpoint_id", TEXT),
            ("method", TEXT),
            ("variant", TEXT),
            ("stage", TEXT),
            ("seed", INT),
            ("dataset", TEXT),
            ("parent", TEXT),
            ("config", TEXT),
            ("uri", TEXT),
            ("digest", TEXT),
            ("steps", INT),
            ("seconds", REAL),
            ("parameters", LONG),
            ("training_rows_digest", TEXT),
            ("training_rows_version", LONG),
            ("code_version", TEXT),
            ("metrics", TEXT),
            ("trained_on_removed", BOOL),  # a video behind it was removed since (`rotoscope forget`)
        ],
        published=True,
    ),
    _table(
        "training_log",
        ["checkpoint_id", "step"],
        [
            ("checkpoint_id", TEXT),
            ("step", INT),
            ("loss", REAL),
            ("probe_loss", REAL),
            ("learning_rate", REAL),
            ("gradient_norm", REAL),
            ("seconds", REAL),
        ],
        published=True,
    ),
    _table(
        "predictions",
        ["prediction_id", "clip_id"],
        [
            ("prediction_id", TEXT),
            ("clip_id", TEXT),
            ("dataset", TEXT),
            ("split", TEXT),
            ("method", TEXT),
            ("variant", TEXT),
            ("seed", INT),
            ("checkpoint_id", TEXT),
            ("sampler", TEXT),
            ("uri", TEXT),
            ("sha256", TEXT),
            ("frames", INT),
            ("width", INT),
            ("height", INT),
            ("reference_frame", INT),
            ("lossy", BOOL),  # the file does not hold the method's own pixels
            ("truth_sharpness", BOOL),  # the method was given the true clip's sharpness or motion blur
            *STATUS,
        ],
        published=True,
    ),
    _table(
        "scores",
        ["protocol", "split", "prediction_id", "clip_id", "metric"],
        [
            ("protocol", TEXT),
            ("split", TEXT),
            ("prediction_id", TEXT),
            ("clip_id", TEXT),
            ("metric", TEXT),
            ("dataset", TEXT),
            ("sum", REAL),
            ("count", LONG),
            ("per_frame", pa.list_(REAL)),
            ("prediction_sha256", TEXT),
            ("truth_sha256", TEXT),
            ("weights_digest", TEXT),
            ("reference_frame", INT),  # of the prediction: which frame was shown to the method, and so may not count
            ("lossy", BOOL),
            ("truth_sharpness", BOOL),
            *STATUS,
        ],
        published=True,
    ),
    _table(
        "benchmark",
        ["protocol", "split", "prediction_id", "metric"],
        [
            ("protocol", TEXT),
            ("dataset", TEXT),
            ("split", TEXT),
            ("prediction_id", TEXT),
            ("method", TEXT),
            ("variant", TEXT),
            ("seed", INT),
            ("metric", TEXT),
            ("value", REAL),
            ("low", REAL),
            ("high", REAL),
            ("better", TEXT),
            ("clips", LONG),
            ("frames", LONG),
            ("windows", LONG),
            ("note", TEXT),
        ],
        published=True,
    ),
    _table(
        "history",
        ["protocol", "split", "prediction_id", "metric", "time"],
        [
            ("protocol", TEXT),
            ("split", TEXT),
            ("prediction_id", TEXT),
            ("metric", TEXT),
            ("time", TEXT),
            ("value", REAL),
            ("run_id", TEXT),
            ("what_changed", TEXT),
        ],
        published=True,
    ),
    _table(
        "published",
        ["paper", "table", "dataset", "method", "variant", "metric"],
        [
            ("paper", TEXT),
            ("table", TEXT),
            ("dataset", TEXT),
            ("dataset_id", TEXT),
            ("method", TEXT),
            ("method_id", TEXT),
            ("variant", TEXT),
            ("metric", TEXT),
            ("metric_id", TEXT),
            ("value", REAL),
            ("scale", REAL),
            ("corrected_value", REAL),
            ("better", TEXT),
            ("note", TEXT),
        ],
        published=True,
    ),
]


def one_of(column: str, values: Iterable[str]) -> pc.Expression:
    """Rows whose text column holds one of the values; of no values, no row (a plain empty list has no type, and Arrow refuses it)."""
    return pc.field(column).isin(pa.array(list(values), TEXT))


TABLES: dict[str, TableSpec] = {spec.name: spec for spec in _SPECS}
FEATURES: tuple[str, ...] = (
    "person_boxes",
    "poses",
    "body_masks",
    "faces",
    "hands",
    "densepose",
    "flow",
    "latents",
    "clip_embeddings",
    "actions",
    "clothing",
    "captions",
)
SPARSE: frozenset[str] = frozenset({"actions", "clothing", "captions"})  # their rows name their frames; all others have one per frame
