"""Training and driving clips as tensors: decoded once, fitted to the network's size, poses drawn on the fly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.latents import LatentCodec
from pipelines.clip import Clip, Frames
from pipelines.keypoints import draw_skeleton
from pipelines.video import decode_frames

Points = npt.NDArray[np.float32]
Box = tuple[float, float, float, float]
"""x, y, width, height in source pixels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingClip:
    """One clip with its poses: keypoints [T, 133, 2] in source pixels, scores [T, 133] in 0..1.

    references: clip-relative frames that may serve as the reference image.
    """

    clip: Clip
    keypoints: Points
    scores: Points
    references: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.keypoints) != self.clip.num_frames:
            raise ValueError(f"clip {self.clip.clip_id}: {len(self.keypoints)} poses for {self.clip.num_frames} frames")


def centre_box(width: int, height: int, size: tuple[int, int]) -> Box:
    """Largest centred box with the aspect of `size` (height, width)."""
    scale = min(width / size[1], height / size[0])
    w, h = size[1] * scale, size[0] * scale
    return ((width - w) / 2, (height - h) / 2, w, h)


def random_box(width: int, height: int, size: tuple[int, int], rng: np.random.Generator) -> Box:
    """A box of 90 to 100 % of the centred one, anywhere in it: one draw for target, pose and reference alike."""
    x, y, w, h = centre_box(width, height, size)
    scale = rng.uniform(0.9, 1.0)
    return (x + rng.uniform(0, w * (1 - scale)), y + rng.uniform(0, h * (1 - scale)), w * scale, h * scale)


def fit_frames(frames: Frames, box: Box, size: tuple[int, int]) -> Frames:
    """Crop [T, H, W, 3] to `box` and resize (area) to `size` (height, width)."""
    import cv2

    x, y, w, h = (round(v) for v in box)
    resized = [cv2.resize(frame[y : y + h, x : x + w], (size[1], size[0]), interpolation=cv2.INTER_AREA) for frame in frames]
    return np.stack(resized)


def fit_points(points: Points, box: Box, size: tuple[int, int]) -> Points:
    """[..., 2] source pixels -> pixels of the fitted image (pixel centres at .5, as the area filter has them)."""
    x, y, w, h = (round(v) for v in box)
    scale = np.array([size[1] / w, size[0] / h], np.float32)
    return ((points - np.array([x, y], np.float32) + 0.5) * scale - 0.5).astype(np.float32)


def draw_poses(points: Points, scores: Points, size: tuple[int, int]) -> Frames:
    """[T, H, W, 3] skeleton images of [T, 133, 2] canvas points."""
    return np.stack([draw_skeleton(p, s, size[0], size[1]) for p, s in zip(points, scores, strict=True)])


def to_signed(frames: Frames) -> Tensor:
    """uint8 [T, H, W, 3] -> float [T, 3, H, W] in [-1, 1]."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_unit(frames: Frames) -> Tensor:
    """uint8 [T, H, W, 3] -> float [T, 3, H, W] in [0, 1]."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255


