"""Training and driving clips as tensors: decoded once, fitted to the network's size, poses drawn on the fly, signals read as they are needed."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from models.clip_signals import LARGE, ClipSignals, fit_signals
from models.fitting import Box as Box
from models.fitting import Points as Points
from models.fitting import centre_box as centre_box
from models.fitting import fit_frames as fit_frames
from models.fitting import fit_points as fit_points
from models.fitting import random_box as random_box
from models.latents import LatentCodec
from models.limb_warp import LimbWarp
from models.mirror import mirrored_points, mirrored_signals, require_mirrorable
from models.signals import SignalName, Signals, joined
from pipelines.clip import Clip, Frames
from pipelines.keypoints import draw_skeleton
from pipelines.video import decode_frames

SignalReader = Callable[[Sequence[SignalName]], ClipSignals]
"""A clip's signals of these names."""

_LARGE_BYTES = 256 << 20  # of packed rasters and tokens that a store keeps; what was used longest ago goes first


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingClip:
    """One clip with its poses: keypoints [T, 133, 2] in source pixels, scores [T, 133] in 0..1.

    references: clip-relative frames that may serve as the reference image. signals: reads what a method needs beside poses; None
    where it needs nothing. action_class: as the data set labels its video (UCF101: the folder's name); "" where it does not.
    """

    clip: Clip
    keypoints: Points
    scores: Points
    references: tuple[int, ...]
    signals: SignalReader | None = None
    action_class: str = ""

    def __post_init__(self) -> None:
        if len(self.keypoints) != self.clip.num_frames:
            raise ValueError(f"clip {self.clip.clip_id}: {len(self.keypoints)} poses for {self.clip.num_frames} frames")


@dataclass(frozen=True, kw_only=True, slots=True)
class PoseStyle:
    """What of a skeleton is drawn, and how (pipelines.keypoints.draw_skeleton)."""

    style: Literal["binary", "confidence"] = "binary"
    face: bool = True
    hands: bool = True


def draw_poses(points: Points, scores: Points, size: tuple[int, int], style: PoseStyle = PoseStyle()) -> Frames:
    """[T, H, W, 3] skeleton images of [T, 133, 2] canvas points."""
    drawn = [
        draw_skeleton(p, s, size[0], size[1], face=style.face, hands=style.hands, style=style.style)
        for p, s in zip(points, scores, strict=True)
    ]
    return np.stack(drawn)


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
    warped: Tensor | None = None  # [R * K, C, h, w] latents of the references carried to their targets' poses (ClipStore.warp)
    target_image: Tensor = field(default_factory=lambda: torch.empty(0))  # [R * K, 3, H, W] in [-1, 1]
    signals: Signals = field(default_factory=Signals)  # of the targets: R * K rows, what belongs to a clip R rows
    reference_signals: Signals = field(default_factory=Signals)  # R rows


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """How a clip is shown in one batch."""

    box: Box
    flip: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """Frames of a clip in one view, in the order that was asked for."""

    frames: Frames  # uint8 [N, H, W, 3]
    latents: Tensor  # [N, C, h, w]
    poses: Frames  # uint8 [N, H, W, 3]
    points: Points  # [N, 133, 2] in pixels of the frames
    scores: Points  # [N, 133]

    def rows(self, chosen: Sequence[int]) -> Shown:
        """Some of them."""
        return Shown(**{field.name: getattr(self, field.name)[list(chosen)] for field in fields(self)})

    def warped(self) -> Frames:
        """uint8 [N - 1, H, W, 3]: the first frame carried to the poses of the others."""
        carried = LimbWarp(self.frames[0], self.points[0], self.scores[0])
        return np.stack([carried(points, scores) for points, scores in zip(self.points[1:], self.scores[1:], strict=True)])


