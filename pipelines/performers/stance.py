"""One frame of one person, projected: everything that a painter needs.

# T = frames
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.performers.body import Appearance
from pipelines.performers.camera import Camera
from pipelines.performers.face import landmarks
from pipelines.performers.hair import STYLES
from pipelines.performers.hand import hand_joints
from pipelines.performers.pose import Track
from pipelines.performers.skeleton import SIDES, Skeleton, build_skeleton, turn

Floats = npt.NDArray[np.float32]
_FLIP = np.array([1, -1, 1])  # world axes to image axes


@dataclass(frozen=True, kw_only=True, slots=True)
class Stance:
    """Image px and depth (larger is nearer)."""

    points: dict[str, Floats]  # joint -> [3]
    hands: dict[str, Floats]  # "left"/"right" -> [21, 3]
    face: Floats  # [68, 2]
    face_seen: Floats  # [68] cosine between skin and camera
    head_frame: Floats  # [4, 3] mid-head, and one head height to the person's left, up and front of it
    chest_front: Floats  # [3] unit vectors in image axes
    pelvis_front: Floats
    pelvis_left: Floats
    head_left: Floats
    chest_yaw: float  # radians
    head_yaw: float
    head_pitch: float  # toward the camera
    drape_tip: Floats  # [2] where long hair ends


def stances(look: Appearance, pose: dict[str, Track], blink: Track, camera: Camera, tips: Track | None = None) -> list[Stance]:
    """One per frame; tips [T, 2]: world x and y of the hair's ends, from `drape_tips`, where the frames are not consecutive."""
    p = look.proportions
    skeleton = build_skeleton(p, pose)
    points = {name: camera.project(joint) for name, joint in _joints(look, skeleton).items()}
    hands = {
        side: camera.project(hand_joints(skeleton, side, p.hand, pose[f"{side}_curl"], pose[f"{side}_flex"])) for side in ("left", "right")
    }
    local = landmarks(look.face, blink, pose["smile"], pose["mouth_open"])
    face = camera.project(_from_head(skeleton, local * p.head))
    normal = np.einsum("tij,tkj->tki", skeleton.head, local * (1.0, 0.35, 1.0) - (0, 0, 0.12))
    seen = (normal[..., 2] / np.linalg.norm(normal, axis=-1)).astype(np.float32)
    corners = np.concatenate([np.zeros((1, 3)), np.eye(3)]) * p.head
    head_frame = camera.project(_from_head(skeleton, np.broadcast_to(corners, (len(blink), 4, 3))))
    tips = drape_tips(look, skeleton) if tips is None else tips
    ends = camera.project(np.concatenate([tips, skeleton.joints["head"][:, 2:] - 0.02], -1))[:, :2]
    axes = _axes(skeleton)
    chest_yaw, head_yaw = (np.arctan2(f[:, 0, 2], f[:, 2, 2]) for f in (skeleton.chest, skeleton.head))
    return [
        Stance(
            points={name: track[t] for name, track in points.items()},
            hands={side: track[t] for side, track in hands.items()},
            face=face[t, :, :2],
            face_seen=seen[t],
            head_frame=head_frame[t],
            **{name: axis[t] for name, axis in axes.items()},
            chest_yaw=float(chest_yaw[t]),
            head_yaw=float(head_yaw[t]),
            head_pitch=float(pose["head_pitch"][t]) + 0.16,
            drape_tip=ends[t],
        )
        for t in range(len(blink))
    ]


def _joints(look: Appearance, skeleton: Skeleton) -> dict[str, Track]:
    """World joints with the crown and the ears."""
    head, size = skeleton.joints["head"], look.proportions.head
    crown = head + turn(skeleton.head, np.array([0.0, 0.5 * size, 0.0]))
    ears = {f"{name}_ear": head + turn(skeleton.head, np.array([side * look.face.width, -0.05, -0.02]) * size) for name, side in SIDES}
    return {**skeleton.joints, "crown": crown, **ears}


def _from_head(skeleton: Skeleton, local: Track) -> Track:
    """[T, K, 3] from head axes (body heights) to the world."""
    return np.asarray(skeleton.joints["head"][:, None] + np.einsum("tij,tkj->tki", skeleton.head, local))


def _axes(skeleton: Skeleton) -> dict[str, Floats]:
    """Unit vectors in image axes, [T, 3] each."""
    world = {
        "chest_front": skeleton.chest[:, :, 2],
        "pelvis_front": skeleton.pelvis[:, :, 2],
        "pelvis_left": skeleton.pelvis[:, :, 0],
        "head_left": skeleton.head[:, :, 0],
    }
    return {name: (axis * _FLIP).astype(np.float32) for name, axis in world.items()}


def drape_tips(look: Appearance, skeleton: Skeleton) -> Track:
    """[T, 2] world x and y: the ends of long hair follow the head with a delay."""
    head = skeleton.joints["head"][:, :2]
    lagged = head.copy()
    for t in range(1, len(head)):
        lagged[t] = lagged[t - 1] + 0.22 * (head[t] - lagged[t - 1])
    drop = STYLES[look.hair_style].drape * look.proportions.head
    return np.asarray(head * (0.5, 1.0) + lagged * (0.5, 0.0) - np.array([0, drop]))
