"""The pose vector: named numbers that say how the body is held.

Wrists are given from the shoulder in arm lengths: out (away from the body's middle), up, forward, in the frame of the
chest. The pelvis and the balls of the feet are given on the floor in body heights, in the world: x to the right of the
image, z toward the camera. Angles are radians.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Track = npt.NDArray[np.float64]
"""[T] one number per frame, or [T, P] poses."""

Pose = dict[str, "Track | float"]
"""What differs from REST, by name of POSE."""

# fmt: off
POSE = (
    "shift", "forward", "drop",  # pelvis: x, z, how far below its standing height
    "yaw", "hip_roll", "hip_out", "tilt",  # pelvis: turn to the person's left, roll, sway to their left, pitch
    "bend", "lean", "twist",  # trunk over the pelvis: to the left, forward, turn
    "head_yaw", "head_pitch", "head_roll", "shrug",
    "left_out", "left_up", "left_forward", "right_out", "right_up", "right_forward",  # wrists
    "left_elbow", "right_elbow",  # 0 hangs, 1 lifted out
    "left_foot_x", "left_foot_z", "left_lift", "left_foot_yaw", "left_heel",  # ball of the foot; heel > 0 raised, < 0 toes raised
    "right_foot_x", "right_foot_z", "right_lift", "right_foot_yaw", "right_heel",
    "left_curl", "right_curl", "left_flex", "right_flex",  # fist 1, flat 0; wrist angle
    "smile", "mouth_open",
)
# fmt: on
INDEX = {name: i for i, name in enumerate(POSE)}
FEET = tuple(name for name in POSE if "_foot_" in name or name.endswith(("_lift", "_heel")))
"""Names that say where the feet are: what stands on the floor is never smoothed, or it would slide."""

REST: dict[str, float] = dict.fromkeys(POSE, 0.0) | {
    "left_out": 0.26,
    "right_out": 0.26,
    "left_up": -0.86,
    "right_up": -0.86,
    "left_forward": 0.16,
    "right_forward": 0.16,
    "left_foot_x": 0.092,
    "right_foot_x": -0.092,
    "left_foot_z": 0.052,
    "right_foot_z": 0.052,
    "left_foot_yaw": 0.3,
    "right_foot_yaw": -0.3,
    "left_curl": 0.3,
    "right_curl": 0.3,
    "drop": 0.004,
    "smile": 0.5,
}
