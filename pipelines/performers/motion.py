"""From a motion seed to one pose per frame, in one of several styles."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from fractions import Fraction
from functools import partial

import numpy as np

from pipelines.performers.actions import ACTIONS, perform_action
from pipelines.performers.dance import dance
from pipelines.performers.pose import INDEX, Track
from pipelines.performers.talk import talk
from pipelines.performers.walk import fashion

Style = Callable[[np.random.Generator, Track, Fraction], Track]
"""(random numbers, seconds [T], frame rate) -> poses [T, P]."""

_ACTIONS: dict[str, Style] = {name: partial(perform_action, name) for name in ACTIONS}
STYLES: dict[str, Style] = {"dance": dance, "talk": talk, "fashion": fashion, **_ACTIONS}

_WARM_UP_S = 1.0  # of motion before the first frame, so that it is not begun from rest


def _blinks(rng: np.random.Generator, seconds: Track) -> Track:
    """[T] 0 open .. 1 closed; a blink takes 0.25 s, every 2 to 5 s."""
    closed, at = np.zeros(len(seconds)), 0.0
    while True:
        at += rng.uniform(2.0, 5.0)
        if at > seconds[-1] + 1.0:
            return closed
        closed = np.maximum(closed, np.clip(1.6 - np.abs(seconds - at) / 0.08, 0, 1))


def choreograph(motion: int, frames: int, fps: Fraction, style: str = "dance") -> tuple[dict[str, Track], Track]:
    """(pose name -> [T], blink [T]) of a motion seed. A shorter clip of the same seed is a prefix of a longer one.

    style: a name of STYLES. Raises ValueError for another one.
    """
    if style not in STYLES:
        raise ValueError(f"no style {style!r}; there are: {', '.join(STYLES)}")
    seeds = [motion, 0xDA2CE] if style == "dance" else [motion, 0xDA2CE, zlib.crc32(style.encode())]
    rng, eyes = np.random.default_rng(seeds), np.random.default_rng([motion, 0xE7E5])
    warm_up = round(_WARM_UP_S * fps)
    seconds = np.arange(-warm_up, frames) / float(fps)
    poses, seconds = STYLES[style](rng, seconds, fps)[warm_up:], seconds[warm_up:]
    # Breath, so that nothing is ever frozen.
    poses[:, INDEX["shrug"]] += 0.003 * np.sin(2 * np.pi * 0.3 * seconds)
    return {name: poses[:, i] for name, i in INDEX.items()}, _blinks(eyes, seconds)
