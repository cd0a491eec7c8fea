"""PATA, the Pose Alignment Transition Algorithm: desired poses at the source's place and scale, and a way from the source's pose to the first.

The paper names it and says what it does (Sec. 3: "interpolate t intermediate frames between the source pose and the desired pose … aligns
each pose with the source pose … in terms of position and scale"), with no formula. What follows is our reading. Its "pose p_1 is identical
to the source pose" must mean p_0. Geometry only, in pixels of the source image.
"""

# T = frames, K = keypoints (133), M = desired poses, t = transition poses; point 133 is the neck, the middle of the shoulders

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.clip_dataset import Points
from models.pose_animate.config import Pata
from pipelines.keypoints import BODY, FACE, FEET, LEFT_HAND, RIGHT_HAND, VISIBLE

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_NECK, _HIPS = 133, (11, 12)
_PARENTS = {
    0: _NECK, 5: _NECK, 6: _NECK, 11: _NECK, 12: _NECK, 1: 0, 2: 0, 3: 1, 4: 2, 7: 5, 8: 6, 9: 7, 10: 8, 13: 11, 14: 12, 15: 13, 16: 14,
    **dict.fromkeys(range(FEET.start, FEET.start + 3), 15), **dict.fromkeys(range(FEET.start + 3, FEET.stop), 16),
    **dict.fromkeys(range(FACE.start, FACE.stop), 0), **dict.fromkeys(range(LEFT_HAND.start, LEFT_HAND.stop), 9),
    **dict.fromkeys(range(RIGHT_HAND.start, RIGHT_HAND.stop), 10),
}  # fmt: skip
"""Child -> parent; a parent comes before its children."""


@dataclass(frozen=True, slots=True)
class AlignedPoses:
    """points [1 + t + M, K, 2] px and scores [1 + t + M, K]: the source's pose, `transitions` poses on the way, and the desired ones."""

    points: Points
    scores: Points
    transitions: int

    @property
    def leading(self) -> int:
        """Frames before the first desired one."""
        return 1 + self.transitions


def align_poses(source: tuple[Points, Points], desired: tuple[Points, Points], height: int, config: Pata) -> AlignedPoses:
    """source: points [K, 2] and scores [K]; desired: [M, K, 2] and [M, K]; height of the picture in px.

    Raises ValueError where no body joint is visible both in the source and in the first desired pose.
    """
    points, scores = desired
    if not config.enabled:
        return AlignedPoses(np.concatenate([source[0][None], points]), np.concatenate([source[1][None], scores]), 0)
    points = moved_to_source(points, scores[0], *source)
    count = config.transitions if config.transitions is not None else transitions_needed(source, (points[0], scores[0]), height, config)
    shares = [j / (count + 1) for j in range(1, count + 1)]
    between = [between_poses(source, (points[0], scores[0]), share, config) for share in shares]
    faint = np.minimum(source[1], scores[0])  # a joint that only one of the two shows is not drawn on the way
    return AlignedPoses(
        np.stack([source[0], *between, *points]).astype(np.float32),
        np.stack([source[1], *[faint] * count, *scores]).astype(np.float32),
        count,
    )


def moved_to_source(points: Points, first_scores: Points, source: Points, source_scores: Points) -> Points:
    """[M, K, 2] scaled and moved as one, by what brings the first pose onto the source: p -> k p + o.

    k = h(source) / h(first); h is the length from neck to mid-hip, or the height of the box of the body joints that both show.
    o brings mid-hip onto mid-hip (else neck, else the mean of those joints). Root motion is kept, at that scale.
    """
    seen = _with_neck_seen(first_scores) & _with_neck_seen(source_scores)
    joints = np.flatnonzero(seen[BODY])
    if joints.size == 0:
        raise ValueError(
            "no body joint is visible both in the reference and in the first driving pose; take a clip that begins with more of the person"
        )
    first, goal = _with_neck(points[0]), _with_neck(source)
    scale = _height(goal, seen, joints) / (_height(first, seen, joints) or math.nan)
    if not (math.isfinite(scale) and scale > 0):  # one joint, or all at one height
        scale = 1.0
    offset = _anchor(goal, seen, joints) - scale * _anchor(first, seen, joints)
    return np.asarray(scale * points.astype(np.float64) + offset, np.float32)


def transitions_needed(source: tuple[Points, Points], first: tuple[Points, Points], height: int, config: Pata) -> int:
    """One for every 6 % of the picture's height that the joint moves that moves most, at least 2, at most 8."""
    seen = (source[1] > VISIBLE) & (first[1] > VISIBLE)
    seen[BODY.stop :] = False
    largest = float(np.hypot(*(first[0] - source[0])[seen].T).max()) if seen.any() else 0.0
    return int(np.clip(math.ceil(largest / (config.displacement_share * height)), 2, 8))


def between_poses(source: tuple[Points, Points], first: tuple[Points, Points], share: float, config: Pata) -> Points:
    """[K, 2] the pose at `share` of the way: every joint on a straight line, p(u) = (1 - u) p_s + u p_1.

    `angle`: from the neck outwards, each bone's length on a straight line and its angle the shortest way round.
    A joint that one of the poses hides keeps the other's offset to its parent.
    """
    poses = [_with_neck(pose[0]) for pose in (source, first)]
    seen = [_with_neck_seen(pose[1]) for pose in (source, first)]
    both, made = seen[0] & seen[1], (1 - share) * poses[0] + share * poses[1]
    if not both[_NECK]:
        made[_NECK] = poses[0 if seen[0][_NECK] else 1][_NECK]
    for child, parent in _PARENTS.items():
        bones = [pose[child] - pose[parent] for pose in poses]
        if not both[child]:
            made[child] = made[parent] + bones[0 if seen[0][child] else 1]
        elif config.interp == "angle" and both[parent]:
            made[child] = made[parent] + _turned(bones[0], bones[1], share)
    return made[:_NECK].astype(np.float32)


def _turned(start: Floats, end: Floats, share: float) -> Floats:
    lengths, angles = [np.hypot(*bone) for bone in (start, end)], [math.atan2(bone[1], bone[0]) for bone in (start, end)]
    turn = (angles[1] - angles[0] + math.pi) % (2 * math.pi) - math.pi
    angle, length = angles[0] + share * turn, (1 - share) * lengths[0] + share * lengths[1]
    return length * np.array([math.cos(angle), math.sin(angle)])


def _with_neck(points: Points) -> Floats:
    plain = points.astype(np.float64)
    return np.concatenate([plain, (plain[5:6] + plain[6:7]) / 2])


def _with_neck_seen(scores: Points) -> Flags:
    seen = scores > VISIBLE
    return np.concatenate([seen, seen[5:6] & seen[6:7]])


def _height(points: Floats, seen: Flags, joints: npt.NDArray[np.int64]) -> float:
    if seen[[_NECK, *_HIPS]].all():
        return float(np.hypot(*(points[list(_HIPS)].mean(axis=0) - points[_NECK])))
    return float(np.ptp(points[joints, 1]))


def _anchor(points: Floats, seen: Flags, joints: npt.NDArray[np.int64]) -> Floats:
    if seen[list(_HIPS)].all():
        return np.asarray(points[list(_HIPS)].mean(axis=0))
    return points[_NECK] if seen[_NECK] else np.asarray(points[joints].mean(axis=0))
