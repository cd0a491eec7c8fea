"""What the feet do in one phrase of a dance: footfalls on the beat, and the body that goes with them.

Every footwork begins and ends in the same stance, so that any may follow any. Times are beats.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from pipelines.performers.pose import REST, Pose, Track
from pipelines.performers.steps import SIDES, Footfall, Side, steps_along
from pipelines.performers.timing import between, bump, keyed

_SWING = 0.5  # beats that a foot is in the air
_QUICK = 0.36


@dataclass(frozen=True, kw_only=True, slots=True)
class Phrase:
    """Footfalls, what they ask of the body (added to the move's pose), the stance, and by how much the person has turned."""

    falls: list[Footfall]
    body: Callable[[Track], Pose]
    stance: Pose = field(default_factory=dict)
    turn: float = 0.0


def _place(side: Side, heading: float, out: float = 0.0, ahead: float = 0.0, toes: float | None = None) -> tuple[float, float, float]:
    """(x, z, yaw) of a foot: REST, moved `out` to the person's left and `ahead`, the person turned by `heading`."""
    x, z = REST[f"{side}_foot_x"] + out, REST[f"{side}_foot_z"] + ahead
    yaw = REST[f"{side}_foot_yaw"] if toes is None else toes
    return x * np.cos(heading) + z * np.sin(heading), z * np.cos(heading) - x * np.sin(heading), yaw + heading


def _fall(
    side: Side, start: float, heading: float, out: float = 0.0, ahead: float = 0.0, height: float = 0.03, beats: float = _SWING
) -> Footfall:
    x, z, yaw = _place(side, heading, out, ahead)
    return Footfall(side=side, start=start, end=start + beats, x=x, z=z, yaw=yaw, height=height, roll=0.3)


def _stance(heading: float) -> Pose:
    stance: Pose = {}
    for side, _ in SIDES:
        x, z, yaw = _place(side, heading)
        stance |= {f"{side}_foot_x": x, f"{side}_foot_z": z, f"{side}_foot_yaw": yaw}
    return stance


def _moved(heading: float, across: Track | float, ahead: Track | float) -> Pose:
    return {"shift": across * np.cos(heading) + ahead * np.sin(heading), "forward": ahead * np.cos(heading) - across * np.sin(heading)}


def _first(side: float) -> tuple[Side, Side]:
    return ("left", "right") if side > 0 else ("right", "left")


def stay(start: float, side: float, heading: float) -> Phrase:
    """Both feet planted, or one of them taps the beat."""
    lead, _ = _first(side)

    def body(beat: Track) -> Pose:
        return {"drop": 0.004 * bump(beat, start, start + 4)}

    tap = [_fall(lead, start + k + 0.25, heading, height=0.012, beats=0.4) for k in (0, 1, 2, 3)] if side > 0 else []
    return Phrase(falls=tap, body=body, stance=_stance(heading))


def step_touch(start: float, side: float, heading: float) -> Phrase:
    """Step to the side and close, step back and close."""
    lead, other = _first(side)
    reach = 0.1 * side
    falls = [
        _fall(lead, start + 0.1, heading, out=1.4 * reach),
        _fall(other, start + 1.1, heading, out=reach),
        _fall(other, start + 2.1, heading),
        _fall(lead, start + 3.1, heading),
    ]

    def body(beat: Track) -> Pose:
        over = between(beat, start, start + 1.2) - between(beat, start + 2.0, start + 3.3)
        return _moved(heading, 1.05 * reach * over, 0.0) | {"drop": 0.01 * bump(beat, start, start + 4)}

    return Phrase(falls=falls, body=body)


def march(start: float, side: float, heading: float) -> Phrase:
    """A knee up on every beat, weight on the other leg."""
    order = _first(side) * 2
    falls = [_fall(foot, start + k, heading, height=0.055, beats=0.7) for k, foot in enumerate(order)]

    def body(beat: Track) -> Pose:
        over = sum(((-1.0) ** k * bump(beat, start + k - 0.15, start + k + 0.85) for k in range(4)), 0 * beat)
        return _moved(heading, -0.02 * side * over, 0.0) | {"hip_roll": 0.06 * side * over}

    return Phrase(falls=falls, body=body)


def wide(start: float, side: float, heading: float) -> Phrase:
    """One foot steps out into a wide, low stance, and comes back at the end."""
    lead, _ = _first(side)
    falls = [_fall(lead, start + 0.1, heading, out=0.12 * side, height=0.025), _fall(lead, start + 3.3, heading, height=0.025)]

    def body(beat: Track) -> Pose:
        held = between(beat, start, start + 0.8) - between(beat, start + 3.1, start + 3.95)
        return _moved(heading, 0.055 * side * held, 0.0) | {"drop": 0.025 * held}

    return Phrase(falls=falls, body=body)


def rock(start: float, side: float, heading: float) -> Phrase:
    """A step forward and back with one foot, a step back and forward with the other."""
    lead, other = _first(side)
    falls = [
        _fall(lead, start + 0.1, heading, ahead=0.13),
        _fall(lead, start + 1.1, heading),
        _fall(other, start + 2.1, heading, ahead=-0.11),
        _fall(other, start + 3.1, heading),
    ]

    def body(beat: Track) -> Pose:
        ahead = 0.07 * bump(beat, start, start + 1.7) - 0.06 * bump(beat, start + 2.0, start + 3.7)
        return _moved(heading, 0.0, ahead) | {"lean": -0.5 * ahead}

    return Phrase(falls=falls, body=body)


def cross(start: float, side: float, heading: float) -> Phrase:
    """One foot crosses in front of the other and goes back; then the other does."""
    lead, other = _first(side)
    falls = [
        _fall(lead, start + 0.1, heading, out=-0.14 * side, ahead=0.07),
        _fall(lead, start + 1.1, heading),
        _fall(other, start + 2.1, heading, out=0.14 * side, ahead=0.07),
        _fall(other, start + 3.1, heading),
    ]

    def body(beat: Track) -> Pose:
        over = bump(beat, start, start + 1.7) - bump(beat, start + 2.0, start + 3.7)
        return _moved(heading, -0.035 * side * over, 0.0) | {"yaw": -0.2 * side * over, "drop": 0.008 * np.abs(over)}

    return Phrase(falls=falls, body=body)


def turn(start: float, side: float, heading: float) -> Phrase:
    """A full turn on quick steps over three beats; the head stays behind and comes round first."""
    whole = 2 * np.pi * side

    def path(beat: Track) -> tuple[Track, Track, Track]:
        return 0 * beat, 0 * beat, heading + whole * keyed(beat, [(start, 0.0), (start + 3.1, 1.0)])

    width = REST["left_foot_x"]
    end = _stance(heading + whole)
    falls = [fall for fall in steps_along(path, start, start + 3.2, _QUICK, width * 0.8, 0.02) if fall.end < start + 3.2]
    for number, (foot, _) in enumerate(SIDES):
        at = start + 3.24 + _QUICK * number
        x, z, yaw = (float(np.ravel(end[f"{foot}_{name}"])[0]) for name in ("foot_x", "foot_z", "foot_yaw"))
        falls.append(Footfall(side=foot, start=at, end=at + 0.9 * _QUICK, x=x, z=z, yaw=yaw, height=0.015, roll=0.2))

    def body(beat: Track) -> Pose:
        spot = bump(beat, start + 1.0, start + 2.6) - 0.6 * bump(beat, start, start + 1.3)
        return {
            "yaw": whole * keyed(beat, [(start, 0.0), (start + 3.1, 1.0)]),
            "head_yaw": 0.5 * side * spot,
            "drop": 0.01 * bump(beat, start, start + 4),
        }

    return Phrase(falls=falls, body=body, turn=whole)


FOOTWORK: dict[str, Callable[[float, float, float], Phrase]] = {
    "stay": stay,
    "step_touch": step_touch,
    "march": march,
    "wide": wide,
    "rock": rock,
    "cross": cross,
    "turn": turn,
}
