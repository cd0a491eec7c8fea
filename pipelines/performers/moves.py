"""Dance moves: where wrists, hips and head go, as functions of the beat; the feet are in footwork.py, poses are those of pose.py."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipelines.performers.hand_moves import floss, frame_face, lasso, push, shimmy, snap
from pipelines.performers.pose import Pose, Track

Move = Callable[[Track, float], Pose]
"""(beat [T], side: +1 or -1) -> what differs from REST."""


def _wave(beat: Track, period: float, phase: float = 0.0) -> Track:
    """A sine that lingers at its ends, as weight does on a planted foot."""
    value = np.sin(2 * np.pi * (beat / period + phase))
    return np.asarray(np.tanh(1.6 * value) / np.tanh(1.6))


def _pulse(beat: Track, period: float = 1.0) -> Track:
    """0..1, highest on the beat: the bounce of the knees."""
    return np.asarray(0.5 + 0.5 * np.cos(2 * np.pi * beat / period))


def _legs(beat: Track, side: float, amount: float = 1.0) -> Pose:
    """Weight from foot to foot, knees giving on the beat."""
    sway = side * _wave(beat, 2.0)
    return {
        "shift": 0.022 * amount * sway,
        "hip_out": 0.02 * amount * sway,
        "hip_roll": -0.1 * amount * sway,
        "bend": 0.09 * amount * sway,
        "drop": 0.014 + 0.018 * amount * _pulse(beat),
        "head_roll": -0.06 * sway,
        "yaw": 0.1 * side * np.sin(2 * np.pi * beat / 8),
    }


def groove(beat: Track, side: float) -> Pose:
    """Elbows bent, fists swinging against the hips."""
    swing = side * _wave(beat, 2.0, 0.1)
    return {
        **_legs(beat, side),
        "left_out": 0.3 + 0.1 * swing,
        "right_out": 0.3 - 0.1 * swing,
        "left_up": -0.42 + 0.16 * swing,
        "right_up": -0.42 - 0.16 * swing,
        "left_forward": 0.5 + 0.1 * swing,
        "right_forward": 0.5 - 0.1 * swing,
        "left_curl": 0.8,
        "right_curl": 0.8,
        "twist": 0.14 * swing,
    }


def side_to_side(beat: Track, side: float) -> Pose:
    """The body goes from side to side; arms swing along."""
    sway = side * _wave(beat, 4.0)
    return {
        **_legs(beat, side, 0.6),
        "shift": 0.03 * sway,
        "left_out": 0.42 + 0.32 * sway,
        "right_out": 0.42 - 0.32 * sway,
        "left_up": -0.62 + 0.3 * sway,
        "right_up": -0.62 - 0.3 * sway,
        "left_forward": 0.35,
        "right_forward": 0.35,
        "left_flex": 0.3,
        "right_flex": 0.3,
        "yaw": 0.22 * sway,
    }


def arm_wave(beat: Track, side: float) -> Pose:
    """A wave that runs from one hand through the shoulders into the other."""

    def at(lag: float) -> Track:
        return np.asarray(np.sin(2 * np.pi * (beat / 4 - lag)))

    first, last = ("right", "left") if side > 0 else ("left", "right")
    return {
        **_legs(beat, side, 0.5),
        "left_out": 0.92,
        "right_out": 0.92,
        "left_forward": 0.12,
        "right_forward": 0.12,
        f"{first}_up": 0.02 + 0.34 * at(0),
        f"{first}_flex": 0.8 * at(-0.14),
        f"{first}_elbow": 0.5 + 0.5 * at(0.12),
        f"{last}_up": 0.02 + 0.34 * at(0.5),
        f"{last}_flex": 0.8 * at(0.64),
        f"{last}_elbow": 0.5 + 0.5 * at(0.38),
        "bend": side * 0.1 * at(0.25),
        "shrug": 0.012 * at(0.25),
        "left_curl": 0.05,
        "right_curl": 0.05,
        "head_yaw": 0.3 * side * at(0.2),
    }


def overhead(beat: Track, side: float) -> Pose:
    """Both arms up, swaying like grass."""
    sway = side * _wave(beat, 2.0)
    return {
        **_legs(beat, side, 1.2),
        "left_out": 0.3 + 0.18 * sway,
        "right_out": 0.3 - 0.18 * sway,
        "left_up": 0.7,
        "right_up": 0.7,
        "left_forward": 0.15,
        "right_forward": 0.15,
        "left_elbow": 0.9,
        "right_elbow": 0.9,
        "left_flex": 0.4 * sway,
        "right_flex": -0.4 * sway,
        "left_curl": 0.05,
        "right_curl": 0.05,
        "smile": 0.9,
        "mouth_open": 0.25,
    }


def point(beat: Track, side: float) -> Pose:
    """One arm points to the sky across the body and back to the hip; the other hand rests on the hip."""
    up = 0.5 + 0.5 * _wave(beat, 2.0)
    lead, rest = ("left", "right") if side > 0 else ("right", "left")
    return {
        **_legs(beat, side, 1.1),
        f"{lead}_out": 0.02 + 0.72 * up,
        f"{lead}_up": -0.6 + 1.22 * up,
        f"{lead}_forward": 0.42 - 0.2 * up,
        f"{lead}_elbow": 0.4,
        f"{lead}_curl": 0.45,
        f"{rest}_out": 0.3,
        f"{rest}_up": -0.62,
        f"{rest}_forward": 0.02,
        f"{rest}_elbow": 0.7,
        f"{rest}_curl": 0.5,
        "head_yaw": side * (0.45 * up - 0.15),
        "head_pitch": -0.1 * up,
        "yaw": side * (0.25 * up - 0.12),
        "twist": side * 0.16 * up,
    }


def hips(beat: Track, side: float) -> Pose:
    """Hands on the hips, which roll."""
    turn = 2 * np.pi * beat / 2
    return {
        **_legs(beat, side, 0.7),
        "hip_out": 0.034 * side * np.sin(turn),
        "hip_roll": -0.16 * side * np.sin(turn),
        "bend": 0.16 * side * np.sin(turn),
        "lean": 0.05 * np.cos(turn),
        "left_out": 0.3,
        "right_out": 0.3,
        "left_up": -0.6,
        "right_up": -0.6,
        "left_forward": 0.04,
        "right_forward": 0.04,
        "left_elbow": 0.75,
        "right_elbow": 0.75,
        "left_curl": 0.5,
        "right_curl": 0.5,
        "head_roll": 0.1 * side * np.sin(turn),
    }


def clap(beat: Track, side: float) -> Pose:
    """Hands open wide and meet in front of the chest on every second beat."""
    open_ = 0.5 - 0.5 * np.cos(2 * np.pi * beat / 2)
    reach: Pose = {}
    for hand in ("left", "right"):
        reach |= {
            f"{hand}_out": -0.27 + 0.85 * open_,
            f"{hand}_up": -0.12 + 0.2 * open_,
            f"{hand}_forward": 0.62 - 0.3 * open_,
            f"{hand}_curl": 0.05,
            f"{hand}_elbow": 0.35,
            f"{hand}_flex": 0.5,
        }
    return {**_legs(beat, side), **reach, "smile": 0.8, "mouth_open": 0.2 * (1 - open_)}


def roll(beat: Track, side: float) -> Pose:
    """Forearms roll around each other in front of the chest."""
    turn = 2 * np.pi * beat
    return {
        **_legs(beat, side),
        "left_out": -0.1,
        "right_out": -0.1,
        "left_up": -0.3 + 0.16 * np.sin(turn),
        "right_up": -0.3 - 0.16 * np.sin(turn),
        "left_forward": 0.52 + 0.14 * np.cos(turn),
        "right_forward": 0.52 - 0.14 * np.cos(turn),
        "left_elbow": 0.6,
        "right_elbow": 0.6,
        "left_curl": 0.85,
        "right_curl": 0.85,
        "yaw": 0.2 * side * np.sin(turn / 8),
    }


def swing(beat: Track, side: float) -> Pose:
    """Both arms swing to one side, hips to the other."""
    sway = side * _wave(beat, 2.0)
    return {
        **_legs(beat, side),
        "hip_out": -0.03 * sway,
        "shift": -0.012 * sway,
        "left_out": 0.12 + 0.5 * sway,
        "right_out": 0.12 - 0.5 * sway,
        "left_up": -0.68 + 0.12 * sway,
        "right_up": -0.68 - 0.12 * sway,
        "left_forward": 0.34,
        "right_forward": 0.34,
        "left_curl": 0.7,
        "right_curl": 0.7,
        "head_yaw": -0.25 * sway,
        "twist": 0.22 * sway,
    }


def hand_to_head(beat: Track, side: float) -> Pose:
    """One hand behind the head, the other draws a line outwards."""
    out = 0.5 + 0.5 * _wave(beat, 4.0)
    lead, rest = ("left", "right") if side > 0 else ("right", "left")
    return {
        **_legs(beat, side),
        f"{lead}_out": 0.16,
        f"{lead}_up": 0.5,
        f"{lead}_forward": 0.08,
        f"{lead}_elbow": 1.0,
        f"{lead}_curl": 0.3,
        f"{rest}_out": 0.3 + 0.55 * out,
        f"{rest}_up": -0.55 + 0.35 * out,
        f"{rest}_forward": 0.3,
        f"{rest}_flex": 0.5 * out,
        f"{rest}_curl": 0.08,
        "head_roll": -0.14 * side,
        "yaw": side * 0.3 * (out - 0.5),
        "smile": 0.7,
    }


def look_around(beat: Track, side: float) -> Pose:
    """A half turn to the side and back, arms loose."""
    turn = np.sin(2 * np.pi * beat / 8)
    return {
        **_legs(beat, side, 0.8),
        "yaw": 0.55 * side * turn,
        "head_yaw": -0.2 * side * turn,
        "left_out": 0.3,
        "right_out": 0.3,
        "left_up": -0.66 + 0.1 * turn,
        "right_up": -0.66 - 0.1 * turn,
        "left_forward": 0.3,
        "right_forward": 0.3,
    }


MOVES: tuple[Move, ...] = (
    groove,
    side_to_side,
    arm_wave,
    overhead,
    point,
    hips,
    clap,
    roll,
    swing,
    hand_to_head,
    look_around,
    floss,
    lasso,
    frame_face,
    push,
    snap,
    shimmy,
)
