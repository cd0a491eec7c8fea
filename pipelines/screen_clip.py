"""All scores of one clip, from its rows and a few of its frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipelines.clip import Clip
from pipelines.errors import ClipError
from pipelines.keypoints import BODY
from pipelines.masks import decode_rle
from pipelines.screen_frames import Box, Mask, face_sharpnesses, frame_scores, reference_frames, sampled
from pipelines.screen_leaks import mean_face
from pipelines.screen_pose import FEWEST_JOINTS, count_scores, face_boxes, face_scores, person_scores, pose_scores, visible
from pipelines.screen_sources import ClipRows, Row
from pipelines.video import decode_frames

Floats = npt.NDArray[np.float64]
_SCORED_WITHOUT_ROWS = "no_person"  # of a clip whose rows failed for this reason the frames are still worth a look
_EMPTY_POSE = ("body_coverage", "person_area", "keypoint_confidence", "persons", "one_person_share")


def score_clip(clip: Clip, rows: ClipRows) -> Row:
    """A row of `screening` without dataset and version, and "embedding" for `screening_faces`; a failure is a row with error.

    Never raises for the clip's own faults.
    """
    plain = {"clip_id": clip.clip_id, "frames": clip.num_frames, "short_side_px": min(clip.width, clip.height), "embedding": None}
    if rows.failure is not None and rows.failure[0] != _SCORED_WITHOUT_ROWS:
        return {**plain, "error": rows.failure[0], "reason": rows.failure[1]}
    try:
        return {**plain, **_scores(clip, rows)}
    except ClipError as error:
        return {**plain, "error": error.code, "reason": error.reason}
    except Exception as error:  # one bad clip is a row, not a crash
        return {**plain, "error": "extractor_failed", "reason": f"scoring it raised {type(error).__name__}: {error}"[:500]}


def _scores(clip: Clip, rows: ClipRows) -> Row:
    tables = rows.tables
    corner = (0, 0) if clip.crop is None else (clip.crop[0], clip.crop[1])
    found: Row = {}
    per_frame: dict[int, tuple[float, float]] = {}
    if tables.get("poses") is not None:
        points, scores = _poses(tables["poses"] or [], corner)
        found |= _pose_part(clip, points, scores)
        per_frame = _reference_part(clip, points, scores)
    elif rows.failure is not None:
        found |= {**_nobody(clip), "persons_from": "poses"}
    if tables.get("person_boxes") is not None:
        found |= _person_part(clip, tables["person_boxes"] or [], corner)
    faces = None
    if "faces" in tables:
        faces = face_boxes(tables["faces"] or [], corner) or [None] * clip.num_frames
        found |= face_scores(faces, clip.width, clip.height)
        found |= _embedding_part(tables["faces"] or [])
    return found | _frame_part(clip, tables.get("body_masks"), faces, per_frame)


def _poses(rows: Sequence[Row], corner: tuple[int, int]) -> tuple[Floats, Floats]:
    """[T, 133, 2] px of the clip's frames, [T, 133]."""
    points = np.array([row["keypoints"] for row in rows], np.float64).reshape(len(rows), -1, 2) - corner
    return points, np.array([row["scores"] for row in rows], np.float64)


def _pose_part(clip: Clip, points: Floats, scores: Floats) -> Row:
    held = visible(points, scores, clip.width, clip.height)[:, BODY].sum(axis=1) >= FEWEST_JOINTS
    counts = {**count_scores(held.astype(int).tolist()), "persons_from": "poses"}
    return {**counts, **pose_scores(points, scores, clip.width, clip.height, float(clip.fps))}


def _nobody(clip: Clip) -> Row:
    return {**dict.fromkeys(_EMPTY_POSE, 0.0), **count_scores([0] * clip.num_frames)}


def _person_part(clip: Clip, rows: Sequence[Row], corner: tuple[int, int]) -> Row:
    boxes = [np.reshape(row["boxes"] or [], (-1, 4)).astype(np.float64) - np.tile(corner, 2) for row in rows]
    subjects = [-1 if row["subject"] is None else row["subject"] for row in rows]
    return {**person_scores(boxes, subjects, clip.width, clip.height), "persons_from": "person_boxes"}


def _reference_part(clip: Clip, points: Floats, scores: Floats) -> dict[int, tuple[float, float]]:
    """Frame -> (mean body score, share of the frame inside the box of the visible points)."""
    seen = visible(points, scores, clip.width, clip.height)
    areas = np.zeros(len(points))
    for t in np.flatnonzero(seen.any(axis=1)):
        areas[t] = np.ptp(points[t, seen[t]], axis=0).prod() / (clip.width * clip.height)
    means = scores[:, BODY].mean(axis=1)
    return {t: (float(means[t]), float(areas[t])) for t in range(len(points))}


def _embedding_part(rows: Sequence[Row]) -> Row:
    mean = mean_face([row["embedding"] for row in rows])
    return {"embedding": mean, "embedding_size": None if mean is None else len(mean)}


def _frame_part(
    clip: Clip, mask_rows: Sequence[Row] | None, faces: Sequence[Box | None] | None, held: dict[int, tuple[float, float]]
) -> Row:
    chosen = sampled(clip)
    frames = decode_frames(clip, chosen)
    masks = None if mask_rows is None else [_mask(mask_rows[i], clip) for i in chosen]
    boxes = None if faces is None else [faces[i] for i in chosen]
    found = frame_scores(frames, masks, boxes)
    if boxes is not None and held:
        found["reference_frames"] = reference_frames(face_sharpnesses(frames, boxes), chosen, held)
    return found


def _mask(row: Row, clip: Clip) -> Mask:
    mask = decode_rle(row["rle"], row["height"], row["width"])
    if clip.crop is None:
        return mask
    x, y, width, height = clip.crop
    return mask[y : y + height, x : x + width]
