"""A talk: somebody stands, shifts their weight, takes a step now and then, and speaks with mouth, head and both hands.

Speech is phrases with pauses between them. Hands rest in a pause and gesture in a phrase: preparation, stroke, hold; the
strokes fall on stressed words, and head and brows go with them (McNeill, Hand and Mind, 1992).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from pipelines.performers.pose import INDEX, Pose, Track
from pipelines.performers.steps import place_feet, standing, steps_along
from pipelines.performers.timing import between, bump, follow, full_pose, glide

_HORIZON_S = 6.0  # plans reach this far past the clip, so that a longer clip begins the same
_STEP_S, _WIDTH = 0.42, 0.072

Hand = dict[str, float]
# Wrist (out, up, forward), elbow, curl, flex of one hand; the other mirrors it in a gesture of both.
_HANDS: dict[str, Hand] = {
    "open": {"out": 0.22, "up": -0.42, "forward": 0.62, "elbow": -0.20, "curl": 0.12, "flex": 0.5},
    "wide": {"out": 0.55, "up": -0.36, "forward": 0.5, "elbow": -0.05, "curl": 0.08, "flex": 0.5},
    "frame": {"out": 0.02, "up": -0.3, "forward": 0.7, "elbow": -0.15, "curl": 0.25, "flex": 0.7},
    "pinch": {"out": 0.1, "up": -0.2, "forward": 0.66, "elbow": -0.20, "curl": 0.6, "flex": 0.6},
    "raised": {"out": 0.32, "up": -0.02, "forward": 0.55, "elbow": -0.10, "curl": 0.15, "flex": 0.4},
    "heart": {"out": -0.22, "up": -0.24, "forward": 0.38, "elbow": -0.05, "curl": 0.2, "flex": 0.2},
    "away": {"out": 0.72, "up": -0.3, "forward": 0.42, "elbow": -0.10, "curl": 0.1, "flex": 0.5},
    "count": {"out": 0.12, "up": -0.06, "forward": 0.52, "elbow": -0.20, "curl": 0.75, "flex": 0.5},
}
_BOTH = ("open", "wide", "frame", "pinch", "raised")
_ONE = ("open", "pinch", "raised", "heart", "away", "count")
# How hands rest between phrases; each talk has its own habit.
_RESTS: tuple[Hand, ...] = (
    {"out": -0.16, "up": -0.56, "forward": 0.5, "elbow": -0.1, "curl": 0.45, "flex": 0.25},  # folded before the belly
    {"out": 0.2, "up": -0.9, "forward": 0.16, "elbow": 0.0, "curl": 0.3, "flex": 0.0},  # hanging
    {"out": 0.04, "up": -0.5, "forward": 0.58, "elbow": -0.2, "curl": 0.3, "flex": 0.35},  # ready
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Phrase:
    """One stretch of speech, in seconds."""

    start: float
    end: float
    stresses: tuple[float, ...]
    gestures: tuple[tuple[float, str, str], ...]
    """(start, hands: "left", "right" or "both", name in _HANDS)."""


def _phrases(rng: np.random.Generator, start: float, end: float) -> list[Phrase]:
    phrases, at = [], start - float(rng.uniform(0.0, 1.5))
    while at < end:
        length = float(rng.uniform(1.6, 4.2))
        stresses = np.cumsum(rng.uniform(0.38, 0.75, size=12)) + at
        begins, gestures = at + float(rng.uniform(-0.15, 0.25)), []
        while begins < at + length - 0.6:
            hands = ("both", "left", "right")[int(rng.choice(3, p=[0.62, 0.19, 0.19]))]
            names = _BOTH if hands == "both" else _ONE
            gestures.append((begins, hands, names[int(rng.integers(len(names)))]))
            begins += float(rng.uniform(0.75, 1.7))
        phrases.append(
            Phrase(start=at, end=at + length, stresses=tuple(float(s) for s in stresses if s < at + length - 0.1), gestures=tuple(gestures))
        )
        at += length + float(rng.uniform(0.3, 0.95))
    return phrases


def _plan_hand(phrases: list[Phrase], hand: str, rest: Hand) -> tuple[list[float], list[Hand]]:
    """When this hand changes its place, and to which."""
    starts, places = [-1e3], [rest]
    for phrase in phrases:
        for at, hands, name in phrase.gestures:
            starts.append(at)
            places.append(_HANDS[name] if hands in (hand, "both") else rest)
        starts.append(max(phrase.end - 0.1, starts[-1] + 0.05))
        places.append(rest)
    return starts, places


def _gestures(time: Track, phrases: list[Phrase], rests: tuple[Hand, Hand], liveliness: float) -> Pose:
    pose: Pose = {}
    beats = sum((_stroke(time, at) for phrase in phrases for at in phrase.stresses), np.zeros(len(time)))
    for hand, rest in zip(("left", "right"), rests, strict=True):
        starts, places = _plan_hand(phrases, hand, rest)
        active = glide(time, starts, [0.0 if place is rest else 1.0 for place in places], 0.4)
        for name in rest:
            pose[f"{hand}_{name}"] = glide(time, starts, [place[name] for place in places], 0.5)
        stroke = liveliness * beats * (0.12 + 0.88 * active)
        pose[f"{hand}_up"] = pose[f"{hand}_up"] - 0.13 * stroke
        pose[f"{hand}_forward"] = pose[f"{hand}_forward"] + 0.07 * stroke
        pose[f"{hand}_flex"] = pose[f"{hand}_flex"] - 0.35 * stroke
    return pose


def _stroke(time: Track, at: float) -> Track:
    """A beat that is struck at `at`: a small lift before it (anticipation), down, and back."""
    return np.asarray(bump(time, at - 0.14, at + 0.3) - 0.55 * bump(time, at - 0.36, at))


def _speech(time: Track, phrases: list[Phrase], rate_hz: float) -> Pose:
    """Lips open with each syllable and close in the pauses; the head nods where the voice stresses."""
    loud, nod = np.zeros(len(time)), np.zeros(len(time))
    for phrase in phrases:
        loud += between(time, phrase.start, phrase.start + 0.12) * (1 - between(time, phrase.end - 0.15, phrase.end))
        for at in phrase.stresses:
            nod += bump(time, at - 0.12, at + 0.34)
    syllable = 0.5 + 0.5 * np.sin(2 * np.pi * rate_hz * time + 1.7 * np.sin(2 * np.pi * 0.83 * time))
    word = 0.55 + 0.45 * np.sin(2 * np.pi * 1.27 * time + 0.8)
    return {
        "mouth_open": np.clip(loud * (0.1 + 0.75 * syllable * word), 0, 1),
        "head_pitch": 0.075 * nod - 0.02,
        "smile": 0.42 - 0.2 * loud,
    }


def _stroll(rng: np.random.Generator, start: float, end: float) -> tuple[list[float], list[tuple[float, float, float]]]:
    """Where the speaker stands (x, z, heading) and from when on: a step or two every few seconds."""
    starts, places = [-1e3], [(float(rng.uniform(-0.02, 0.02)), 0.0, float(rng.uniform(-0.2, 0.2)))]
    at = start + float(rng.uniform(1.0, 4.0))
    while at < end:
        starts.append(at)
        places.append((float(rng.uniform(-0.09, 0.09)), float(rng.uniform(-0.06, 0.06)), float(rng.uniform(-0.42, 0.42))))
        at += float(rng.uniform(2.8, 6.5))
    return starts, places


def _attention(rng: np.random.Generator, time: Track, end: float) -> Pose:
    """The head goes round the audience; the weight goes from leg to leg."""
    starts, looks, leans = [-1e3], [float(rng.uniform(-0.25, 0.25))], [float(rng.choice([-1.0, 1.0]))]
    at = float(time[0]) + float(rng.uniform(0.4, 2.0))
    while at < end:
        starts.append(at)
        looks.append(float(rng.uniform(-0.45, 0.45)))
        leans.append(float(rng.uniform(-1.0, 1.0)))
        at += float(rng.uniform(1.1, 2.9))
    look, weight = glide(time, starts, looks, 0.55), glide(time, starts, leans, 1.0)
    idle = np.sin(2 * np.pi * 0.21 * time)
    return {
        "head_yaw": look,
        "head_roll": -0.05 * weight + 0.015 * idle,
        "hip_out": 0.02 * weight + 0.003 * idle,
        "hip_roll": 0.055 * weight,
        "bend": 0.05 * weight,
        "lean": 0.03 + 0.012 * np.sin(2 * np.pi * 0.13 * time),
        "twist": 0.25 * look,
        "drop": 0.002 + 0.003 * np.abs(weight),
    }


def talk(rng: np.random.Generator, seconds: Track, fps: Fraction) -> Track:
    """[T, P] poses of a speaker."""
    streams = rng.spawn(3)
    rests = _RESTS[int(rng.integers(len(_RESTS)))]
    other = _RESTS[1] if rng.random() < 0.2 else rests
    liveliness, rate_hz = float(rng.uniform(0.75, 1.2)), float(rng.uniform(3.6, 4.8))
    start, end = float(seconds[0]), float(seconds[-1]) + _HORIZON_S
    phrases = _phrases(streams[0], start, end)
    moves, places = _stroll(streams[1], start, end)

    def path(time: Track) -> tuple[Track, Track, Track]:
        x, z, heading = (glide(time, moves, [place[i] for place in places], 1.0) for i in range(3))
        return x, z, heading

    feet = place_feet(steps_along(path, start - 2.0, end, _STEP_S, _WIDTH), seconds, standing(path, start - 2.0, _WIDTH))
    pose = _attention(streams[2], seconds, end) | _gestures(seconds, phrases, (rests, other), liveliness) | feet
    poses = full_pose(len(seconds), pose | _speech(seconds, phrases, rate_hz))
    x, z, heading = path(seconds)
    for name, value in (("shift", x), ("forward", z), ("yaw", heading), ("head_yaw", -0.6 * heading)):
        poses[:, INDEX[name]] += value
    return follow(poses, fps, 1.15, exact=("shift", "forward", "mouth_open"))
