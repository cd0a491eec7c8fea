"""Footfalls: where each foot is set down and when. Between two of them a foot stands still; what moves is the body.

# T = frames; times in seconds or in beats, whatever the caller counts in; places in body heights on the floor
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipelines.performers.pose import REST, Pose, Track
from pipelines.performers.timing import between, bump

Side = Literal["left", "right"]
Path = Callable[[Track], tuple[Track, Track, Track]]
"""times [n] -> (x, z, heading) of the body [n] each."""

SIDES: tuple[tuple[Side, float], ...] = (("left", 1.0), ("right", -1.0))
_TOE_OUT_RAD = 0.16  # of a walking foot
_BALL_AHEAD = 0.03  # of the body, when the foot bears it


@dataclass(frozen=True, kw_only=True, slots=True)
class Footfall:
    """One foot leaves the floor at `start` and stands at (x, z), turned by `yaw`, from `end` on."""

    side: Side
    start: float
    end: float
    x: float
    z: float
    yaw: float
    height: float = 0.03  # of the ball of the foot in mid-swing
    roll: float = 0.0  # 1: pushes off with the toes and lands on the heel, as in a walk; 0: flat


def fall(side: Side, start: float, end: float, out: float = 0.0, ahead: float = 0.0, height: float = 0.03, roll: float = 0.2) -> Footfall:
    """A footfall relative to where that foot is in REST: `out` to the person's side, `ahead` toward the camera."""
    sign = 1.0 if side == "left" else -1.0
    x, z, yaw = (REST[f"{side}_{name}"] for name in ("foot_x", "foot_z", "foot_yaw"))
    return Footfall(side=side, start=start, end=end, x=x + sign * out, z=z + ahead, yaw=yaw, height=height, roll=roll)


def place_feet(falls: Sequence[Footfall], time: Track, stance: Pose | None = None) -> Pose:
    """Tracks of both feet; `stance` says where they stand before the first footfall (REST where it does not).

    Footfalls of one foot must be in order and not overlap.
    """
    first = {**REST, **(stance or {})}
    tracks: Pose = {}
    for side, _ in SIDES:
        x, z, yaw, lift, heel = (np.full(len(time), first[f"{side}_{name}"]) for name in ("foot_x", "foot_z", "foot_yaw", "lift", "heel"))
        here = [float(np.ravel(first[f"{side}_{name}"])[0]) for name in ("foot_x", "foot_z", "foot_yaw")]
        for step in (step for step in falls if step.side == side):
            swing, length = between(time, step.start, step.end), step.end - step.start
            for track, before, after in zip((x, z, yaw), here, (step.x, step.z, step.yaw), strict=True):
                track += (after - before) * swing
            here = [step.x, step.z, step.yaw]
            lift += step.height * bump(time, step.start, step.end)
            push = between(time, step.start - 0.7 * length, step.start + 0.25 * length) - between(
                time, step.start + 0.1 * length, step.start + 0.75 * length
            )
            heel += step.roll * (0.9 * push - 0.2 * bump(time, step.start + 0.6 * length, step.end + 0.3 * length))
        tracks |= {f"{side}_foot_x": x, f"{side}_foot_z": z, f"{side}_foot_yaw": yaw, f"{side}_lift": lift, f"{side}_heel": heel}
    return tracks


def _foothold(path: Path, at: float, sign: float, width: float) -> tuple[float, float, float]:
    x, z, heading = (float(value[0]) for value in path(np.array([at])))
    cos, sin = np.cos(heading), np.sin(heading)
    return x + sign * width * cos + _BALL_AHEAD * sin, z - sign * width * sin + _BALL_AHEAD * cos, heading + sign * _TOE_OUT_RAD


def standing(path: Path, at: float, width: float) -> Pose:
    """Where both feet stand under a body on its path."""
    tracks: Pose = {}
    for side, sign in SIDES:
        x, z, yaw = _foothold(path, at, sign, width)
        tracks |= {f"{side}_foot_x": x, f"{side}_foot_z": z, f"{side}_foot_yaw": yaw}
    return tracks


def steps_along(path: Path, start: float, end: float, step: float, width: float = 0.05, height: float = 0.025) -> list[Footfall]:
    """Steps, one every `step`, that keep the feet under a body which follows `path`; none while it rests.

    A foot lands where the body will be in the middle of the time that it stands there. The left foot swings first.
    """
    swing, falls = 0.74 * step, []
    here = {side: _foothold(path, start, sign, width) for side, sign in SIDES}
    for k in range(int(np.ceil((end - start) / step))):
        side, sign = SIDES[k % 2]
        lift_off = start + k * step
        x, z, yaw = goal = _foothold(path, lift_off + swing + (2 * step - swing) / 2, sign, width)
        moved = float(np.hypot(x - here[side][0], z - here[side][1]))
        if moved < 0.012 and abs(yaw - here[side][2]) < 0.1:
            continue
        body = _foothold(path, lift_off + 0.3 * swing, sign, width)
        forward = np.array([np.sin(here[side][2]), np.cos(here[side][2])])
        stride, trail = (float((np.array(place[:2]) - here[side][:2]) @ forward) for place in (goal, body))
        roll = float(np.clip(max(stride / 0.25, trail / 0.14), 0.15, 1.0))
        falls.append(Footfall(side=side, start=lift_off, end=lift_off + swing, x=x, z=z, yaw=yaw, height=height, roll=roll))
        here[side] = goal
    return falls


def landing_phase(time: Track, start: float, step: float) -> Track:
    """Phase of the gait of `steps_along`: 0 when the left foot lands, pi when the right one does."""
    return np.asarray(np.pi * (time - start - 0.74 * step) / step)
