"""Labelled actions, named as UCF101 names them where it has them; each is a cycle that a person repeats at their own pace.

Objects (club, racket, rope, hoop) are not drawn: a class is told by the motion alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from pipelines.performers.pose import INDEX, REST, Pose, Track
from pipelines.performers.sports import golf_swing, punch, tai_chi, tennis_swing
from pipelines.performers.steps import place_feet, standing, steps_along
from pipelines.performers.timing import bump, follow, full_pose, keyed

Cycle = Callable[[Track, np.random.Generator], Pose]
"""(time in cycles [T], random numbers) -> what differs from REST."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Action:
    """How long one repetition takes, and what is done in it."""

    cycle: Cycle
    seconds: tuple[float, float]
    turned: tuple[float, float] = (-0.25, 0.25)  # the body's heading, rad; > 0 to the person's left
    quick: float = 1.25  # how closely hands follow, relative to a dancer's


def _both(**values: Track | float) -> Pose:
    return {f"{side}_{name}": value for name, value in values.items() for side in ("left", "right")}


def _stance(out: Track | float, toes: float = 0.3, ahead: float = 0.0) -> Pose:
    """Feet this far from the middle, toes out."""
    return {"left_foot_x": out, "right_foot_x": -out, "left_foot_yaw": toes, "right_foot_yaw": -toes} | _both(
        foot_z=REST["left_foot_z"] + ahead
    )


def jumping_jack(time: Track, rng: np.random.Generator) -> Pose:
    """Jump the feet apart while the arms go overhead, and back together."""
    apart = keyed(time, [(0.0, 0.0), (0.14, 0.0), (0.4, 1.0), (0.6, 1.0), (0.9, 0.0)], 1.0)
    t = np.mod(time, 1.0)
    air = bump(t, 0.12, 0.42) + bump(t, 0.6, 0.92)
    crouch = bump(t, -0.08, 0.17) + bump(t, 0.92, 1.17) + 0.8 * bump(t, 0.38, 0.66)
    arms = keyed(time, [(0.05, -1.3), (0.42, 1.22), (0.55, 1.22), (0.92, -1.3)], 1.0)
    feet = _stance(0.06 + 0.1 * apart, 0.2) | _both(lift=0.04 * air, heel=0.45 * air)
    return {
        "drop": 0.004 - 0.045 * air + 0.03 * crouch + 0.012 * apart,
        "lean": 0.03 + 0.05 * crouch,
        **_both(out=0.97 * np.cos(arms), up=0.97 * np.sin(arms), forward=0.08, elbow=0.35, curl=0.1),
        **feet,
    }


def squats(time: Track, rng: np.random.Generator) -> Pose:
    """Hips back and down, arms forward for balance, heels planted."""
    depth = float(rng.uniform(0.85, 1.05)) * keyed(time, [(0.08, 0.0), (0.46, 1.0), (0.54, 1.0), (0.92, 0.0)], 1.0)
    return {
        "drop": 0.004 + 0.19 * depth,
        "forward": -0.045 * depth,
        "tilt": 0.3 * depth,
        "lean": 0.22 * depth,
        "head_pitch": 0.12 * depth,
        **_both(out=0.2 - 0.12 * depth, up=-0.9 + 0.88 * depth, forward=0.14 + 0.78 * depth, curl=0.2, elbow=0.25 * depth),
        **_stance(0.13, 0.5),
        "smile": 0.25,
    }


def jump_rope(time: Track, rng: np.random.Generator) -> Pose:
    """Small hops on the balls of the feet, wrists circling beside the hips."""
    t = np.mod(time, 1.0)
    air = bump(t, 0.2, 0.8)
    turn = 2 * np.pi * time
    return {
        "drop": 0.016 - 0.032 * air + 0.01 * bump(t, -0.3, 0.3) + 0.01 * bump(t, 0.7, 1.3),
        **_both(lift=0.03 * air, heel=0.3 + 0.2 * air),
        **_stance(0.058, 0.12),
        **_both(out=0.5 + 0.05 * np.cos(turn), up=-0.58 + 0.06 * np.sin(turn), forward=0.34, elbow=0.12, curl=0.9),
        "head_pitch": -0.03,
    } | _both(foot_z=0.05)


_BACK = 0.15  # body heights that a lunge starts behind the middle, so that its step stays in view


