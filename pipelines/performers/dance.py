"""Dance: a choreography of moves and footwork to a beat, followed by a body with weight."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from pipelines.performers.footwork import FOOTWORK, Phrase
from pipelines.performers.moves import MOVES
from pipelines.performers.pose import INDEX, POSE, REST, Track
from pipelines.performers.steps import Footfall, place_feet
from pipelines.performers.timing import follow

_BEATS = 4  # of a phrase: one move and one footwork
_TURN_SHARE = 0.16  # of the phrases after the first are full turns
_HORIZON = 2  # phrases planned past the clip, so that a longer clip begins the same


def _choose(rng: np.random.Generator, phrases: int) -> list[tuple[int, str, float]]:
    """(move, footwork, side) of each phrase; never the same move twice in a row."""
    still = [name for name in FOOTWORK if name != "turn"]
    chosen, last = [], -1
    for phrase in range(phrases):
        choice = int(rng.integers(len(MOVES) - 1))
        last = (choice + (choice >= last >= 0)) % len(MOVES)
        side, turns, steps = 1.0 if rng.random() < 0.5 else -1.0, rng.random() < _TURN_SHARE, int(rng.integers(len(still)))
        chosen.append((last, "turn" if turns and phrase > 0 else still[steps], side))
    return chosen


def _targets(chosen: list[tuple[int, str, float]], beat: Track, energy: float, heading: float) -> Track:
    """[T, P] what the choreography asks for."""
    rest = np.array([REST[name] for name in POSE])
    poses = np.tile(rest, (len(beat), 1))
    for phrase, (move, _, side) in enumerate(chosen):
        frames = beat // _BEATS == phrase
        for name, value in MOVES[move](beat[frames], side).items():
            poses[frames, INDEX[name]] = value
    poses = np.asarray(rest + (poses - rest) * energy)
    falls: list[Footfall] = []
    turned = heading
    for phrase, (_, footwork, side) in enumerate(chosen):
        made: Phrase = FOOTWORK[footwork](phrase * _BEATS, side, turned)
        falls += made.falls
        for name, value in made.body(beat).items():
            poses[:, INDEX[name]] += value
        turned += made.turn
    poses[:, INDEX["yaw"]] += heading
    for name, value in place_feet(falls, beat, FOOTWORK["stay"](0.0, 1.0, heading).stance).items():
        poses[:, INDEX[name]] = value
    return poses


def dance(rng: np.random.Generator, seconds: Track, fps: Fraction) -> Track:
    """[T, P] poses of a dance at 81 to 117 beats a minute."""
    tempo_hz = rng.uniform(1.35, 1.95)
    energy, heading = rng.uniform(0.85, 1.1), rng.uniform(-0.22, 0.22)
    beat = (seconds - seconds[0]) * tempo_hz + rng.uniform(0, 2)
    chosen = _choose(rng, int(beat[-1] // _BEATS) + 1 + _HORIZON)
    poses = follow(_targets(chosen, beat, energy, heading), fps, exact=("shift", "forward"))
    poses[:, INDEX["head_pitch"]] += 0.05 * np.sin(2 * np.pi * tempo_hz * seconds) * energy
    return poses
