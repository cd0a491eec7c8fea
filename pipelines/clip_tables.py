"""The tables of sources and clips: what there is, how it was screened, and what was removed."""

from __future__ import annotations

import pyarrow as pa

from pipelines.table_spec import BOOL, FLOATS, INT, INTS, LONG, REAL, STATUS, TEXT, TableSpec, table

CLIP_TABLES: tuple[TableSpec, ...] = (
    table(
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
    table(
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
    table(
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
    table(
        "screening_faces",
        ["dataset", "clip_id", "version"],
        [
            ("dataset", TEXT),
            ("clip_id", TEXT),
            ("version", TEXT),
            ("embedding", FLOATS),  # [D] unit length: mean of the clip's unit face embeddings; null without a face
        ],
    ),  # identifies people, so it is not published
    table(
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
    table(
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
)
