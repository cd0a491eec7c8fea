"""From poses to joints: inverse kinematics for arms and legs, so that feet stay planted and elbows bend the right way.

World: x to the right of the image, y up, z toward the camera; unit = one body height; the floor is y = 0. A person who
faces the camera has their left at +x.
# T = frames; vectors are [T, 3], frames of reference [T, 3, 3] with columns (person's left, up, front)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.performers.body import Proportions
from pipelines.performers.pose import Track

Vectors = npt.NDArray[np.float64]

SIDES = (("left", 1.0), ("right", -1.0))
_REACH = 0.985  # a limb never locks straight


@dataclass(frozen=True, kw_only=True, slots=True)
class Skeleton:
    """Joints [T, 3] by name ("left_wrist") and the frames of reference that flesh and face need."""

    joints: dict[str, Vectors]
    pelvis: Vectors  # [T, 3, 3]
    chest: Vectors
    head: Vectors


def rotation(yaw: Track, roll: Track, pitch: Track) -> Vectors:
    """[T, 3, 3] = Ry(yaw) Rz(roll) Rx(pitch); yaw > 0 turns to the person's left, pitch > 0 bows forward."""
    (cy, sy), (cz, sz), (cx, sx) = ((np.cos(a), np.sin(a)) for a in (yaw, roll, pitch))
    zero, one = np.zeros_like(cy), np.ones_like(cy)
    ry = np.stack([cy, zero, sy, zero, one, zero, -sy, zero, cy], -1).reshape(-1, 3, 3)
    rz = np.stack([cz, -sz, zero, sz, cz, zero, zero, zero, one], -1).reshape(-1, 3, 3)
    rx = np.stack([one, zero, zero, zero, cx, -sx, zero, sx, cx], -1).reshape(-1, 3, 3)
    return np.asarray(ry @ rz @ rx)


def vector(x: Track | float, y: Track | float, z: Track | float) -> Vectors:
    """[T, 3] from components, each [T] or a number."""
    return np.stack(np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float), np.asarray(z, float)), -1)


def turn(frame: Vectors, local: Vectors) -> Vectors:
    """Local [T, 3] or [3] to world."""
    return np.asarray(np.einsum("tij,tj->ti", frame, np.broadcast_to(local, (len(frame), 3))))


def unit(v: Vectors) -> Vectors:
    """Normalised along the last axis."""
    return np.asarray(v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-9))


def two_bones(root: Vectors, goal: Vectors, first: float, second: float, pole: Vectors) -> tuple[Vectors, Vectors]:
    """(middle joint, end) of a limb that reaches for `goal`, as far as it can, and bends toward `pole`."""
    offset = goal - root
    distance = np.clip(
        np.linalg.norm(offset, axis=-1, keepdims=True),
        1.15 * abs(first - second) + 0.3 * min(first, second),
        _REACH * (first + second),
    )
    axis = unit(offset)
    along = (first**2 - second**2 + distance**2) / (2 * distance)  # law of cosines
    bend = unit(pole - (pole * axis).sum(-1, keepdims=True) * axis)
    middle = root + along * axis + np.sqrt(np.maximum(first**2 - along**2, 0)) * bend
    return middle, root + distance * axis


def _pelvis_centre(p: Proportions, pose: dict[str, Track], ankles: dict[str, Vectors]) -> Vectors:
    """Pelvis over its shift, as high as the pose asks and both legs allow."""
    x, z = pose["shift"] + pose["hip_out"], np.zeros_like(pose["shift"])
    height = p.pelvis - pose["drop"]
    for name, side in SIDES:
        flat = np.hypot(ankles[name][:, 0] - x - side * p.hip, ankles[name][:, 2] - z)
        length = _REACH * (p.thigh + p.shin)
        height = np.minimum(height, ankles[name][:, 1] + np.sqrt(np.maximum(length**2 - flat**2, 0.01)))
    return vector(x, height, z)


