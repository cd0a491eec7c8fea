"""How clips are made: retarget, encode the reference once, denoise in windows with guidance, decode in chunks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

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
from pipelines.keypoints import retarget_limb


def predictor(network: AnimateAnyone, condition: Condition, scale: float) -> Predict:
    """Guided prediction of one window: e_u + w (e_c - e_u); w = 1 runs the conditional branch alone. The branches run one after the other."""
    everything = torch.ones(1, dtype=torch.bool)

    def predict(latents: Tensor, window: list[int], timestep: int) -> Tensor:
        here = replace(condition, pose=condition.pose[window])
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
    network: AnimateAnyone, condition: Condition, sampling: Sampling, seed: int, advance: Callable[[], None] | None = None
) -> Tensor:
    """[F, C, h, w] latents for one reference and F pose images."""
    frames = len(condition.pose)
    noise = initial_noise(frames, tuple(condition.reference_latent.shape[1:]), seed, shared=sampling.shared_noise)
    windows = uniform_windows(frames, sampling.window, sampling.overlap) if network.temporal else [list(range(frames))]
    latents = sample_windows(
        predictor(network, condition, sampling.guidance_scale),
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


@torch.no_grad()
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
    points, scores = driving
    if config.sampling.retarget == "limb":
        points = retarget_limb(points, scores, *reference_pose)
    image = to_signed(reference[None])
    condition = Condition(
        reference_latent=codec.encode(image),
        image_tokens=network.image_tokens(image),
        pose=to_unit(draw_poses(points, scores, config.size)),
        dropped=torch.zeros(1, dtype=torch.bool),
    )
    return to_frames(codec.decode(generate_latents(network, condition, config.sampling, seed, advance)))
