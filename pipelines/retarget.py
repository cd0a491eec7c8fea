"""Retargeting: the driving skeleton brought to the reference person's size and place. Geometry only, no network.

`limb` gives every limb the reference's length and keeps the angles; `linear` fits one scale and offset to all frames.
Points are [..., 133, 2] (keypoints.py); in and out they are in pixels. A point that is not visible is never measured:
it moves along, and whatever its coordinates are (also NaN), no visible point depends on them.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from pipelines.keypoints import BODY, FACE, LEFT_HAND, RIGHT_HAND, VISIBLE, Points, Scores

# T = frames; point 133 is the neck, the middle of the shoulders
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Retarget = Literal["limb", "linear", "none"]
RETARGETS: tuple[str, ...] = get_args(Retarget)

_NECK = 133
_TORSO = ((_NECK, 5), (_NECK, 6), (_NECK, 11), (_NECK, 12))
_LIMBS = (
    (_NECK, 0), (0, 1), (1, 3), (0, 2), (2, 4), (5, 7), (7, 9), (6, 8), (8, 10), (11, 13), (13, 15), (12, 14), (14, 16),
)  # fmt: skip
_BONES = (*_TORSO, *_LIMBS)  # (parent, child); a parent comes before its children
_TWIN = {5: 6, 7: 8, 9: 10, 1: 2, 3: 4, 13: 14, 15: 16}  # child of a bone -> child of its mirror
_TWIN.update({right: left for left, right in list(_TWIN.items())})
_FOLLOWERS = {0: FACE, 9: LEFT_HAND, 10: RIGHT_HAND, 15: slice(17, 20), 16: slice(20, 23)}
_FITTED = (0, _NECK, 6, 5, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3)  # OpenPose's 0, 1, 2, 5, 8-17: all but elbows and wrists
_SLOPES = (0.3, 3.0)  # what a least-squares scale may be, in shares of the picture's height
_NOTHING_SHARED = "no body joint is visible both in the reference and in the driving clip; take a reference that shows more of the person"


def retarget(
    kind: Retarget,
    driving: Points,
    driving_scores: Scores,
    reference: Points,
    reference_scores: Scores,
    *,
    heights: tuple[float, float] = (1.0, 1.0),
) -> Points:
    """The driving points as the reference person would stand: `retarget_limb`, `retarget_linear`, or as they are ("none")."""
    if kind == "limb":
        return retarget_limb(driving, driving_scores, reference, reference_scores)
    if kind == "linear":
        return retarget_linear(driving, driving_scores, reference, reference_scores, heights=heights)
    return driving


# --- limb ------------------------------------------------------------------------------------------------------------


def retarget_limb(driving: Points, driving_scores: Scores, reference: Points, reference_scores: Scores) -> Points:
    """Give the driving skeleton the reference's limb lengths ("limb", after AnimateAnyone Sec. 4.1 and UniAnimate).

    driving [T, 133, 2] and driving_scores [T, 133] in pixels of the driving video; reference [133, 2] and
    reference_scores [133] in pixels of the reference image; returns [T, 133, 2] in pixels of the reference image.
    One frame k0, the most complete, fixes all lengths; the neck of k0 lands on the reference's neck. Root motion is
    scaled by the torso's ratio. Hands follow the wrists, the face the nose, feet the ankles, unchanged but for that scale.
    Raises ValueError when no body joint is visible both in the reference and in k0.
    """
    # UniAnimate takes frame 0 and fails where it is incomplete.
    k0 = _most_complete(driving_scores)
    points, target = _with_neck(driving), _with_neck(reference)
    visible = _with_neck_seen(driving_scores)
    seen = visible[k0] & _with_neck_seen(reference_scores)
    sx, sy = _body_scale(points[k0], target, seen)
    # UniAnimate scales every point by (sx, sy), which turns limbs and lets them grow and shrink as they swing. Here only
    # the torso takes both; limbs, face, hands and feet take sy, so that angles are kept and lengths are right in every frame.
    scales = {child: np.array([sx, sy] if (parent, child) in _TORSO else [sy, sy]) for parent, child in _BONES}
    ratios = _bone_ratios(points[k0], target, seen, scales)
    moved = points * sy + _bone_offsets(points, visible, {child: ratios[child] * scales[child] - sy for child in scales})
    return np.asarray((moved + _anchor(moved[k0], target, seen))[:, :_NECK], np.float32)


def _most_complete(scores: Scores) -> int:
    """Frame with the most visible body joints; among those, the best scored."""
    body = np.nan_to_num(scores[:, BODY])
    return int(np.argmax((body > VISIBLE).sum(axis=1) + body.mean(axis=1)))


def _with_neck(points: Points) -> Floats:
    plain = points.astype(np.float64)
    neck = (plain[..., 5:6, :] + plain[..., 6:7, :]) / 2
    return np.concatenate([plain, neck], axis=-2, dtype=np.float64)


def _with_neck_seen(scores: Scores) -> Flags:
    visible = scores > VISIBLE
    return np.concatenate([visible, visible[..., 5:6] & visible[..., 6:7]], axis=-1)


def _length(points: Floats, a: int, b: int) -> float:
    return float(np.hypot(*(points[b] - points[a])))


def _ratio(target: float, driving: float) -> float | None:
    return target / driving if driving > 0 and target > 0 else None


def _body_scale(driving: Floats, target: Floats, seen: Flags) -> tuple[float, float]:
    """(sx, sy): ratios of shoulder widths and torso heights; one stands in for the other, the middle bone for both."""
    shoulders = _ratio(_length(target, 5, 6), _length(driving, 5, 6)) if seen[[5, 6]].all() else None
    torso = None
    if seen[[5, 6, 11, 12]].all():
        heights = [float(np.hypot(*(pose[[11, 12]].mean(axis=0) - pose[_NECK]))) for pose in (target, driving)]
        torso = _ratio(*heights)
    sy = torso or shoulders or _middle_ratio(driving, target, seen)
    # A person seen from the side has almost no shoulder width.
    sx = float(np.clip(shoulders or sy, 0.5 * sy, 2 * sy))
    return sx, sy


def _middle_ratio(driving: Floats, target: Floats, seen: Flags) -> float:
    """Median of the limbs' length ratios; 1 where no limb is seen in both."""
    pairs = [(a, b) for a, b in _LIMBS if seen[a] and seen[b]]
    found = [_ratio(_length(target, a, b), _length(driving, a, b)) for a, b in pairs]
    known = [ratio for ratio in found if ratio is not None]
    return float(np.median(known)) if known else 1.0


