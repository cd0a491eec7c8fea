"""Actions with a wind-up, a strike and a follow-through: one track of phases drives trunk, arms and weight together."""

from __future__ import annotations

import numpy as np

from pipelines.performers.pose import Pose, Track
from pipelines.performers.timing import bump, keyed

# Key poses: name -> value; a name that a pose lacks is 0 there.
Keys = tuple[tuple[float, dict[str, float]], ...]

_GUARD = {"out": -0.05, "up": 0.0, "forward": 0.44, "elbow": 0.05}
_BLOWS: dict[str, dict[str, float]] = {
    "jab": {"out": -0.3, "up": 0.1, "forward": 0.93, "elbow": 0.4},
    "hook": {"out": -0.35, "up": 0.12, "forward": 0.6, "elbow": 1.0},
    "uppercut": {"out": -0.25, "up": 0.3, "forward": 0.52, "elbow": 0.2},
}


def _through(time: Track, keys: Keys) -> Pose:
    """Eased from key pose to key pose, round and round (period 1)."""
    names = sorted({name for _, pose in keys for name in pose})
    return {name: keyed(time, [(at, pose.get(name, 0.0)) for at, pose in keys], 1.0) for name in names}


def golf_swing(time: Track, rng: np.random.Generator) -> Pose:
    """Address, slow backswing over the right shoulder, fast downswing, follow-through over the left one."""

    def grip(across: float, up: float, forward: float) -> dict[str, float]:
        """Both hands together, `across` to the person's left of the body's middle."""
        hands = {"up": up, "forward": forward, "curl": 1.0, "elbow": 0.15}
        shared = {f"{side}_{name}": value for name, value in hands.items() for side in ("left", "right")}
        return shared | {"left_out": -0.33 + across, "right_out": -0.29 - across}

    legs = {"left_foot_x": 0.125, "right_foot_x": -0.125, "drop": 0.035, "forward": -0.012, "tilt": 0.22, "smile": 0.15}
    address = legs | grip(0.0, -0.72, 0.6) | {"lean": 0.18, "head_pitch": 0.35}
    top = legs | grip(-0.42, 0.28, 0.5) | {"lean": 0.12, "twist": -0.75, "yaw": -0.35, "shift": -0.025, "head_pitch": 0.3, "head_yaw": 0.7}
    strike = legs | grip(0.04, -0.74, 0.58) | {"lean": 0.18, "twist": 0.1, "yaw": 0.25, "shift": 0.03, "head_pitch": 0.35, "head_yaw": -0.2}
    finish = legs | grip(0.4, 0.42, 0.42) | {
        "tilt": 0.02, "lean": -0.02, "twist": 0.55, "yaw": 0.7, "shift": 0.06, "forward": 0.0, "right_heel": 0.75, "head_yaw": -0.1,
    }  # fmt: skip
    after = finish | grip(0.3, 0.2, 0.48) | {"twist": 0.45}
    return _through(time, ((0.0, address), (0.16, address), (0.42, top), (0.47, top), (0.55, strike), (0.64, finish), (0.8, after))) | {
        "left_foot_yaw": 0.4,
        "right_foot_yaw": -0.3,
        "left_foot_z": 0.05,
        "right_foot_z": 0.05,
    }


def tennis_swing(time: Track, rng: np.random.Generator) -> Pose:
    """Forehand of the right arm: turn and take back, step into it, strike in front, finish over the other shoulder."""
    legs = {"left_foot_x": 0.13, "right_foot_x": -0.13, "drop": 0.045, "smile": 0.2, "left_curl": 0.3, "right_curl": 1.0}
    left = {"left_out": 0.0, "left_up": -0.3, "left_forward": 0.6, "left_elbow": 0.3}
    ready = legs | left | {"right_out": -0.1, "right_up": -0.35, "right_forward": 0.6, "lean": 0.12}
    back = legs | {
        "twist": -0.65, "yaw": -0.45, "shift": -0.04, "lean": 0.05, "head_yaw": 0.75, "left_out": -0.15, "left_up": -0.05,
        "left_forward": 0.7, "left_elbow": 0.4, "right_out": 0.8, "right_up": 0.02, "right_forward": 0.1, "right_elbow": 0.5,
    }  # fmt: skip
    low = back | {"right_out": 0.75, "right_up": -0.42, "right_forward": 0.15, "twist": -0.5}
    strike = legs | {
        "twist": 0.2, "yaw": 0.15, "shift": 0.035, "lean": 0.08, "head_yaw": -0.15, "left_out": 0.25, "left_up": -0.3,
        "left_forward": 0.35, "left_elbow": 0.5, "right_out": 0.3, "right_up": -0.16, "right_forward": 0.85, "right_heel": 0.35,
    }  # fmt: skip
    finish = strike | {
        "twist": 0.6, "yaw": 0.4, "shift": 0.05, "head_yaw": -0.5, "right_out": -0.45, "right_up": 0.36, "right_forward": 0.5,
        "right_elbow": 0.9, "right_heel": 0.7,
    }  # fmt: skip
    return _through(time, ((0.0, ready), (0.1, ready), (0.36, back), (0.44, low), (0.54, strike), (0.64, finish), (0.74, finish))) | {
        "left_foot_yaw": 0.25,
        "right_foot_yaw": -0.5,
        "left_foot_z": 0.06,
        "right_foot_z": 0.03,
    }


