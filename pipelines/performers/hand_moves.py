"""Dance moves that live in the hands, as short videos show them: around the face, overhead, beside the hips."""

from __future__ import annotations

import numpy as np

from pipelines.performers.pose import Pose, Track


def _sharp(beat: Track, period: float) -> Track:
    """-1..1, quick between its ends, where it rests."""
    return np.asarray(np.tanh(2.6 * np.sin(2 * np.pi * beat / period)) / np.tanh(2.6))


def _sway(beat: Track, side: float, amount: float = 1.0) -> Pose:
    """Hips from side to side, knees giving on the beat."""
    over = side * np.sin(2 * np.pi * beat / 2)
    return {
        "shift": 0.016 * amount * over,
        "hip_out": 0.022 * amount * over,
        "hip_roll": -0.09 * amount * over,
        "bend": 0.08 * amount * over,
        "drop": 0.014 + 0.016 * amount * (0.5 + 0.5 * np.cos(2 * np.pi * beat)),
        "head_roll": -0.05 * over,
    }


def floss(beat: Track, side: float) -> Pose:
    """Straight arms to one side, one before and one behind the body, hips to the other."""
    swing = side * _sharp(beat, 1.0)
    return {
        "hip_out": -0.04 * swing,
        "hip_roll": 0.1 * swing,
        "bend": 0.07 * swing,
        "drop": 0.025,
        "left_out": 0.1 + 0.5 * swing,
        "right_out": 0.1 - 0.5 * swing,
        "left_up": -0.74,
        "right_up": -0.74,
        "left_forward": 0.34 - 0.2 * swing,
        "right_forward": 0.34 + 0.2 * swing,
        "left_curl": 0.95,
        "right_curl": 0.95,
        "smile": 0.6,
    }


def lasso(beat: Track, side: float) -> Pose:
    """One hand circles overhead, the other rests on the hip."""
    turn = 2 * np.pi * beat
    lead, rest = ("left", "right") if side > 0 else ("right", "left")
    return {
        **_sway(beat, side),
        f"{lead}_out": 0.2 + 0.2 * np.cos(turn),
        f"{lead}_up": 0.74,
        f"{lead}_forward": 0.2 + 0.2 * np.sin(turn),
        f"{lead}_elbow": 0.9,
        f"{lead}_curl": 0.85,
        f"{rest}_out": 0.3,
        f"{rest}_up": -0.6,
        f"{rest}_forward": 0.05,
        f"{rest}_elbow": 0.7,
        f"{rest}_curl": 0.5,
        "smile": 0.85,
        "mouth_open": 0.2,
        "head_roll": 0.06 * side * np.sin(turn / 2),
    }


def frame_face(beat: Track, side: float) -> Pose:
    """Flat hands frame the face: one above and one below, changing places with the beat."""
    change = 0.5 + 0.5 * side * _sharp(beat, 2.0)
    pose = _sway(beat, side, 0.8)
    for hand, high in (("left", change), ("right", 1 - change)):
        pose |= {
            f"{hand}_out": 0.14 + 0.16 * high,
            f"{hand}_up": -0.02 + 0.5 * high,
            f"{hand}_forward": 0.46 - 0.18 * high,
            f"{hand}_elbow": 0.55 + 0.4 * high,
            f"{hand}_curl": 0.05,
            f"{hand}_flex": 0.25,
        }
    return {**pose, "head_roll": 0.14 * (change - 0.5), "head_yaw": 0.2 * (change - 0.5), "smile": 0.75}


def push(beat: Track, side: float) -> Pose:
    """Both palms push away on each beat, to one side, to the middle, to the other."""
    out = 0.5 - 0.5 * np.cos(2 * np.pi * beat)
    aim = side * np.sin(2 * np.pi * beat / 4)
    pose = _sway(beat, side, 0.7)
    for hand, sign in (("left", 1.0), ("right", -1.0)):
        pose |= {
            f"{hand}_out": 0.05 + 0.3 * sign * aim * out,
            f"{hand}_up": -0.16 + 0.12 * out,
            f"{hand}_forward": 0.46 + 0.42 * out,
            f"{hand}_elbow": 0.3,
            f"{hand}_curl": 0.08,
            f"{hand}_flex": 0.6,
        }
    return {**pose, "twist": 0.25 * aim, "head_yaw": 0.15 * aim, "lean": 0.03 * out}


def snap(beat: Track, side: float) -> Pose:
    """Fingers snap low at one side, then high at the other; the body leans after them."""
    over = side * _sharp(beat, 2.0)
    pose = _sway(beat, side, 1.1)
    for hand, toward in (("left", 0.5 + 0.5 * over), ("right", 0.5 - 0.5 * over)):
        pose |= {
            f"{hand}_out": 0.22 + 0.5 * toward,
            f"{hand}_up": -0.5 + 0.42 * toward,
            f"{hand}_forward": 0.42 - 0.1 * toward,
            f"{hand}_elbow": 0.3 + 0.4 * toward,
            f"{hand}_curl": 0.75 - 0.3 * np.cos(2 * np.pi * beat) ** 2,
            f"{hand}_flex": 0.5 * toward,
        }
    return {**pose, "twist": 0.16 * over, "head_yaw": 0.25 * over, "head_pitch": 0.05 * np.cos(2 * np.pi * beat)}


def shimmy(beat: Track, side: float) -> Pose:
    """Shoulders go forward in turn, twice a beat, elbows bent."""
    shake = side * np.sin(4 * np.pi * beat)
    return {
        **_sway(beat, side, 0.9),
        "twist": 0.14 * shake,
        "shrug": 0.008 * np.cos(4 * np.pi * beat),
        "left_out": 0.34 + 0.03 * shake,
        "right_out": 0.34 - 0.03 * shake,
        "left_up": -0.34,
        "right_up": -0.34,
        "left_forward": 0.44 - 0.06 * shake,
        "right_forward": 0.44 + 0.06 * shake,
        "left_elbow": 0.5,
        "right_elbow": 0.5,
        "left_curl": 0.15,
        "right_curl": 0.15,
        "left_flex": 0.4,
        "right_flex": 0.4,
        "head_yaw": -0.1 * shake,
        "lean": 0.05 + 0.04 * np.sin(np.pi * beat / 2),
        "smile": 0.9,
    }
