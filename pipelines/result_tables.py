"""The tables of training and scoring: rows that train, checkpoints, generated clips, scores, and what the papers printed."""

from __future__ import annotations

import pyarrow as pa

from pipelines.table_spec import BOOL, INT, INTS, LONG, REAL, STATUS, TEXT, TableSpec, table

RESULT_TABLES: tuple[TableSpec, ...] = (
    table(
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
            ("signals", TEXT),  # JSON: signal -> extractor, version, weights_digest, of all that the method needs beside poses
            ("signals_version", TEXT),  # JSON: table -> version that was read
            ("hand_sharpness_p99", REAL),  # 99th percentile of s_128 over the training hands; null where hands are not needed
        ],
    ),
    table(
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
            ("recipe", TEXT),  # settings of this stage and of those before it: variants with one recipe share the checkpoint
            ("config", TEXT),  # settings of this stage
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
    table(
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
            ("by_noise", TEXT),  # JSON: bin of the noise level -> [sum of losses, samples] since they were last noted
            ("metrics", TEXT),  # JSON: what the stage measured on its fixed samples
        ],
        published=True,
    ),
    table(
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
            ("driving_clip_id", TEXT),  # whose motion is followed; null = the clip's own
            ("lossy", BOOL),  # the file does not hold the method's own pixels
            ("truth_sharpness", BOOL),  # the method was given the true clip's sharpness or motion blur
            *STATUS,
        ],
        published=True,
    ),
    table(
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
            ("region_from", TEXT),  # the extractor that said where the metric's region is; null for the whole frame
            *STATUS,
        ],
        published=True,
    ),
    table(
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
    table(
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
    table(
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
)
