"""From a projected stance to COCO-WholeBody keypoints, their visibility, and the face's box and five points."""

from __future__ import annotations

import numpy as np

from pipelines.performers.piece import Floats
from pipelines.performers.stance import Stance
from pipelines.performers.wardrobe import OWNERS

_LIMBS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
_FEET = ("big_toe", "small_toe", "heel")
OTHER = 255  # owner of the pixels where somebody else stands in front
HIDDEN = 0.5  # score of a joint that the person hides themself: an estimator would guess it, and it is drawn


def whole_body(stance: Stance) -> Floats:
    """[133, 2] canvas px."""
    at = stance.points
    eyes = [stance.face[42:48].mean(0), stance.face[36:42].mean(0)]
    ears = [at["left_ear"][:2], at["right_ear"][:2]]
    body = [at[f"{side}_{joint}"][:2] for joint in _LIMBS for side in ("left", "right")]
    feet = [at[f"{side}_{joint}"][:2] for side in ("left", "right") for joint in _FEET]
    hands = [stance.hands[side][:, :2] for side in ("left", "right")]
    return np.concatenate([[stance.face[30], *eyes, *ears, *body, *feet], stance.face, *hands], dtype=np.float32)


def _owners() -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """[133, 256] which body parts show a keypoint when they are what is seen at its place."""
    table = np.zeros((133, OTHER + 1), bool)

    def allow(rows: slice | int, *names: str) -> None:
        for name in names:
            table[rows, OWNERS[name]] = True

    allow(slice(0, 5), "head")
    allow(slice(3, 5), "head", "hair", "neck", "drape")
    allow(slice(23, 91), "head", "neck", "neckline")
    for i, side in enumerate(("left", "right")):
        allow(5 + i, f"{side}_upper_arm", "trunk", "drape", "neckline")
        allow(7 + i, f"{side}_upper_arm", f"{side}_forearm")
        allow(9 + i, f"{side}_forearm", f"{side}_hand")
        allow(11 + i, f"{side}_thigh", "pelvis", "trunk", "belly", "skirt")
        allow(13 + i, f"{side}_thigh", f"{side}_shin", "skirt")
        allow(15 + i, f"{side}_shin", f"{side}_foot", f"{side}_sole")
        allow(slice(17 + 3 * i, 20 + 3 * i), f"{side}_foot", f"{side}_sole", f"{side}_shin")
        allow(slice(91 + 21 * i, 112 + 21 * i), f"{side}_hand", f"{side}_forearm")
    return table


_SHOWN_BY = _owners()


def visibility(points: Floats, owner: np.ndarray[tuple[int, int], np.dtype[np.uint8]], stance: Stance) -> Floats:
    """[133] 1 seen, HIDDEN behind a part of the person or somebody else, or turned away, 0 outside the frame. owner: [H, W] of the canvas."""
    size = np.array(owner.shape[::-1])
    inside = ((points > -0.5) & (points < size - 0.5)).all(-1)
    x, y = np.clip(np.round(points).astype(int), 0, size - 1).T
    seen_part = owner[y, x]
    # an uncovered place belongs to nobody when a contour point lies a pixel outside: that is not an occlusion
    shown = _SHOWN_BY[np.arange(133), seen_part] | (seen_part == 0)
    shown[23:91] &= stance.face_seen > 0.0
    shown[[0, 2, 1]] &= np.array([stance.face_seen[30], stance.face_seen[36:42].mean(), stance.face_seen[42:48].mean()]) > 0.0
    return np.asarray(np.where(shown, 1.0, HIDDEN) * inside, np.float32)


def face_boxes(face: Floats) -> Floats:
    """[T, 68, 2] to [T, 4]: the landmarks' box, grown up to the hairline."""
    low, high = face.min(1), face.max(1)
    forehead = 0.3 * (high[:, 1] - low[:, 1])
    return np.stack([low[:, 0], low[:, 1] - forehead, high[:, 0], high[:, 1]], -1)


def five_points(face: Floats) -> Floats:
    """[T, 68, 2] to [T, 5, 2]: the ArcFace template's order (the person's right eye first, which is image left)."""
    return np.stack([face[:, 36:42].mean(1), face[:, 42:48].mean(1), face[:, 30], face[:, 48], face[:, 54]], 1)
