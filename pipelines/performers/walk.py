"""Walking, and the fashion walk: toward the camera, a pose with the hand on the hip, a slow full turn, and away again."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from pipelines.performers.pose import INDEX, Pose, Track
from pipelines.performers.steps import landing_phase, place_feet, standing, steps_along
from pipelines.performers.timing import between, bump, follow, full_pose

_WIDTH = 0.036  # of a model's track: nearly on one line
_HORIZON_S = 4.0  # plans reach this far past the clip, so that a longer clip begins the same


@dataclass(frozen=True, kw_only=True, slots=True)
class Leg:
    """A stretch of the way: from `start` to `end` s the body goes `ahead` (body heights toward the camera) and turns by `turn`."""

    start: float
    end: float
    ahead: float = 0.0
    turn: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Halt:
    """A pose held from `start` to `end` s with the weight on one leg; `side` is +1 for the left one."""

    start: float
    end: float
    side: float
    akimbo: bool  # the hand of that side on the hip


def ramp(time: Track, start: float, end: float, soft: float) -> Track:
    """0..1 from start to end at a constant speed, which is gained and lost over `soft`."""

    def area(at: float) -> Track:
        return np.asarray(np.maximum(time - at, 0.0) ** 2 / 2)

    return np.asarray((area(start) - area(start + soft) - area(end - soft) + area(end)) / (soft * (end - start - soft)))


def along(legs: list[Leg], time: Track) -> tuple[Track, Track, Track]:
    """(x, z, heading) at the times of a way made of legs, which begins at z = 0."""
    z, heading = np.zeros(len(time)), np.zeros(len(time))
    for leg in legs:
        soft = min(0.5, (leg.end - leg.start) / 2.5)
        share = ramp(time, leg.start, leg.end, soft)
        z, heading = z + leg.ahead * share, heading + leg.turn * share
    return np.zeros(len(time)), z, heading


def gait(time: Track, phase: Track, speed: Track, sway: float = 1.0, swing: float = 1.0) -> Pose:
    """What hips, trunk and arms do in a walk: arms opposite to the legs, chest against the pelvis, weight over the standing leg.

    phase: of `landing_phase`.  speed: 0 at rest .. 1 at full walk, [T].  sway, swing: of hips and of arms, 1 = a model's.
    """
    forward, over = np.cos(phase) * speed, np.sin(phase) * speed
    return {
        "hip_out": 0.02 * sway * over,
        "hip_roll": 0.085 * sway * over,
        "bend": 0.03 * sway * over,
        "yaw": -0.13 * sway * forward,
        "twist": 0.24 * sway * forward,
        "head_yaw": -0.11 * sway * forward,
        "head_pitch": 0.012 * np.cos(2 * phase) * speed,
        "lean": 0.03 * speed,
        "drop": 0.001 + (0.002 + 0.019 * (0.5 + 0.5 * np.cos(2 * phase - 0.3))) * speed,  # lowest on two feet
        "left_forward": 0.14 - 0.3 * swing * forward,
        "right_forward": 0.14 + 0.3 * swing * forward,
        "left_out": 0.2 + 0.02 * over,
        "right_out": 0.2 - 0.02 * over,
        "left_up": -0.9 + 0.03 * forward,
        "right_up": -0.9 - 0.03 * forward,
        "smile": 0.35,
    }


def _show(rng: np.random.Generator, end: float) -> tuple[list[Leg], list[Halt]]:
    """Walk up, pose, turn slowly, pose, walk away, come back, and so on; the clip begins on the way up or in the first pose."""
    length, pace = float(rng.uniform(0.75, 0.95)), float(rng.uniform(0.44, 0.52))
    legs, halts = [Leg(start=-1e3, end=-1e3 + 1, ahead=-length)], []
    at = -float(rng.uniform(0.2, 2.2))
    while at < end:
        first, second, side = float(rng.uniform(1.2, 1.8)), float(rng.uniform(1.0, 1.5)), float(rng.choice([1.0, -1.0]))
        spin, way = float(rng.uniform(4.0, 5.0)), float(rng.choice([1.0, -1.0]))
        back = float(rng.choice([1.0, -1.0]))
        arrive = at + length / pace
        legs.append(Leg(start=at, end=arrive, ahead=length))
        turned = arrive + first
        legs.append(Leg(start=turned, end=turned + spin, turn=2 * np.pi * way))
        leave = turned + spin + second
        legs += [Leg(start=leave, end=leave + 1.5, turn=np.pi * back)]
        gone = leave + 1.3 + length / pace
        legs += [Leg(start=leave + 1.3, end=gone, ahead=-length)]
        legs += [Leg(start=gone, end=gone + 1.5, turn=np.pi * back)]
        halts.append(Halt(start=arrive - 0.2, end=turned + 0.1, side=side, akimbo=True))
        halts.append(Halt(start=turned + spin - 0.1, end=leave + 0.1, side=-side, akimbo=bool(rng.random() < 0.5)))
        at = gone + 1.4
    return legs, halts


def _pose_at_halt(poses: Track, time: Track, halt: Halt) -> None:
    """Shift the weight, tilt the hips, relax the other knee; a hand goes to the hip."""
    held = between(time, halt.start, halt.start + 0.7) * (1 - between(time, halt.end - 0.6, halt.end))
    bearing, free = ("left", "right") if halt.side > 0 else ("right", "left")
    change = {"hip_out": 0.026 * halt.side, "hip_roll": 0.1 * halt.side, "bend": 0.1 * halt.side, "head_roll": -0.07 * halt.side}
    change |= {f"{free}_heel": 0.32, "head_yaw": -0.12 * halt.side, "smile": 0.35}
    for name, amount in change.items():
        poses[:, INDEX[name]] += amount * held
    if halt.akimbo:
        hand = {"out": 0.3, "up": -0.6, "forward": 0.05, "elbow": 0.75, "curl": 0.5}
        for name, value in hand.items():
            column = INDEX[f"{bearing}_{name}"]
            poses[:, column] += (value - poses[:, column]) * held
        poses[:, INDEX[f"{bearing}_forward"]] += 0.12 * bump(time, halt.start, halt.start + 0.7)  # around the body, not through it


def fashion(rng: np.random.Generator, seconds: Track, fps: Fraction) -> Track:
    """[T, P] poses of a model."""
    step, sway, swing = float(rng.uniform(0.46, 0.53)), float(rng.uniform(0.8, 1.15)), float(rng.uniform(0.7, 1.1))
    end = float(seconds[-1]) + _HORIZON_S
    legs, halts = _show(rng, end)

    def path(time: Track) -> tuple[Track, Track, Track]:
        return along(legs, time)

    start = float(seconds[0]) - 2.0
    feet = place_feet(steps_along(path, start, end, step, _WIDTH), seconds, standing(path, start, _WIDTH))
    x, z, heading = path(seconds)
    pace = np.abs(path(seconds + 0.05)[1] - path(seconds - 0.05)[1]) / 0.1
    speed = np.minimum(pace / 0.48, 1.0)
    turning = np.minimum(np.abs(path(seconds + 0.05)[2] - path(seconds - 0.05)[2]) / 0.1 / 2.0, 1.0)
    poses = full_pose(
        len(seconds), gait(seconds, landing_phase(seconds, start, step), np.maximum(speed, 0.35 * turning), sway, swing) | feet
    )
    for halt in halts:
        _pose_at_halt(poses, seconds, halt)
    poses[:, INDEX["shift"]] += x
    poses[:, INDEX["forward"]] += z
    poses[:, INDEX["yaw"]] += heading
    # The head looks where the turn goes, or stays with the camera until it cannot.
    ahead = path(seconds + 0.35)[2] - heading
    poses[:, INDEX["head_yaw"]] += 0.8 * np.clip(ahead, -0.6, 0.6)
    return follow(poses, fps, 1.2, exact=("shift", "forward", "yaw", "hip_out"))
