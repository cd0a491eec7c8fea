"""What generated clips get wrong, at a strength from 0 to 1: what the metric networks learn to see and are measured with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from pipelines.clip import Frames

# T = frames of a window (1 for a picture), S = side in px, N = windows or pictures, D = feature dimensions
Floats = npt.NDArray[np.float64]
Features = Callable[[Frames], npt.NDArray[np.float32]]

PICTURE_DAMAGES = ("blur", "noise", "colour")
WINDOW_DAMAGES = (*PICTURE_DAMAGES, "frozen")
WEAK, STRONG = 0.3, 0.75  # the two strengths of a measurement

_BLUR_PX, _NOISE, _GAIN, _OFFSET = 2.5, 40.0, 0.35, 40.0  # at strength 1; the last three in grey levels or shares of them


def damaged(window: Frames, kind: str, strength: float, rng: np.random.Generator) -> Frames:
    """[T, S, S, 3] uint8 with one kind of damage over the whole window. Equal random numbers give the same damage at any strength."""
    if kind == "frozen":
        return _frozen(window, strength)
    if kind == "blur":
        return np.stack([cv2.GaussianBlur(frame, (0, 0), 0.2 + _BLUR_PX * strength) for frame in window]).astype(np.uint8)
    if kind == "noise":
        return _pixels(window + np.float32(_NOISE * strength) * rng.standard_normal(window.shape, np.float32))
    gain, offset = rng.uniform(0.5, 1, 3) * rng.choice([-1, 1], 3), rng.uniform(0.3, 1, 3) * rng.choice([-1, 1], 3)
    tinted = window * (1 + _GAIN * strength * gain).astype(np.float32) + (_OFFSET * strength * offset).astype(np.float32)
    return _pixels(tinted)


def _frozen(window: Frames, strength: float) -> Frames:
    """The last frames repeat the one before them: a share `strength` of the window stands still."""
    moving = max(round(len(window) * (1 - strength)), 1)
    return window[np.minimum(np.arange(len(window)), moving - 1)]


def _pixels(values: npt.NDArray[np.float32]) -> Frames:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def ordered_share(features: Features, windows: Frames, identity: npt.NDArray[np.int64], kinds: Sequence[str], groups: int = 4) -> float:
    """Share of (group, kind) pairs in which the stronger damage is farther from the undamaged windows in Frechet distance.

    windows: [N, T, S, S, 3], the network's input follows by dropping T where T is 1;  groups: of identities, compared apart; fewer
    where there are few windows.
    """
    names = np.unique(identity)
    right = []
    for part in np.array_split(names, min(groups, len(names), max(len(windows) // 4, 1))):
        mine = np.array(windows[np.isin(identity, part)])
        clean = features(mine)
        for kind in kinds:
            weak, strong = (frechet(features(_all_damaged(mine, kind, strength)), clean) for strength in (WEAK, STRONG))
            right.append(weak < strong)
    return float(np.mean(right))


def _all_damaged(windows: Frames, kind: str, strength: float) -> Frames:
    return np.stack([damaged(window, kind, strength, np.random.default_rng(number)) for number, window in enumerate(windows)])


def frechet(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Frechet distance of two sets of features [N, D], N >= 2: |mu_a - mu_b|^2 + tr S_a + tr S_b - 2 tr (S_a S_b)^(1/2).

    With centred X the last trace is the nuclear norm of X_a X_b^T / sqrt((N_a - 1)(N_b - 1)).
    """
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    shift = x.mean(0) - y.mean(0)
    x, y = ((v - v.mean(0)) / np.sqrt(len(v) - 1) for v in (x, y))
    root = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    return max(0.0, float(shift @ shift + np.square(x).sum() + np.square(y).sum() - 2 * root))