def _bone_ratios(driving: Floats, target: Floats, seen: Flags, scales: dict[int, Floats]) -> dict[int, float]:
    """Reference over scaled driving length of every bone, by its child; a missing bone takes its mirror's ratio, else 1."""
    measured = {}
    for parent, child in _BONES:
        if seen[parent] and seen[child] and child not in (11, 12):  # the torso's height is sy's, the hips' width sx's
            length = float(np.hypot(*((driving[child] - driving[parent]) * scales[child])))
            measured[child] = _ratio(_length(target, parent, child), length)
    ratios = {}
    for _, child in _BONES:
        ratio = measured.get(child) or measured.get(_TWIN.get(child, child)) or 1.0
        ratios[child] = float(np.clip(ratio, 0.5, 2))
    return ratios


def _bone_offsets(points: Floats, visible: Flags, gains: dict[int, Floats]) -> Floats:
    """How far each point moves, [T, 134, 2]: gain * (child - parent), handed on to all descendants."""
    offsets = np.zeros_like(points)
    for parent, child in _BONES:
        bone = _filled(points[:, child] - points[:, parent], visible[:, child] & visible[:, parent])
        offsets[:, child] = offsets[:, parent] + gains[child] * bone
        if child in _FOLLOWERS:
            offsets[:, _FOLLOWERS[child]] = offsets[:, child, None]
    return offsets


def _filled(vectors: Floats, seen: Flags) -> Floats:
    """[T, 2] with what is not seen taken from the frames around it (linear in time); zeros where it is never seen.

    A wrist whose elbow is hidden must still move with it, and by as much as in the frames before and after.
    """
    if seen.all():
        return vectors
    if not seen.any():
        return np.zeros_like(vectors)
    times, known = np.arange(len(vectors)), np.flatnonzero(seen)
    return np.stack([np.interp(times, known, vectors[known, axis]) for axis in (0, 1)], axis=-1)


def _anchor(placed: Floats, target: Floats, seen: Flags) -> Floats:
    """The one translation of the whole sequence: neck onto neck, or the mean of the joints that both show."""
    if seen[_NECK]:
        return np.asarray(target[_NECK] - placed[_NECK])
    joints = np.flatnonzero(seen[BODY])
    if joints.size == 0:
        raise ValueError(_NOTHING_SHARED)
    return np.asarray((target[joints] - placed[joints]).mean(axis=0))


# --- linear ----------------------------------------------------------------------------------------------------------


def retarget_linear(
    driving: Points,
    driving_scores: Scores,
    reference: Points,
    reference_scores: Scores,
    *,
    heights: tuple[float, float] = (1.0, 1.0),
) -> Points:
    """One scale and offset for all points and frames ("linear", MimicMotion): y_reference ~ ay y + by by least squares.

    Shapes and pixels as in `retarget_limb`. heights: of the driving frame and of the reference image; in shares of these
    ay must be in 0.3..3 (half a body can give any slope, also a negative one), else the ratio of the bodies' heights is taken.
    Elbows, wrists, hands and faces are not fitted. Raises ValueError when no fitted joint is visible in both.
    """
    points, target = _with_neck(driving)[:, list(_FITTED)], _with_neck(reference)[list(_FITTED)]
    # MimicMotion fits hidden driving joints as well and drops frames in which one is missing; here a joint is fitted in
    # the frames that show it.
    both = (_with_neck_seen(driving_scores) & _with_neck_seen(reference_scores))[:, list(_FITTED)]
    if not both.any():
        raise ValueError(_NOTHING_SHARED)
    source, goal = points[both], np.broadcast_to(target, points.shape)[both]
    slope = _least_squares_slope(source[:, 1], goal[:, 1])
    if not _SLOPES[0] <= slope * heights[0] / heights[1] <= _SLOPES[1]:  # NaN is outside, too
        slope = _height_ratio(points, target, both) or heights[1] / heights[0]
    # MimicMotion's ax = ay / ((fh / fw) / H * W) in shares of width and height is, in pixels, this same slope.
    return np.asarray(driving * slope + (goal - slope * source).mean(axis=0), np.float32)


def _least_squares_slope(source: npt.NDArray[np.float64], goal: npt.NDArray[np.float64]) -> float:
    """Slope of goal ~ a source + b; NaN where all of `source` is at one height."""
    centred = source - source.mean()
    spread = float((centred**2).sum())
    return float((centred * (goal - goal.mean())).sum()) / spread if spread > 0 else float("nan")


def _height_ratio(points: Floats, target: Floats, both: Flags) -> float | None:
    """Ratio of the heights of the joints' boxes, in the frame that shares most joints with the reference."""
    frame = int(np.argmax(both.sum(axis=1)))
    joints = both[frame]
    return _ratio(float(np.ptp(target[joints, 1])), float(np.ptp(points[frame, joints, 1])))
