"""How clips are made: retarget, encode the reference once, denoise in windows with guidance, decode in chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from models.animate_anyone.config import AnimateAnyoneConfig, Sampling
from models.animate_anyone.network import AnimateAnyone
from models.clip_dataset import Batch, Points, draw_poses, to_frames, to_signed, to_unit
from models.guidance import Condition, guide, null_conditions
from models.latents import LatentCodec
from models.noise import make_scheduler
from models.sampling_loop import Predict, sample_windows
from models.training_loop import generator_for
from models.windows import uniform_windows
from pipelines.clip import Frames
from pipelines.retarget import retarget

DECODED_AT_ONCE = 8  # frames; what a long clip holds in memory as pictures
_DRAWN_BYTES = 64 << 20  # pose images that are kept: 1,365 frames of 128x128, 37 of 768x768


class DrawnPoses:
    """Pose images [F, 3, H, W] in [0, 1] of a long clip, drawn for the window that asks; the latest are kept, up to 64 MB."""

    def __init__(self, points: Points, scores: Points, size: tuple[int, int]) -> None:
        self._points, self._scores, self._size = points, scores, size
        self._kept: dict[int, Frames] = {}
        self._most = max(1, _DRAWN_BYTES // (size[0] * size[1] * 3))

    def __len__(self) -> int:
        return len(self._points)

    def __getitem__(self, frames: list[int]) -> Tensor:
        return to_unit(np.stack([self._drawn(frame) for frame in frames]))

    def _drawn(self, frame: int) -> Frames:
        image = self._kept.pop(frame, None)
        if image is None:
            image = draw_poses(self._points[frame : frame + 1], self._scores[frame : frame + 1], self._size)[0]
        self._kept[frame] = image
        if len(self._kept) > self._most:
            del self._kept[next(iter(self._kept))]
        return image


Poses = Tensor | DrawnPoses
"""[F, 3, H, W] in [0, 1], indexed by lists of frames."""


def predictor(network: AnimateAnyone, condition: Condition, scale: float, poses: Poses | None = None) -> Predict:
    """Guided prediction of one window: e_u + w (e_c - e_u); w = 1 runs the conditional branch alone. The branches run one after the other.

    poses: instead of the condition's.
    """
    everything, drawn = torch.ones(1, dtype=torch.bool), condition.pose if poses is None else poses

    def predict(latents: Tensor, window: list[int], timestep: int) -> Tensor:
        here = replace(condition, pose=drawn[window])
        times = torch.full((1,) if network.temporal else (len(window),), timestep)
        conditional = network(latents[None], times, here)[0]
        if scale == 1.0:
            return conditional
        return guide(network(latents[None], times, null_conditions(here, everything))[0], conditional, scale)

    return predict


def initial_noise(frames: int, shape: tuple[int, ...], seed: int, *, shared: bool) -> Tensor:
    """[F, C, h, w] Gaussian noise, independent or the same for every frame."""
    if shared:
        return torch.randn(1, *shape, generator=generator_for(seed, 0)).expand(frames, *shape).clone()
    return torch.randn(frames, *shape, generator=generator_for(seed, 0))


@torch.no_grad()
def generate_latents(
    network: AnimateAnyone,
    condition: Condition,
    sampling: Sampling,
    seed: int,
    advance: Callable[[], None] | None = None,
    poses: Poses | None = None,
) -> Tensor:
    """[F, C, h, w] latents for one reference and F pose images, those of the condition unless `poses` gives others."""
    frames = len(condition.pose if poses is None else poses)
    noise = initial_noise(frames, tuple(condition.reference_latent.shape[1:]), seed, shared=sampling.shared_noise)
    # without temporal layers frames are independent, and windows only bound the memory
    windows = uniform_windows(frames, sampling.window, sampling.overlap if network.temporal else 0)
    latents = sample_windows(
        predictor(network, condition, sampling.guidance_scale, poses),
        noise,
        make_scheduler(network.config.noise),
        sampling.steps,
        windows,
        advance,
    )
    shape = network.config.network
    return latents * shape.residual_scale + condition.reference_latent if shape.residual else latents


def animate_batch(network: AnimateAnyone, codec: LatentCodec, batch: Batch, seed: int) -> Tensor:
    """[R, K, 3, H, W] in [-1, 1] for a training batch, for the periodic pictures."""
    from models.animate_anyone.stages import condition_of

    each = batch.latents.shape[1]
    whole, images = condition_of(network, batch), []
    for i in range(len(batch.reference_latent)):
        rows = slice(i, i + 1)
        one = Condition(
            reference_latent=whole.reference_latent[rows],
            image_tokens=whole.image_tokens[rows],
            pose=whole.pose[i * each : (i + 1) * each],
            dropped=whole.dropped[rows],
        )
        images.append(codec.decode(generate_latents(network, one, network.config.sampling, seed)))
    return torch.stack(images)


def animate(
    network: AnimateAnyone,
    codec: LatentCodec,
    *,
    reference: Frames,
    reference_pose: tuple[Points, Points],
    driving: tuple[Points, Points],
    seed: int,
    config: AnimateAnyoneConfig,
    advance: Callable[[], None] | None = None,
) -> Frames:
    """One clip, uint8 [T, H, W, 3].

    reference: uint8 [H, W, 3] at the network's size; poses are (points, scores) in pixels of that canvas: [133, 2] and [133] of the reference,
    [T, 133, 2] and [T, 133] of the driving person.
    """
    pieces = animate_in_pieces(
        network, codec, reference=reference, reference_pose=reference_pose, driving=driving, seed=seed, config=config, advance=advance
    )
    return np.concatenate(list(pieces))


def animate_in_pieces(
    network: AnimateAnyone,
    codec: LatentCodec,
    *,
    reference: Frames,
    reference_pose: tuple[Points, Points],
    driving: tuple[Points, Points],
    seed: int,
    config: AnimateAnyoneConfig,
    advance: Callable[[], None] | None = None,
) -> Iterator[Frames]:
    """The same clip in order, a few frames at a time: only the latents' memory grows with its length. `advance` is called after every step."""
    points, scores = driving
    points = retarget(config.sampling.retarget, points, scores, *reference_pose)
    poses = DrawnPoses(points, scores, config.size)
    condition = _still(network, codec, to_signed(reference[None]))
    latents = generate_latents(network, condition, config.sampling, seed, advance, poses)
    for part in latents.split(DECODED_AT_ONCE):
        yield to_frames(codec.decode(part))


@torch.no_grad()
def _still(network: AnimateAnyone, codec: LatentCodec, image: Tensor) -> Condition:
    """The condition of one reference [1, 3, H, W] in [-1, 1], without poses."""
    return Condition(
        reference_latent=codec.encode(image),
        image_tokens=network.image_tokens(image),
        pose=image.new_empty(0, *image.shape[1:]),
        dropped=torch.zeros(1, dtype=torch.bool),
    )
