"""How clips are made: DDIM over uniform windows, faces optimised on its x0."""

# F = frames, C h w = latents

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from models.animator import Driving, Reference
from models.clip_dataset import Batch
from models.clip_sampling import (
    ClipCondition,
    DrawnPoses,
    decoded_pieces,
    followed,
    generate_batch,
    initial_noise,
    predictor,
    still_of,
    usual_guidance,
    with_poses,
)  # fmt: skip
from models.latents import LatentCodec
from models.noise import make_scheduler
from models.sampling_loop import sample_windows
from models.stable_animator.ddim_steering import steered_steps
from models.stable_animator.face_optimisation import steering
from models.stable_animator.magic.config import MagicConfig, MagicSampling
from models.stable_animator.magic.network import MagicAnimate, MagicCondition
from models.stable_animator.recogniser import judge_of
from models.stable_animator.sampler import Steer
from models.stable_animator.sampling import checked_faces, face_target
from models.stage_loss import still_condition
from models.windows import flat_weights, uniform_windows
from pipelines.clip import Frames


def make_latents(
    network: MagicAnimate,
    condition: ClipCondition[MagicCondition],
    sampling: MagicSampling,
    seed: int,
    steer: Steer | None = None,
    advance: Callable[[], None] | None = None,
) -> Tensor:
    """[F, C, h, w] latents of one reference and F frames."""
    latent, objective = condition.still.reference_latent, network.noise.objective
    noise = initial_noise(condition.frames, latent.shape[1:], seed, shared=sampling.shared_noise, std=sampling.noise_std).to(latent)
    windows = uniform_windows(condition.frames, sampling.window, sampling.overlap)
    scheduler = make_scheduler(network.noise)
    correct = None if steer is None else steered_steps(scheduler, objective, steer)
    predict = predictor(network, condition, usual_guidance(sampling.guidance_scale))
    return sample_windows(predict, noise, scheduler, sampling.steps, lambda _: windows, flat_weights, advance, correct)


def pieces(
    network: MagicAnimate,
    codec: LatentCodec,
    config: MagicConfig,
    reference: Reference,
    driving: Driving,
    seed: int,
    advance: Callable[[], None] | None = None,
) -> Iterator[Frames]:
    """One clip in order, a few frames at a time, uint8 [<= 8, H, W, 3]."""
    moved, hjb = followed(config.sampling.retarget, reference, driving), config.sampling.hjb
    fields = still_of(network, codec, reference.image)
    latent = fields["reference_latent"]
    face = checked_faces(reference.signals.face_embeddings, 1, config.faces.face_dim).to(latent)
    still = MagicCondition(**fields, blur=latent.new_zeros(0, 1, 1, 1), face=face)
    target = None
    if hjb.enabled:
        scale = config.size[0] // latent.shape[-2]
        target = face_target(codec, judge_of(config.recogniser).to(latent.device), reference, moved, hjb, scale)
    condition = with_poses(still, DrawnPoses(moved.points, moved.scores, config.size))
    yield from decoded_pieces(codec, make_latents(network, condition, config.sampling, seed, steering(target, hjb), advance))


def condition_of(network: MagicAnimate, batch: Batch) -> MagicCondition:
    """Conditions of a batch, nothing dropped."""
    face = checked_faces(batch.reference_signals.face_embeddings, len(batch.reference_image), network.magic.faces.face_dim)
    return MagicCondition(**still_condition(network, batch), blur=batch.pose.new_zeros(len(batch.pose), 1, 1, 1), face=face.to(batch.pose))


def animate_batch(network: MagicAnimate, codec: LatentCodec, batch: Batch, seed: int) -> Tensor:
    """[R, K, 3, H, W] in [-1, 1] for a training batch, for the periodic pictures; faces are not optimised."""

    def make(one: MagicCondition) -> Tensor:
        with torch.no_grad():
            return make_latents(network, with_poses(one, one.pose), network.magic.sampling, seed)

    return generate_batch(make, codec, condition_of(network, batch), batch)
