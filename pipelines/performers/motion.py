"""From a motion seed to one pose per frame: a choreography of moves, followed by a body with weight."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from pipelines.performers.moves import MOVES
from pipelines.performers.pose import INDEX, POSE, REST, Track

# A damped spring follows the choreography: limbs lag, settle and overshoot a little, hands more loosely than the trunk.
_DAMPING = 0.78
_STIFF_RAD_S, _LOOSE_RAD_S = 17.0, 13.0
_SUBSTEPS = 4
_BEATS_PER_MOVE = 4


def _targets(rng: np.random.Generator, beat: Track) -> Track:
    """[T, P] what the choreography asks for: a new move every four beats."""
    poses = np.tile([REST[name] for name in POSE], (len(beat), 1))
    last = -1
    for phrase in range(int(beat[-1] // _BEATS_PER_MOVE) + 1):
        choice = int(rng.integers(len(MOVES) - 1))
        last = choice + (choice >= last >= 0)  # never the same move twice in a row
        side = 1.0 if rng.random() < 0.5 else -1.0
        frames = beat // _BEATS_PER_MOVE == phrase
        for name, value in MOVES[last % len(MOVES)](beat[frames], side).items():
            poses[frames, INDEX[name]] = value
    return poses


def _follow(targets: Track, fps: Fraction) -> Track:
    """Second-order response x'' = w^2 (target - x) - 2 d w x', semi-implicit, from rest at the first target."""
    loose = [name.startswith(("left_", "right_")) for name in POSE]
    w = np.where(loose, _LOOSE_RAD_S, _STIFF_RAD_S)
    step = 1.0 / float(fps) / _SUBSTEPS
    x, velocity = targets[0].copy(), np.zeros(len(POSE))
    path = np.empty_like(targets)
    for t, target in enumerate(targets):
        for _ in range(_SUBSTEPS):
            velocity += step * (w * w * (target - x) - 2 * _DAMPING * w * velocity)
            x += step * velocity
        path[t] = x
    return path


def _blinks(rng: np.random.Generator, seconds: Track) -> Track:
    """[T] 0 open .. 1 closed; a blink takes 0.25 s, every 2 to 5 s."""
    closed, at = np.zeros(len(seconds)), 0.0
    while True:
        at += rng.uniform(2.0, 5.0)
        if at > seconds[-1]:
            return closed
        closed = np.maximum(closed, np.clip(1.6 - np.abs(seconds - at) / 0.08, 0, 1))


def choreograph(motion: int, frames: int, fps: Fraction) -> tuple[dict[str, Track], Track]:
    """(pose name -> [T], blink [T]) of a motion seed. A shorter clip of the same seed is a prefix of a longer one."""
    rng, eyes = np.random.default_rng([motion, 0xDA2CE]), np.random.default_rng([motion, 0xE7E5])
    tempo_hz = rng.uniform(1.35, 1.95)  # 81 to 117 beats a minute
    energy, turned = rng.uniform(0.8, 1.1), rng.uniform(-0.25, 0.25)
    seconds = np.arange(frames) / float(fps)
    poses = _follow(_targets(rng, seconds * tempo_hz + rng.uniform(0, 4)), fps)
    rest = np.array([REST[name] for name in POSE])
    poses = rest + (poses - rest) * energy
    # Breath and idle drift, so that nothing is ever frozen.
    poses[:, INDEX["shrug"]] += 0.003 * np.sin(2 * np.pi * 0.3 * seconds)
    poses[:, INDEX["head_pitch"]] += 0.05 * np.sin(2 * np.pi * tempo_hz * seconds) * energy
    poses[:, INDEX["yaw"]] += turned
    return {name: poses[:, i] for name, i in INDEX.items()}, _blinks(eyes, seconds)