def lunges(time: Track, rng: np.random.Generator) -> Pose:
    """A long step forward with one leg, down until the back knee is near the floor, and push back; then the other leg."""
    pose: Pose = {}
    out = keyed(time, [(0.04, 0.0), (0.28, 1.0), (0.68, 1.0), (0.94, 0.0)], 1.0)
    t, lead_left = np.mod(time, 1.0), np.floor(time) % 2 == 0
    swing = bump(t, 0.04, 0.28) + bump(t, 0.68, 0.94)
    deep = keyed(time, [(0.1, 0.0), (0.44, 1.0), (0.52, 1.0), (0.82, 0.0)], 1.0)
    for side, leads in (("left", lead_left), ("right", ~lead_left)):
        pose[f"{side}_ahead"] = np.where(leads, 0.34 * out, 0.0) - _BACK
        pose[f"{side}_lift"] = np.where(leads, 0.045 * swing, 0.0)
        pose[f"{side}_heel"] = np.where(leads, 0.0, 0.85 * keyed(time, [(0.06, 0.0), (0.3, 1.0), (0.66, 1.0), (0.92, 0.0)], 1.0))
    return pose | {
        "ahead": 0.17 * out - _BACK,
        "drop": 0.004 + 0.15 * deep,
        "lean": 0.06 * deep,
        **_both(out=0.3, up=-0.6, forward=0.05, elbow=0.72, curl=0.5),  # hands on the hips
        "smile": 0.25,
        "left_foot_x": 0.065,
        "right_foot_x": -0.065,
        "left_foot_yaw": 0.08,
        "right_foot_yaw": -0.08,
    }


def hula_hoop(time: Track, rng: np.random.Generator) -> Pose:
    """Hips circle over planted feet, trunk against them, arms kept out of the way."""
    turn = 2 * np.pi * time
    return {
        "hip_out": 0.05 * np.sin(turn),
        "forward": 0.035 * np.cos(turn),
        "hip_roll": 0.09 * np.sin(turn),
        "tilt": -0.1 * np.cos(turn),
        "bend": 0.2 * np.sin(turn - 0.3),
        "lean": 0.2 * np.cos(turn - 0.3) + 0.02,
        "drop": 0.03,
        **_both(up=-0.08, forward=0.3, elbow=0.55, curl=0.3),
        "left_out": 0.62 - 0.06 * np.sin(turn),
        "right_out": 0.62 + 0.06 * np.sin(turn),
        "head_roll": -0.06 * np.sin(turn),
        "smile": 0.75,
        **_stance(0.12, 0.3),
    }


def parade(time: Track, rng: np.random.Generator) -> Pose:
    """Marching on the spot: knees high, arms straight from the shoulder, opposite to the legs."""
    t = np.mod(time, 1.0)
    pose: Pose = {}
    for side, at in (("left", 0.02), ("right", 0.52)):
        up = bump(t, at, at + 0.46)
        pose |= {f"{side}_lift": 0.15 * up, f"{side}_heel": 0.5 * up, f"{side}_foot_z": 0.052 + 0.07 * up}
    swing = np.sin(2 * np.pi * (time - 0.02 - 0.115 + 0.115))
    return pose | {
        "shift": -0.014 * swing,
        "hip_roll": 0.04 * swing,
        "twist": 0.08 * swing,
        "left_forward": 0.16 - 0.5 * swing,
        "right_forward": 0.16 + 0.5 * swing,
        "left_up": -0.87 + 0.22 * np.clip(-swing, 0, 1),
        "right_up": -0.87 + 0.22 * np.clip(swing, 0, 1),
        "left_foot_x": 0.068,
        "right_foot_x": -0.068,
        "left_foot_yaw": 0.1,
        "right_foot_yaw": -0.1,
        **_both(out=0.14, curl=0.95),
        "smile": 0.1,
        "lean": -0.02,
    }