def _legs(p: Proportions, pose: dict[str, Track], joints: dict[str, Vectors], ankles: dict[str, Vectors], pelvis: Vectors) -> None:
    for name, side in SIDES:
        foot_yaw = 0.55 * pose["yaw"] + side * 0.3
        forward = vector(np.sin(foot_yaw), 0.0, np.cos(foot_yaw))
        hip = joints["pelvis"] + turn(pelvis, np.array([side * p.hip, 0.0, 0.0]))
        knee, ankle = two_bones(hip, ankles[name], p.thigh, p.shin, forward + 0.05 * side * vector(np.cos(foot_yaw), 0.0, 0.0))
        drop_toe = vector(0.0, -np.clip(pose[f"{name}_lift"], 0, 0.05) * 1.2, 0.0)
        sole = ankle - np.array([0.0, p.ankle - 0.012, 0.0])
        across = vector(np.cos(foot_yaw), 0.0, -np.sin(foot_yaw)) * side
        joints |= {
            f"{name}_hip": hip,
            f"{name}_knee": knee,
            f"{name}_ankle": ankle,
            f"{name}_heel": sole - 0.27 * p.foot * forward,
            f"{name}_big_toe": sole + 0.73 * p.foot * forward + drop_toe - 0.012 * across,
            f"{name}_small_toe": sole + 0.58 * p.foot * forward + drop_toe + 0.03 * across,
        }


def _arms(p: Proportions, pose: dict[str, Track], joints: dict[str, Vectors], chest: Vectors) -> None:
    for name, side in SIDES:
        shoulder = joints["neck"] + turn(chest, vector(side * p.shoulder, pose["shrug"] - 0.043, 0.0))
        target = vector(side * pose[f"{name}_out"], pose[f"{name}_up"], pose[f"{name}_forward"]) * (p.upper_arm + p.forearm)
        lift = pose[f"{name}_elbow"]
        pole = turn(chest, vector(side * (0.6 + 0.6 * lift), -0.7 + 0.8 * lift, -0.42))
        elbow, wrist = two_bones(shoulder, shoulder + turn(chest, target), p.upper_arm, p.forearm, pole)
        joints |= {f"{name}_shoulder": shoulder, f"{name}_elbow": elbow, f"{name}_wrist": wrist}


def build_skeleton(p: Proportions, pose: dict[str, Track]) -> Skeleton:
    """Joints of every frame; `pose` maps each name of pose.POSE to [T]."""
    pelvis = rotation(pose["yaw"], pose["hip_roll"], 0 * pose["yaw"])
    chest = rotation(pose["yaw"] + pose["twist"], -pose["bend"], pose["lean"])
    head = rotation(pose["yaw"] + pose["twist"] + pose["head_yaw"], pose["head_roll"], pose["head_pitch"])
    base = 0.35 * pose["shift"]  # feet follow the body part of the way: the rest is leaning over a planted foot
    ankles = {
        name: vector(base + pose[f"{name}_foot_x"], p.ankle + np.maximum(pose[f"{name}_lift"], 0), pose[f"{name}_foot_z"])
        for name, _ in SIDES
    }
    joints = {"pelvis": _pelvis_centre(p, pose, ankles)}
    joints["waist"] = joints["pelvis"] + turn(pelvis, np.array([0, 0.38 * p.spine, 0]))
    joints["neck"] = joints["waist"] + turn(chest, np.array([0, 0.62 * p.spine, 0]))
    joints["skull"] = joints["neck"] + turn(chest, np.array([0, p.neck, 0.004])) + turn(head, np.array([0, 0.012, 0.0]))
    joints["head"] = joints["skull"] + turn(head, np.array([0, 0.40 * p.head, 0.012]))
    _legs(p, pose, joints, ankles, pelvis)
    _arms(p, pose, joints, chest)
    return Skeleton(joints=joints, pelvis=pelvis, chest=chest, head=head)