def punch(time: Track, rng: np.random.Generator) -> Pose:
    """Boxing: a guard with the left foot ahead, light on the feet, and combinations of three blows."""
    pose: Pose = {f"{side}_{name}": np.full(len(time), value) for name, value in _GUARD.items() for side in ("left", "right")}
    yaw, twist, shift = np.full(len(time), -0.32), np.full(len(time), -0.18), np.zeros(len(time))
    second = "hook" if rng.random() < 0.5 else "jab"
    plan = (("left", "jab", 0.06), ("right", "jab", 0.27), ("left", second, 0.46), ("right", "uppercut", 0.68))
    part = np.mod(time, 1.0)
    for side, blow, at in plan:
        out = keyed(part, [(at, 0.0), (at + 0.075, 1.0), (at + 0.1, 1.0), (at + 0.25, 0.0)])
        wind = bump(part, at - 0.06, at + 0.04)  # anticipation: back before forward
        for name, value in _BLOWS[blow].items():
            track = np.asarray(pose[f"{side}_{name}"])
            pose[f"{side}_{name}"] = track + (value - _GUARD[name]) * out - (0.07 * wind if name == "forward" else 0.0)
        turn = 1.0 if side == "right" else -1.0
        yaw, twist, shift = yaw + 0.22 * turn * out, twist + 0.36 * turn * out - 0.1 * turn * wind, shift + 0.025 * turn * out
    bounce = 0.5 - 0.5 * np.cos(2 * np.pi * 5 * time)
    return pose | {
        "yaw": yaw, "twist": twist, "shift": shift, "forward": 0.02 + 0.4 * np.abs(shift), "drop": 0.05 + 0.012 * bounce, "lean": 0.12,
        "head_pitch": 0.12, "head_yaw": -0.9 * (yaw + twist), "shrug": 0.012, "left_curl": 1.0, "right_curl": 1.0, "smile": 0.0,
        "left_foot_x": 0.09, "left_foot_z": 0.13, "left_foot_yaw": -0.1, "left_heel": 0.08 * bounce,
        "right_foot_x": -0.1, "right_foot_z": -0.05, "right_foot_yaw": -0.75, "right_heel": 0.22 + 0.1 * bounce + 4.0 * np.clip(shift, 0, 1),
    }  # fmt: skip


def tai_chi(time: Track, rng: np.random.Generator) -> Pose:
    """Cloud hands: weight from leg to leg over a low, wide stance while the hands draw circles, one up as the other goes down."""
    turn = 2 * np.pi * time
    weight = np.sin(turn)
    pose: Pose = {}
    for side, sign in (("left", 1.0), ("right", -1.0)):
        angle = turn if side == "left" else turn + np.pi
        pose |= {
            f"{side}_out": 0.12 + 0.42 * sign * np.sin(angle) * sign,
            f"{side}_up": -0.22 + 0.36 * np.cos(angle),
            f"{side}_forward": 0.6 - 0.1 * np.abs(np.sin(angle)),
            f"{side}_elbow": 0.45,
            f"{side}_curl": 0.12,
            f"{side}_flex": 0.35 * np.cos(angle + 0.6),
            f"{side}_foot_x": sign * 0.19,
            f"{side}_foot_yaw": sign * 0.3,
        }
    return pose | {
        "shift": 0.085 * weight,
        "drop": 0.085 + 0.012 * np.cos(2 * turn),
        "yaw": 0.22 * weight,
        "twist": 0.3 * weight,
        "head_yaw": -0.1 * weight,
        "bend": 0.03 * weight,
        "smile": 0.25,
    }
