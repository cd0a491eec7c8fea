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
_REACH = 0.985  # an arm never locks straight
_STRAIGHT = 0.996  # share of the leg's length from hip to ankle of somebody who stands upright
_CLOSEST = 0.52  # arm lengths between wrist and shoulder, below which the hand goes forward
_SOFT = 0.015  # body heights over which the pelvis gives way to a leg at its reach
_SOLE = 0.012  # height of the ball of the foot above the floor when planted
# From the ball of the foot, in foot lengths.
_BALL_TO_ANKLE, _BALL_TO_HEEL, _BALL_TO_TOE = 0.45, 0.72, 0.28


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


def two_bones(root: Vectors, goal: Vectors, first: float, second: float, pole: Vectors, reach: float = _REACH) -> tuple[Vectors, Vectors]:
    """(middle joint, end) of a limb that reaches for `goal`, as far as it can, and bends toward `pole`."""
    offset = goal - root
    distance = np.clip(
        np.linalg.norm(offset, axis=-1, keepdims=True),
        1.15 * abs(first - second) + 0.3 * min(first, second),
        reach * (first + second),
    )
    axis = unit(offset)
    along = (first**2 - second**2 + distance**2) / (2 * distance)  # law of cosines
    bend = unit(pole - (pole * axis).sum(-1, keepdims=True) * axis)
    middle = root + along * axis + np.sqrt(np.maximum(first**2 - along**2, 0)) * bend
    return middle, root + distance * axis


def _feet(p: Proportions, pose: dict[str, Track], joints: dict[str, Vectors]) -> None:
    """Ankle, heel and toes around the ball of the foot, which stays where the pose puts it while the heel rises."""
    for name, side in SIDES:
        yaw, heel, none = pose[f"{name}_foot_yaw"], pose[f"{name}_heel"], 0 * pose["yaw"]
        frame = rotation(yaw, none, heel)
        lift = np.maximum(pose[f"{name}_lift"], 0)
        rise = lift + _BALL_TO_HEEL * p.foot * np.sin(np.maximum(-heel, 0))  # toes up: the heel is what touches the floor
        ball = vector(pose[f"{name}_foot_x"], _SOLE + rise, pose[f"{name}_foot_z"])
        bent = np.minimum(heel, np.arcsin(np.clip(rise / (_BALL_TO_TOE * p.foot), 0, 1)))  # toes do not go through the floor
        toes = rotation(yaw, none, bent)
        joints |= {
            f"{name}_ankle": ball + turn(frame, np.array([0.0, p.ankle - _SOLE, -_BALL_TO_ANKLE * p.foot])),
            f"{name}_heel": ball + turn(frame, np.array([0.0, 0.0, -_BALL_TO_HEEL * p.foot])),
            f"{name}_ball": ball,
            f"{name}_big_toe": ball + turn(toes, np.array([-0.012 * side, 0.0, _BALL_TO_TOE * p.foot])),
            f"{name}_small_toe": ball + turn(toes, np.array([0.03 * side, 0.0, 0.13 * p.foot])),
        }


def _pelvis_centre(p: Proportions, pose: dict[str, Track], joints: dict[str, Vectors], pelvis: Vectors) -> Vectors:
    """Pelvis over its place, as high as the pose asks and both legs allow, so that no planted foot is pulled along."""
    middle = vector(pose["shift"], 0.0, pose["forward"]) + pose["hip_out"][:, None] * pelvis[:, :, 0] * (1.0, 0.0, 1.0)
    height = p.ankle + _STRAIGHT * (p.thigh + p.shin) + 0.6 * _SOFT - pose["drop"]
    excess = np.zeros_like(height)
    for name, side in SIDES:
        hip = turn(pelvis, np.array([side * p.hip, 0.0, 0.0]))
        gap = joints[f"{name}_ankle"] - middle - hip
        length = _STRAIGHT * (p.thigh + p.shin)
        over = height - gap[:, 1] - np.sqrt(np.maximum(length**2 - gap[:, 0] ** 2 - gap[:, 2] ** 2, 0.01))
        excess += ((over + np.hypot(over, _SOFT)) / 2) ** 8
    height = height - excess**0.125  # at least what the shorter leg asks for, without a kink
    return middle + vector(0.0, height, 0.0)


def _legs(p: Proportions, pose: dict[str, Track], joints: dict[str, Vectors], pelvis: Vectors) -> None:
    for name, side in SIDES:
        yaw = pose[f"{name}_foot_yaw"]
        ahead = vector(np.sin(yaw), 0.0, np.cos(yaw)) + 0.8 * pelvis[:, :, 2] + 0.05 * side * pelvis[:, :, 0]
        hip = joints["pelvis"] + turn(pelvis, np.array([side * p.hip, 0.0, 0.0]))
        knee, ankle = two_bones(hip, joints[f"{name}_ankle"], p.thigh, p.shin, ahead, reach=0.999)
        joints |= {f"{name}_hip": hip, f"{name}_knee": knee, f"{name}_ankle": ankle}


def _arms(p: Proportions, pose: dict[str, Track], joints: dict[str, Vectors], chest: Vectors) -> None:
    for name, side in SIDES:
        shoulder = joints["neck"] + turn(chest, vector(side * p.shoulder, pose["shrug"] - 0.043, 0.0))
        out, up, forward = (pose[f"{name}_{axis}"] for axis in ("out", "up", "forward"))
        folded = np.maximum(_CLOSEST - np.sqrt(out**2 + up**2 + forward**2), 0)
        forward = np.where(folded > 0, np.hypot(forward, folded), forward)  # a hand passes in front of its shoulder, not through it
        target = vector(side * out, up, forward) * (p.upper_arm + p.forearm)
        lift = pose[f"{name}_elbow"]
        pole = turn(chest, vector(side * (0.6 + 0.6 * lift), -0.7 + 0.8 * lift, -0.42))
        elbow, wrist = two_bones(shoulder, shoulder + turn(chest, target), p.upper_arm, p.forearm, pole)
        joints |= {f"{name}_shoulder": shoulder, f"{name}_elbow": elbow, f"{name}_wrist": wrist}


def build_skeleton(p: Proportions, pose: dict[str, Track]) -> Skeleton:
    """Joints of every frame; `pose` maps each name of pose.POSE to [T]."""
    pelvis = rotation(pose["yaw"], pose["hip_roll"], pose["tilt"])
    chest = rotation(pose["yaw"] + pose["twist"], -pose["bend"], pose["lean"] + pose["tilt"])
    head = rotation(pose["yaw"] + pose["twist"] + pose["head_yaw"], pose["head_roll"], pose["head_pitch"])
    joints: dict[str, Vectors] = {}
    _feet(p, pose, joints)
    joints["pelvis"] = _pelvis_centre(p, pose, joints, pelvis)
    joints["waist"] = joints["pelvis"] + turn(pelvis, np.array([0, 0.38 * p.spine, 0]))
    joints["neck"] = joints["waist"] + turn(chest, np.array([0, 0.62 * p.spine, 0]))
    joints["skull"] = joints["neck"] + turn(chest, np.array([0, p.neck, 0.004])) + turn(head, np.array([0, 0.012, 0.0]))
    joints["head"] = joints["skull"] + turn(head, np.array([0, 0.40 * p.head, 0.012]))
    _legs(p, pose, joints, pelvis)
    _arms(p, pose, joints, chest)
    return Skeleton(joints=joints, pelvis=pelvis, chest=chest, head=head)