def to_frames(images: Tensor) -> Frames:
    """float [T, 3, H, W] in [-1, 1] -> uint8 [T, H, W, 3], rounded."""
    scaled: Frames = ((images.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return scaled


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """R references with K targets each."""

    reference_image: Tensor  # [R, 3, H, W] in [-1, 1]
    reference_latent: Tensor  # [R, C, h, w]
    latents: Tensor  # [R, K, C, h, w]
    pose: Tensor  # [R * K, 3, H, W] in [0, 1]


@dataclass
class ClipStore:
    """Clips at one size, through one codec. With `augment` a new crop is drawn each time; without, latents and poses are kept in memory."""

    clips: Sequence[TrainingClip]
    size: tuple[int, int]
    codec: LatentCodec
    augment: bool = False
    cache: Path | None = None
    """Folder where encoded clips are kept between stages and resumed runs; only without `augment`, and for one codec."""
    _kept: dict[int, Any] = field(default_factory=dict)

    def fitted(self, index: int, rng: np.random.Generator | None = None) -> tuple[Frames, Frames]:
        """(frames, pose images) of one clip, uint8 [T, H, W, 3]."""
        item = self.clips[index]
        frames = decode_frames(item.clip)
        height, width = frames.shape[1:3]
        box = random_box(width, height, self.size, rng) if rng is not None else centre_box(width, height, self.size)
        return fit_frames(frames, box, self.size), draw_poses(fit_points(item.keypoints, box, self.size), item.scores, self.size)

    def tensors(self, index: int, rng: np.random.Generator) -> tuple[Frames, Tensor, Frames]:
        """(frames, latents [T, C, h, w], pose images) of one clip."""
        if not self.augment and index in self._kept:
            kept: tuple[Frames, Tensor, Frames] = self._kept[index]
            return kept
        frames, poses = self.fitted(index, rng if self.augment else None)
        made = frames, self._encoded(index, frames), poses
        if not self.augment:
            self._kept[index] = made
        return made

    def _encoded(self, index: int, frames: Frames) -> Tensor:
        if self.augment or self.cache is None:
            return self.codec.encode(to_signed(frames))
        from safetensors.torch import load_file, save_file

        path = self.cache / f"{self.clips[index].clip.clip_id}-{self.size[0]}x{self.size[1]}.safetensors"
        if path.is_file():
            return load_file(path)["latents"]
        latents = self.codec.encode(to_signed(frames))
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"latents": latents.contiguous()}, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)
        return latents

    def batch(self, chosen: Sequence[tuple[int, int, Sequence[int]]], rng: np.random.Generator) -> Batch:
        """Batch of (clip index, reference frame, target frames) triples."""
        references, reference_latents, latents, poses = [], [], [], []
        for index, reference, targets in chosen:
            frames, encoded, drawn = self.tensors(index, rng)
            references.append(to_signed(frames[reference][None]))
            reference_latents.append(encoded[reference])
            latents.append(encoded[list(targets)])
            poses.append(to_unit(drawn[list(targets)]))
        return Batch(
            reference_image=torch.cat(references),
            reference_latent=torch.stack(reference_latents),
            latents=torch.stack(latents),
            pose=torch.cat(poses),
        )


def draw_pairs(
    clips: Sequence[TrainingClip], references: int, targets: int, rng: np.random.Generator, distance: int = 30
) -> list[tuple[int, int, list[int]]]:
    """Stage 1: random references, each with random targets of the same video, at least `distance` frames away where the clip has them, and never the reference itself."""
    chosen = []
    for _ in range(references):
        index = int(rng.integers(len(clips)))
        reference = int(rng.choice(clips[index].references))
        frames = np.arange(clips[index].clip.num_frames)
        far = frames[np.abs(frames - reference) >= min(distance, max(reference, len(frames) - 1 - reference))]
        others = frames[frames != reference] if len(frames) > 1 else frames
        pool = others if len(far) < targets else far
        chosen.append((index, reference, [int(f) for f in rng.choice(pool, targets, replace=len(pool) < targets)]))
    return chosen


def draw_windows(
    clips: Sequence[TrainingClip], batch: int, length: int, stride: int, rng: np.random.Generator
) -> list[tuple[int, int, list[int]]]:
    """Stage 2: random windows of `length` frames, `stride` apart (closer where the clip is short); the reference is any eligible frame."""
    chosen = []
    for _ in range(batch):
        index = int(rng.integers(len(clips)))
        frames = clips[index].clip.num_frames
        span = min((length - 1) * stride, frames - 1)
        start = int(rng.integers(frames - span))
        targets = [round(start + i * span / max(1, length - 1)) for i in range(length)]
        chosen.append((index, int(rng.choice(clips[index].references)), targets))
    return chosen
