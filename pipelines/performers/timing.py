"""Natural timing: eased changes from pose to pose, and limbs that follow their target like a damped spring."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from pipelines.performers.pose import FEET, POSE, REST, Pose, Track

# Limbs lag, settle and overshoot a little, hands more loosely than the trunk.
_DAMPING = 0.78
_STIFF_RAD_S, _LOOSE_RAD_S = 17.0, 13.0
_STEP_S = 1 / 96  # longest step of the integration, far below the fastest response's time


def ease(share: Track) -> Track:
    """0..1 to 0..1 with least jerk: no speed and no acceleration at either end (Flash and Hogan 1985); outside it is held."""
    s = np.clip(share, 0.0, 1.0)
    return np.asarray(s**3 * (10 - 15 * s + 6 * s * s))


def between(time: Track, start: float, end: float) -> Track:
    """0 before `start`, 1 after `end`, eased between."""
    return ease((time - start) / (end - start))


def bump(time: Track, start: float, end: float) -> Track:
    """0 outside (start, end), 1 in its middle, smooth everywhere."""
    return np.asarray(np.sin(np.pi * np.clip((time - start) / (end - start), 0.0, 1.0)) ** 2)


def keyed(time: Track, keys: Sequence[tuple[float, float]], period: float | None = None) -> Track:
    """Values at times, eased between neighbours; with a period (>= the last time) it goes round."""
    at = np.array([key for key, _ in keys])
    value = np.array([held for _, held in keys])
    if period is not None:
        time = np.mod(time, period)
        at = np.concatenate([[at[-1] - period], at, [at[0] + period]])
        value = np.concatenate([[value[-1]], value, [value[0]]])
    later = np.clip(np.searchsorted(at, time, side="right"), 1, len(at) - 1)
    span = np.maximum(at[later] - at[later - 1], 1e-9)
    return np.asarray(value[later - 1] + (value[later] - value[later - 1]) * ease((time - at[later - 1]) / span))


def glide(time: Track, starts: Sequence[float], values: Sequence[float], duration: float) -> Track:
    """values[0], then toward values[i] from starts[i] on, each change eased over `duration` seconds (changes may overlap)."""
    held = np.full(len(time), float(values[0]))
    for i in range(1, len(values)):
        held += (values[i] - values[i - 1]) * between(time, starts[i], starts[i] + duration)
    return held


def full_pose(frames: int, pose: Pose) -> Track:
    """[T, P] from what differs from REST."""
    poses = np.tile([REST[name] for name in POSE], (frames, 1))
    for name, value in pose.items():
        poses[:, POSE.index(name)] = value
    return poses


def follow(targets: Track, fps: Fraction, speed: float = 1.0, exact: Sequence[str] = ()) -> Track:
    """Second-order response x'' = w^2 (target - x) - 2 d w x', semi-implicit, from rest at the first target; feet are not smoothed.

    speed: of the response, relative to a dancer's.  exact: names that are not smoothed either.
    """
    loose = [name.startswith(("left_", "right_")) for name in POSE]
    w = speed * np.where(loose, _LOOSE_RAD_S, _STIFF_RAD_S)
    steps = int(np.ceil(1.0 / float(fps) / _STEP_S))
    step = 1.0 / float(fps) / steps
    x, velocity = targets[0].copy(), np.zeros(len(POSE))
    path = np.empty_like(targets)
    for t, target in enumerate(targets):
        before = targets[max(t - 1, 0)]
        for k in range(1, steps + 1):
            wanted = before + (target - before) * (k / steps)
            velocity += step * (w * w * (wanted - x) - 2 * _DAMPING * w * velocity)
            x += step * velocity
        path[t] = x
    kept = [POSE.index(name) for name in (*FEET, *exact)]
    path[:, kept] = targets[:, kept]
    return path
