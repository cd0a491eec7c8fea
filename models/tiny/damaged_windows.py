"""Windows of performers, moved, mirrored and sometimes damaged, with what is to be told of them: what I3D and 3D-ResNet learn from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from models.tiny.action import action_shooting
from models.tiny.damage import WINDOW_DAMAGES, Features, damaged, ordered_share
from models.tiny.footage import Scenes, shoot
from models.tiny.labels import COUNT, Numbers, accuracies, class_loss, labels_of
from models.tiny.people import TRAINING_IDENTITIES, UNSEEN_IDENTITIES
from pipelines.clip import Frames

# N = windows of a batch, T = frames of a window, S = side in px
Values = npt.NDArray[np.float32]
WINDOW = 16  # frames
OUTPUTS = COUNT + len(WINDOW_DAMAGES)  # logits of the classes, then how strong each damage is
_DAMAGED_SHARE = 0.5
_DAMAGE_WEIGHT = 4.0


@dataclass(frozen=True, slots=True)
class WindowBatch:
    """windows [N, T, S, S, 3] float32 in 0..255; clip [N] which clip they are of; damage [N, kinds] strengths in 0..1."""

    windows: Tensor
    clip: npt.NDArray[np.int64]
    damage: Tensor


def learnt_from(cache: Path) -> Scenes:
    """Clips of every style and action; the action network's own."""
    return shoot(action_shooting(TRAINING_IDENTITIES, 7, 24), cache)


def measured_on(cache: Path) -> Scenes:
    """Windows of people whom no job learns from."""
    return shoot(action_shooting(UNSEEN_IDENTITIES, 14, WINDOW), cache)


def window_batch(scenes: Scenes, count: int, rng: np.random.Generator) -> WindowBatch:
    """Random windows of random clips."""
    clips = rng.integers(len(scenes.frames), size=count)
    starts = rng.integers(scenes.frames.shape[1] - WINDOW + 1, size=count)
    windows, strengths = [], np.zeros((count, len(WINDOW_DAMAGES)), np.float32)
    for row, (clip, start) in enumerate(zip(clips, starts, strict=True)):
        window = moved(scenes.frames[clip, start : start + WINDOW], rng)
        if rng.random() < _DAMAGED_SHARE:
            kind, strength = int(rng.integers(len(WINDOW_DAMAGES))), rng.uniform(0.1, 1)
            strengths[row, kind] = strength
            window = damaged(window, WINDOW_DAMAGES[kind], strength, rng)
        windows.append(window)
    return WindowBatch(torch.from_numpy(np.stack(windows)).float(), clips, torch.from_numpy(strengths))


def moved(window: Frames, rng: np.random.Generator) -> Frames:
    """[T, S, S, 3] scaled, shifted, perhaps mirrored as a whole, in slightly other light: a window has one camera."""
    side, scale = window.shape[1], rng.uniform(0.88, 1.15)
    shift = (1 - scale) * side / 2 + rng.uniform(-0.06, 0.06, 2) * side
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]], np.float32)
    light = np.clip(np.arange(256) * rng.uniform(0.92, 1.08) + rng.uniform(-8, 8), 0, 255).astype(np.uint8)
    out = np.stack([cv2.warpAffine(frame, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE) for frame in window])
    return np.ascontiguousarray(light[out[:, :, ::-1] if rng.random() < 0.5 else out])


def resized(windows: Tensor, size: int) -> Tensor:
    """[N, T, S, S, 3] -> [N, 3, T, size, size], bicubic and antialiased as the adapters' resizers are."""
    count, frames = windows.shape[:2]
    flat = windows.flatten(0, 1).permute(0, 3, 1, 2)
    small = functional.interpolate(flat, (size, size), mode="bicubic", antialias=True).clamp(0, 255)
    return small.view(count, frames, 3, size, size).transpose(1, 2)


def window_loss(outputs: Tensor, batch: WindowBatch, labels: Numbers) -> Tensor:
    """Of the classes, and of the damages' strengths. outputs [N, OUTPUTS]."""
    strengths = functional.smooth_l1_loss(outputs[:, COUNT:], batch.damage.to(outputs.device), beta=0.2)
    return class_loss(outputs, labels, batch.clip) + _DAMAGE_WEIGHT * strengths


def window_scores(features: Features, logits_of: Callable[[Values], Values], scenes: Scenes) -> dict[str, float]:
    """Accuracies of the classes, and the share of rightly ordered damages over every third clip of each person.

    features, logits_of: of windows [N, T, S, S, 3] uint8 and of features [N, D].
    """
    logits = np.concatenate([logits_of(features(np.array(scenes.frames[k : k + 16, :WINDOW]))) for k in range(0, len(scenes.frames), 16)])
    few = slice(0, None, 3)
    share = ordered_share(features, scenes.frames[few, :WINDOW], np.asarray(scenes.identity)[few], WINDOW_DAMAGES)
    return {**accuracies(logits, labels_of(scenes)), "ordered_damage_share": share}
