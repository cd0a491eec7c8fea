"""Hands: 21 joints in COCO-WholeBody order (wrist, then thumb to little finger, tip last) and how they are painted."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipelines.performers.paint import Canvas
from pipelines.performers.pose import Track
from pipelines.performers.skeleton import Skeleton, Vectors, turn, unit

FINGERS = ((1, 2, 3, 4), (5, 6, 7, 8), (9, 10, 11, 12), (13, 14, 15, 16), (17, 18, 19, 20))

# In hand lengths: sideways toward the thumb, along the hand; then the three phalanges.
_KNUCKLES = ((0.17, 0.10), (0.175, 0.47), (0.06, 0.5), (-0.055, 0.47), (-0.16, 0.42))
_PHALANGES = ((0.20, 0.16, 0.13), (0.21, 0.14, 0.11), (0.24, 0.15, 0.12), (0.22, 0.14, 0.11), (0.17, 0.11, 0.1))
_SPREAD_RAD = (0.75, 0.13, 0.02, -0.1, -0.24)


def _hand_frame(skeleton: Skeleton, name: str, flex: Track) -> tuple[Vectors, Vectors, Vectors]:
    """(along the fingers, toward the thumb, out of the palm), each [T, 3]."""
    side = 1.0 if name == "left" else -1.0
    forearm = unit(skeleton.joints[f"{name}_wrist"] - skeleton.joints[f"{name}_elbow"])
    along = unit(forearm + flex[:, None] * turn(skeleton.chest, np.array([0.0, 0.9, 0.1])))
    # Palms face the thighs when the arms hang and turn to the front as they rise.
    raised = np.clip(0.5 + 0.8 * along[:, 1:2], 0, 1)
    wish = (1 - raised) * turn(skeleton.chest, np.array([-side, 0.0, -0.15])) + raised * turn(
        skeleton.chest, np.array([-0.1 * side, 0.15, 1.0])
    )
    palm = unit(wish - (wish * along).sum(-1, keepdims=True) * along)
    thumb = -side * np.cross(along, palm)
    return along, thumb, palm


def hand_joints(skeleton: Skeleton, name: str, length: float, curl: Track, flex: Track) -> Vectors:
    """[T, 21, 3] world; curl 0 flat .. 1 fist, flex bends the wrist upward (radians, small)."""
    along, thumb, palm = _hand_frame(skeleton, name, flex)
    wrist = skeleton.joints[f"{name}_wrist"]
    joints = [wrist]
    for finger, ((across, up), bones, spread) in enumerate(zip(_KNUCKLES, _PHALANGES, _SPREAD_RAD, strict=True)):
        at = wrist + length * (across * thumb + up * along)
        joints.append(at)
        bend = np.clip(curl, 0, 1) * (0.45 if finger == 0 else 1.25)
        open_ = spread * (1 - 0.6 * np.clip(curl, 0, 1))
        straight = np.cos(open_)[:, None] * along + np.sin(open_)[:, None] * thumb
        for knuckle, bone in enumerate(bones):
            angle = (bend * (knuckle + 0.7) * 0.8)[:, None]
            at = at + length * bone * (np.cos(angle) * straight + np.sin(angle) * palm)
            joints.append(at)
    return np.stack(joints, 1)


def paint_hand(
    canvas: Canvas,
    points: npt.NDArray[np.float32],
    length_px: float,
    skin: npt.NDArray[np.float32],
    part: int,
    owner: int,
) -> None:
    """Palm and five fingers over a darker rim, which keeps them apart; points [21, 2] px."""
    width, rim_px = max(1, round(0.15 * length_px)), max(1, round(2 * canvas.grain))
    palm = points[[0, 1, 5, 9, 13, 17]]
    wrist_side = points[0] + 0.28 * (points[17] - points[1])
    outline = np.concatenate([palm, wrist_side[None]])
    order = sorted(range(5), key=lambda f: f == 0)
    rim, body, light = skin * 0.66, skin * 0.96, np.minimum(skin * 1.04 + 4, 250)
    for colour, extra in ((rim, rim_px), (body, 0)):
        canvas.polygon(outline, colour, grow=width - 1 + extra)
        if extra:
            for finger in order:
                canvas.line(points[list(FINGERS[finger])], colour, width + extra)
    for finger in order:
        joints = list(FINGERS[finger])
        canvas.line(points[joints], rim if finger else body, width + rim_px / 2)
        canvas.line(points[joints], light if finger == 0 else body, width)
    lines = [points[[0, *finger]] for finger in FINGERS]
    canvas.label_lines(outline, lines, width + rim_px, part, owner, axis=(points[0], points[9]), span=length_px)