def salsa_spin(time: Track, rng: np.random.Generator) -> Pose:
    """A full turn on quick steps with one hand led overhead, then basic steps forward and back."""
    way = float(rng.choice([1.0, -1.0]))

    def path(at: Track) -> tuple[Track, Track, Track]:
        whole, part = np.floor(at), np.mod(at, 1.0)
        heading = way * 2 * np.pi * (whole + keyed(part, [(0.0, 0.0), (0.06, 0.0), (0.5, 1.0), (1.0, 1.0)]))
        rock = 0.07 * (bump(part, 0.5, 0.76) - bump(part, 0.74, 1.0))
        return 0 * at, rock, heading

    step, start = 1 / 14, float(np.floor(time[0])) - 1.0
    feet = place_feet(steps_along(path, start, float(time[-1]) + 0.5, step, 0.05, 0.02), time, standing(path, start, 0.05))
    _, z, heading = path(time)
    beat = np.sin(np.pi * (time - start) / step)
    part = np.mod(time, 1.0)
    raised = keyed(part, [(0.0, 0.2), (0.1, 1.0), (0.44, 1.0), (0.62, 0.0), (0.9, 0.0), (1.0, 0.2)])
    lead, rest = ("left", "right") if way > 0 else ("right", "left")
    return feet | {
        "forward": z,
        "yaw": heading,
        "head_yaw": 0.5 * way * bump(part, 0.02, 0.2),
        "hip_out": 0.022 * beat,
        "hip_roll": 0.07 * beat,
        "bend": 0.06 * beat,
        "drop": 0.02,
        f"{lead}_out": 0.3 - 0.16 * raised,
        f"{lead}_up": -0.45 + 1.3 * raised,
        f"{lead}_forward": 0.5 - 0.3 * raised,
        f"{lead}_elbow": 0.3 + 0.5 * raised,
        f"{rest}_out": 0.24 + 0.1 * beat * (1 - raised),
        f"{rest}_up": -0.45,
        f"{rest}_forward": 0.5,
        "smile": 0.8,
    }


ACTIONS: dict[str, Action] = {
    "BodyWeightSquats": Action(cycle=squats, seconds=(1.9, 2.7), turned=(-0.7, 0.7)),
    "GolfSwing": Action(cycle=golf_swing, seconds=(3.4, 4.2), turned=(-0.3, 0.3), quick=1.9),
    "HulaHoop": Action(cycle=hula_hoop, seconds=(0.75, 1.0)),
    "JumpRope": Action(cycle=jump_rope, seconds=(0.45, 0.56), quick=1.6),
    "JumpingJack": Action(cycle=jumping_jack, seconds=(1.0, 1.25), quick=1.6),
    "Lunges": Action(cycle=lunges, seconds=(1.9, 2.5), turned=(0.5, 0.9)),
    "MilitaryParade": Action(cycle=parade, seconds=(0.95, 1.1), turned=(-0.5, 0.5), quick=1.5),
    "Punch": Action(cycle=punch, seconds=(2.4, 3.0), turned=(-0.15, 0.25), quick=2.2),
    "SalsaSpin": Action(cycle=salsa_spin, seconds=(4.4, 5.0), turned=(-0.15, 0.15)),
    "TaiChi": Action(cycle=tai_chi, seconds=(5.0, 6.5)),
    "TennisSwing": Action(cycle=tennis_swing, seconds=(2.0, 2.6), quick=1.9),
}


def _turned(pose: Pose, heading: float, frames: int) -> Pose:
    """The pose, given as if facing the camera (feet by *_ahead too), with the whole person turned by `heading`."""
    cos, sin = np.cos(heading), np.sin(heading)

    def track(name: str) -> Track:
        return np.broadcast_to(np.asarray(pose.get(name, REST.get(name, 0.0)), float), (frames,))

    turned = {name: value for name, value in pose.items() if not name.endswith("ahead")}
    for x, z, ahead in (("shift", "forward", "ahead"), *((f"{s}_foot_x", f"{s}_foot_z", f"{s}_ahead") for s in ("left", "right"))):
        across, along = track(x), track(z) + track(ahead)
        turned |= {x: across * cos + along * sin, z: along * cos - across * sin}
    for name in ("yaw", "left_foot_yaw", "right_foot_yaw"):
        turned[name] = track(name) + heading
    return turned


def perform_action(name: str, rng: np.random.Generator, seconds: Track, fps: Fraction) -> Track:
    """[T, P] poses of somebody who repeats an action; the clip begins anywhere in it."""
    action = ACTIONS[name]
    duration, heading, begun = (float(rng.uniform(*span)) for span in (action.seconds, action.turned, (0.0, 2.0)))
    if name == "Lunges" and rng.random() < 0.5:
        heading = -heading
    pose = action.cycle(seconds / duration + begun + 8.0, rng)
    poses = full_pose(len(seconds), _turned(pose, heading, len(seconds)))
    poses[:, INDEX["head_yaw"]] -= 0.35 * heading
    return follow(poses, fps, action.quick, exact=("shift", "forward", "drop", "yaw"))