@dataclass
class ClipStore:
    """Clips at one size, through one codec.

    With `augment` a new crop is drawn each time and only the frames that a batch shows are fitted and encoded; without, latents and
    poses of whole clips are kept in memory. flip: probability that a clip is shown mirrored, pictures, poses and signals alike.
    warp: batches come with the references carried to their targets' poses.
    needs: the signals of its batches; a clip's are read when it is first used, and of the large ones only the latest are kept.
    """

    clips: Sequence[TrainingClip]
    size: tuple[int, int]
    codec: LatentCodec
    augment: bool = False
    cache: Path | None = None
    """Folder where encoded clips are kept between stages and resumed runs; only without `augment`, and for one codec."""
    needs: tuple[SignalName, ...] = ()
    flip: float = 0.0
    warp: bool = False
    pose_style: PoseStyle = field(default_factory=PoseStyle)
    _kept: dict[tuple[int, bool], Shown] = field(default_factory=dict)
    _small: dict[int, ClipSignals] = field(default_factory=dict)
    _large: OrderedDict[int, ClipSignals] = field(default_factory=OrderedDict)

    def batch(self, chosen: Sequence[tuple[int, int, Sequence[int]]], rng: np.random.Generator) -> Batch:
        """Batch of (clip index, reference frame, target frames) triples."""
        views = [(index, [reference, *targets], self._view(index, rng)) for index, reference, targets in chosen]
        shown = [self._shown(*view) for view in views]
        return Batch(
            reference_image=torch.cat([to_signed(part.frames[:1]) for part in shown]),
            reference_latent=torch.stack([part.latents[0] for part in shown]),
            latents=torch.stack([part.latents[1:] for part in shown]),
            pose=torch.cat([to_unit(part.poses[1:]) for part in shown]),
            warped=self.codec.encode(to_signed(np.concatenate([part.warped() for part in shown]))) if self.warp else None,
            target_image=torch.cat([to_signed(part.frames[1:]) for part in shown]),
            signals=joined([self._signals(index, frames[1:], view) for index, frames, view in views]),
            reference_signals=joined([self._signals(index, frames[:1], view) for index, frames, view in views]),
        )

    def _view(self, index: int, rng: np.random.Generator) -> View:
        clip = self.clips[index].clip
        draw = random_box(clip.width, clip.height, self.size, rng) if self.augment else centre_box(clip.width, clip.height, self.size)
        return View(box=draw, flip=self.flip > 0 and bool(rng.random() < self.flip))

    # --- pictures and poses ------------------------------------------------------------------------------------------

    def _shown(self, index: int, frames: Sequence[int], view: View) -> Shown:
        if self.augment:
            places = {frame: place for place, frame in enumerate(sorted(set(frames)))}
            return self._fitted(index, list(places), view, lambda fitted: self.codec.encode(to_signed(fitted))).rows(
                [places[frame] for frame in frames]
            )
        if (index, view.flip) not in self._kept:
            whole = range(self.clips[index].clip.num_frames)
            self._kept[index, view.flip] = self._fitted(index, whole, view, lambda fitted: self._encoded(index, fitted, view))
        return self._kept[index, view.flip].rows(frames)

    def _fitted(self, index: int, frames: Sequence[int], view: View, encoded: Callable[[Frames], Tensor]) -> Shown:
        item, chosen = self.clips[index], list(frames)
        fitted = fit_frames(decode_frames(item.clip, chosen), view.box, self.size)
        points, scores = fit_points(item.keypoints[chosen], view.box, self.size), item.scores[chosen]
        if view.flip:
            fitted = np.ascontiguousarray(fitted[:, :, ::-1])
            points, scores = mirrored_points(points, scores, self.size[1])
        poses = draw_poses(points, scores, self.size, self.pose_style)
        return Shown(frames=fitted, latents=encoded(fitted), poses=poses, points=points, scores=scores)

    def _encoded(self, index: int, frames: Frames, view: View) -> Tensor:
        if self.cache is None:
            return self.codec.encode(to_signed(frames))
        from safetensors.torch import load_file, save_file

        mark = "-mirrored" if view.flip else ""
        path = self.cache / f"{self.clips[index].clip.clip_id}-{self.size[0]}x{self.size[1]}{mark}.safetensors"
        if path.is_file():
            return load_file(path)["latents"]
        latents = self.codec.encode(to_signed(frames))
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.part")  # workers may encode the same clip at once
        save_file({"latents": latents.contiguous()}, partial)
        partial.replace(path)
        return latents

    # --- signals -----------------------------------------------------------------------------------------------------

    def _signals(self, index: int, frames: Sequence[int], view: View) -> Signals:
        if not self.needs:
            return Signals()
        read = self._read(index)
        signals = fit_signals(read, view.box, self.size, frames)
        return mirrored_signals(signals, self.size[1], drawn_charts=read.drawn_charts) if view.flip else signals

    def _read(self, index: int) -> ClipSignals:
        """A clip's signals in source pixels: the small ones kept for good, the large ones while there is room."""
        if index not in self._small:
            self._small[index] = self._of_names(index, [name for name in self.needs if name not in LARGE])
        large = [name for name in self.needs if name in LARGE]
        if not large:
            return self._small[index]
        if index not in self._large:
            self._large[index] = self._of_names(index, large)
            while len(self._large) > 1 and sum(held.nbytes for held in self._large.values()) > _LARGE_BYTES:
                self._large.popitem(last=False)
        self._large.move_to_end(index)
        return self._small[index].joined(self._large[index])

    def _of_names(self, index: int, names: Sequence[SignalName]) -> ClipSignals:
        item = self.clips[index]
        if not names:
            return ClipSignals(frames=item.clip.num_frames, fps=float(item.clip.fps))
        if item.signals is None:
            raise ValueError(f"clip {item.clip.clip_id} comes without signals, but {', '.join(names)} are needed")
        signals = item.signals(names)
        if self.flip > 0:
            require_mirrorable(signals, item.clip.clip_id)
        return signals


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
    clips: Sequence[TrainingClip], batch: int, length: int, stride: int, rng: np.random.Generator, *, outside: bool = False
) -> list[tuple[int, int, list[int]]]:
    """Stage 2: random windows of `length` frames, `stride` apart (closer where the clip is short); the reference is any eligible frame.

    outside: one that is not in the window, where there is one (StableAnimator).
    """
    chosen = []
    for _ in range(batch):
        index = int(rng.integers(len(clips)))
        frames = clips[index].clip.num_frames
        span = min((length - 1) * stride, frames - 1)
        start = int(rng.integers(frames - span))
        targets = [round(start + i * span / max(1, length - 1)) for i in range(length)]
        eligible = [frame for frame in clips[index].references if not outside or frame not in targets] or list(clips[index].references)
        chosen.append((index, int(rng.choice(eligible)), targets))
    return chosen
