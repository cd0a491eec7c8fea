"""Scores of a clip from its rows of poses, faces and person boxes: geometry only, no pixels.

All coordinates are those of the clip's frames (shifted by the crop, if there is one). A frame holds the person when at
least five of the 17 body joints are visible (score over 0.3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.keypoints import BODY, VISIBLE

# T = frames, J = 17 body joints
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Boxes = Sequence[npt.NDArray[np.float64]]
"""Per frame [n, 4] x1 y1 x2 y2 px."""
Score = float | None

FEWEST_JOINTS = 5
_MOST_COUNTED = 8  # people per frame; more count as 8
_OVERLAP = 0.1  # share of the subject's box


def visible(points: Floats, scores: Floats, width: int, height: int) -> Flags:
    """[T, J] joints that are confident and inside the frame; points [T, J, 2], scores [T, J]."""
    inside = ((points >= 0) & (points <= (width, height))).all(axis=-1)
    return np.asarray(inside & (scores > VISIBLE))


def pose_scores(points: Floats, scores: Floats, width: int, height: int, fps: float) -> dict[str, Score]:
    """Coverage, area, confidence, jump, occlusion and motion of [T, 133, 2] points and [T, 133] scores.

    Where no frame holds the person, all shares are 0, and pose_jump, occlusion and motion are None.
    """
    seen = visible(points, scores, width, height)
    held = seen[:, BODY].sum(axis=1) >= FEWEST_JOINTS
    if not held.any():
        nothing = {"body_coverage": 0.0, "person_area": 0.0, "keypoint_confidence": 0.0}
        return {**nothing, "pose_jump": None, "occlusion": None, "motion": None}
    boxes = np.stack([_box(points[t], seen[t]) for t in np.flatnonzero(held)])
    sizes = boxes[:, 2:] - boxes[:, :2]
    steps = _steps(points[:, BODY], seen[:, BODY] & held[:, None]) / max(float(np.median(sizes.max(axis=1))), 1.0)
    return {
        "body_coverage": float(seen[held][:, BODY].mean()),
        "person_area": float(sizes.prod(axis=1).mean() / (width * height)),
        "keypoint_confidence": float(scores[held][:, BODY].mean()),
        "pose_jump": pose_jump(steps),
        "occlusion": _occlusion(points[held][:, BODY], scores[held][:, BODY], _body_boxes(points, seen, held)),
        "motion": float(np.nanmean(steps) * fps) if np.isfinite(steps).any() else None,
    }


def _box(points: Floats, seen: Flags) -> Floats:
    """x1 y1 x2 y2 of the visible points."""
    held = points[seen]
    return np.concatenate([held.min(axis=0), held.max(axis=0)])


def _body_boxes(points: Floats, seen: Flags, held: Flags) -> Floats:
    return np.stack([_box(points[t, BODY], seen[t, BODY]) for t in np.flatnonzero(held)])


def _steps(points: Floats, seen: Flags) -> Floats:
    """[T - 1, J] px from frame to frame; NaN where the joint is not visible in both."""
    moved = np.linalg.norm(np.diff(points, axis=0), axis=-1)
    return np.where(seen[1:] & seen[:-1], moved, np.nan)


def pose_jump(steps: Floats) -> Score:
    """The largest median over joints of one step, [T - 1, J] in person heights; None without two frames to compare.

    The median lets up to half of the joints flicker; steps with fewer than five joints do not count.
    """
    enough = np.isfinite(steps).sum(axis=1) >= FEWEST_JOINTS
    return float(np.nanmedian(steps[enough], axis=1).max()) if enough.any() else None


def _occlusion(points: Floats, scores: Floats, boxes: Floats) -> float:
    """Mean share of the 17 joints that are not confident but lie inside the box of the visible ones.

    Joints below or beside that box are cut off by the frame, not hidden.
    """
    inside = ((points >= boxes[:, None, :2]) & (points <= boxes[:, None, 2:])).all(axis=-1)
    return float((inside & (scores <= VISIBLE)).mean())


# --- people ----------------------------------------------------------------------------------------------------------


def person_scores(boxes: Boxes, subjects: Sequence[int], width: int, height: int) -> dict[str, Any]:
    """How many people, whether they cover the subject, and the subject's area, from person boxes of every frame."""
    found = count_scores([len(frame) for frame in boxes])
    areas, covered = [], []
    for frame, subject in zip(boxes, subjects, strict=True):
        if 0 <= subject < len(frame):
            areas.append(float(np.prod(frame[subject, 2:] - frame[subject, :2]) / (width * height)))
            covered.append(bool(_shares_covered(frame, subject).max(initial=0.0) >= _OVERLAP))
    return {**found, "person_area": float(np.mean(areas)) if areas else 0.0, "overlap_share": sum(covered) / max(len(boxes), 1)}


def count_scores(counts: Sequence[int]) -> dict[str, Any]:
    """Histogram, mean and share of one, of the people in every frame."""
    histogram = np.bincount(np.minimum(counts, _MOST_COUNTED), minlength=_MOST_COUNTED + 1)
    return {
        "person_counts": histogram.tolist(),
        "persons": float(np.mean(counts)),
        "one_person_share": float(histogram[1] / len(counts)),
    }


def _shares_covered(boxes: Floats, subject: int) -> Floats:
    """Share of the subject's box that each other box covers."""
    mine, others = boxes[subject], np.delete(boxes, subject, axis=0)
    size = np.minimum(mine[2:], others[:, 2:]) - np.maximum(mine[:2], others[:, :2])
    area = max(float(np.prod(mine[2:] - mine[:2])), 1e-9)
    return np.asarray(np.clip(size, 0, None).prod(axis=1) / area)


# --- faces -----------------------------------------------------------------------------------------------------------


def face_boxes(rows: Sequence[Mapping[str, Any]], offset: tuple[int, int]) -> list[Floats | None]:
    """The subject's face box [4] of every frame in px of the clip's frames; None where it is absent or scores 0 (profile)."""
    found: list[Floats | None] = []
    for row in rows:
        subject, boxes = row["subject"], np.reshape(row["boxes"] or [], (-1, 4)).astype(np.float64)
        seen = subject is not None and 0 <= subject < len(boxes) and row["box_scores"][subject] > 0
        found.append(boxes[subject] - np.tile(offset, 2) if seen else None)
    return found


def face_scores(boxes: Sequence[Floats | None], width: int, height: int) -> dict[str, Score]:
    """Share of frames with the face, and its mean share of the frame there (0 without any)."""
    limit = np.array([width, height, width, height])
    inside = [np.clip(box, 0, limit) for box in boxes if box is not None]
    areas = [float(np.prod(box[2:] - box[:2]) / (width * height)) for box in inside]
    return {"face_share": len(areas) / max(len(boxes), 1), "face_area": float(np.mean(areas)) if areas else 0.0}
