"""The tables of features: what the extractors say of every frame, and what the metrics' networks say."""

from __future__ import annotations

import pyarrow as pa

from pipelines.table_spec import BYTES, FEATURE_KEY, FLAGS, FLOATS, INT, INTS, LONG, REAL, TEXT, TableSpec, feature, table

FEATURE_TABLES: tuple[TableSpec, ...] = (
    feature("poses", [("keypoints", FLOATS), ("scores", FLOATS)]),  # [133 * 2] x, y in px; [133] in 0..1
    feature(
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
    feature(
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
    feature(
        "hands",
        [
            ("boxes", FLOATS),
            ("valid", FLAGS),  # [2*4] left then right; [2]
            ("sharpness", FLOATS),  # [2*2] s_raw, s_128 per hand
            ("movement", FLOATS),
            ("movement_valid", FLAGS),
        ],
    ),  # [2*2] px per native frame; [2]
    feature(
        "person_boxes",
        [
            ("boxes", FLOATS),
            ("box_scores", FLOATS),  # [n*4] x1 y1 x2 y2 px; [n] in 0..1
            ("tracks", INTS),  # [n] the same person has the same number all through the clip
            ("subject", INT),  # index of the clip's person, or -1
        ],
    ),
    feature("densepose", [("iuv", BYTES), ("shape", INTS), ("dtype", TEXT)]),  # zstd [H, W, 3] I, U, V
    feature(
        "flow", [("flow", BYTES), ("shape", INTS), ("dtype", TEXT)]
    ),  # zstd float16 [2, H, W] px to the next frame; null at the last one
    feature(
        "latents", [("codec", TEXT), ("mean", BYTES), ("std", BYTES), ("shape", INTS), ("dtype", TEXT)]
    ),  # zstd [C, h, w] each, posterior
    feature("clip_embeddings", [("embedding", FLOATS)]),  # [D], not normalised; the extractor's name says which encoder
    # Sparse: rows of some frames only, the first one always among them.
    feature(
        "actions", [("tokens", BYTES), ("shape", INTS), ("dtype", TEXT), ("action_class", TEXT)]
    ),  # zstd float16 [256, 512] of the 16 frames from `frame` on
    feature("clothing", [("names", pa.list_(TEXT)), ("probabilities", FLOATS)]),  # frame 0: mean over the clip's sampled frames
    feature(
        "captions", [("caption", TEXT), ("character", INTS), ("tokens", INTS)]
    ),  # frame 0; [start, end) characters of the person's noun; indices of its tokens
    table(
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
)
