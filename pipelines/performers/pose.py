"""The pose vector: named numbers that say how the body is held.

Wrists are given from the shoulder in arm lengths: out (away from the body's middle), up, forward. Feet are given from
the point under the pelvis in body heights. Angles are radians.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Track = npt.NDArray[np.float64]
"""[T] one number per frame, or [T, P] poses."""

POSE = (
    "shift",
    "drop",
    "yaw",
    "hip_roll",
    "hip_out",
    "bend",
    "lean",
    "twist",  # pelvis and trunk
    "head_yaw",
    "head_pitch",
    "head_roll",
    "shrug",
    "left_out",
    "left_up",
    "left_forward",
    "right_out",
    "right_up",
    "right_forward",  # wrists
    "left_elbow",
    "right_elbow",  # 0 hangs, 1 lifted out
    "left_foot_x",
    "left_foot_z",
    "left_lift",
    "right_foot_x",
    "right_foot_z",
    "right_lift",
    "left_curl",
    "right_curl",
    "left_flex",
    "right_flex",  # fist 1, flat 0; wrist angle
    "smile",
    "mouth_open",
)
INDEX = {name: i for i, name in enumerate(POSE)}

REST: dict[str, float] = dict.fromkeys(POSE, 0.0) | {
    "left_out": 0.26,
    "right_out": 0.26,
    "left_up": -0.86,
    "right_up": -0.86,
    "left_forward": 0.16,
    "right_forward": 0.16,
    "left_foot_x": 0.075,
    "right_foot_x": -0.075,
    "left_curl": 0.3,
    "right_curl": 0.3,
    "drop": 0.012,
    "smile": 0.5,
}
