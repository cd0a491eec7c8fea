"""Cloth as small tiles of colour that wrap around a limb: plain, stripes, checks, dots, denim, camouflage, prints."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Tile = npt.NDArray[np.float32]
"""[TILE, TILE, 3] RGB 0..255; rows run along the limb, columns around it; both wrap."""

TILE = 64

# Muted and bright tones that look good side by side, RGB.
BRIGHT = [
    (205, 62, 58),
    (226, 142, 48),
    (236, 196, 76),
    (74, 142, 90),
    (58, 130, 160),
    (66, 84, 160),
    (136, 84, 150),
    (214, 110, 140),
    (232, 228, 218),
    (52, 56, 68),
    (40, 108, 108),
    (176, 66, 96),
]
MUTED = [
    (52, 60, 84),
    (66, 92, 138),
    (96, 126, 168),
    (88, 80, 72),
    (176, 158, 128),
    (58, 58, 62),
    (92, 100, 82),
    (148, 142, 138),
    (120, 62, 58),
    (214, 206, 190),
    (38, 44, 52),
    (110, 90, 124),
]


def pick(rng: np.random.Generator, colours: list[tuple[int, int, int]]) -> npt.NDArray[np.float32]:
    """One colour of the list, slightly varied: [3] RGB 0..255."""
    return np.clip(np.array(colours[rng.integers(len(colours))], np.float32) + rng.normal(0, 7, 3).astype(np.float32), 8, 248)


def _mix(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32], weight: npt.NDArray[np.float32]) -> Tile:
    tile: Tile = first + (second - first) * weight[..., None].astype(np.float32)
    return tile


def _grid() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    rows, columns = np.mgrid[0:TILE, 0:TILE].astype(np.float32) / TILE
    return rows, columns


def _plain(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    return np.zeros((TILE, TILE), np.float32)


def _stripes_along(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    return np.asarray(np.sin(_grid()[1] * 2 * np.pi * rng.integers(2, 5)) > rng.uniform(0.0, 0.7), np.float32)


def _stripes_around(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    return np.asarray(np.sin(_grid()[0] * 2 * np.pi * rng.integers(1, 4)) > rng.uniform(0.0, 0.6), np.float32)


def _checks(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    rows, columns = _grid()
    turns = 2 * np.pi * rng.integers(2, 4)
    return np.asarray(((np.sin(rows * turns) > 0) * 1.0 + (np.sin(columns * turns) > 0)) / 2, np.float32)


def _dots(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    rows, columns = _grid()
    count = rng.integers(2, 4)
    y, x = (rows * count) % 1 - 0.5, (columns * count + 0.5 * ((rows * count).astype(int) % 2)) % 1 - 0.5
    return np.asarray(np.hypot(x, y) < 0.28, np.float32)


def _blotches(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    rows, columns = _grid()
    waves = np.zeros_like(rows)
    for _ in range(6):
        turns = rng.integers(-3, 4, 2) * 2 * np.pi
        waves += np.sin(rows * turns[0] + columns * turns[1] + rng.uniform(0, 6.28)).astype(np.float32)
    return (waves > 0.6).astype(np.float32)


_PATTERNS: list[Callable[[np.random.Generator], npt.NDArray[np.float32]]] = [
    _plain,
    _stripes_around,
    _checks,
    _dots,
    _stripes_along,
    _blotches,
]
_TOP_ODDS = np.array([0.36, 0.22, 0.13, 0.1, 0.09, 0.1])
_BOTTOM_ODDS = np.array([0.72, 0.02, 0.1, 0.04, 0.08, 0.04])


def sample_fabric(rng: np.random.Generator, *, bottom: bool) -> Tile:
    """A tile of cloth for the upper body, or calmer ones for the lower body."""
    base = pick(rng, MUTED if bottom else BRIGHT)
    second = pick(rng, MUTED if rng.random() < 0.5 else BRIGHT)
    if bottom:
        second = base + (second - base) * 0.5
    if np.abs(base - second).sum() < 90:
        second = np.where(base > 128, base * 0.5, base * 0.45 + 120).astype(np.float32)
    pattern = _PATTERNS[rng.choice(len(_PATTERNS), p=_BOTTOM_ODDS if bottom else _TOP_ODDS)]
    weave = rng.normal(0, 2.2, (TILE, TILE, 1)).astype(np.float32)
    return np.clip(_mix(base, second, pattern(rng)) + weave, 4, 250)
