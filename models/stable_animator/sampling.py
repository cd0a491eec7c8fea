"""How clips are made: retarget, put the reference's own pose in front, denoise in anchored windows while faces are optimised, decode in pieces."""

# T = driving frames, F = frames that are denoised: T, or T + 1 with the reference's own pose in front; C h w = latents

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from models.animator import Driving, Reference
from models.clip_dataset import PoseStyle, to_frames, to_signed
from models.clip_sampling import DrawnPoses, warped_latents
from models.demo_additions import DemoAdditions
from models.guidance import guide
from models.latents import LatentCodec
from models.on_device import on_device
from models.stable_animator.config import Sampling, StableAnimatorConfig
from models.stable_animator.edm import sampling_sigmas
from models.stable_animator.face_optimisation import FaceTarget, Hjb, embedding_of, steering
from models.stable_animator.face_region import box_warps, found, landmark_boxes, landmark_warps
from models.stable_animator.network import StableAnimator, SvdCondition, nothing_dropped, null_condition
from models.stable_animator.sampler import Denoise, Steer, initial_latents, sample_edm
from models.stable_animator.temporal_codec import conditioning_latent, differentiable, unscaled
from models.training_loop import generator_for
from models.windows import anchored_windows, fuse_windows, triangular_weights
from pipelines.clip import Frames
from pipelines.errors import UserError
from pipelines.keypoints import Points, Scores
from pipelines.retarget import retarget


class Network(Protocol):
    """D(x; sigma) of B clips under their conditions (network.StableAnimator)."""

    def __call__(self, noisy: Tensor, sigma: Tensor, condition: SvdCondition) -> Tensor: ...


class Poses(Protocol):
    """Pose images [F, 3, H, W] in [0, 1], indexed by lists of frames."""

    def __len__(self) -> int: ...

    def __getitem__(self, frames: list[int]) -> Tensor: ...


# --- denoising a whole clip ------------------------------------------------------------------------------------------


def clip_denoiser(network: Network, still: SvdCondition, poses: Poses, sampling: Sampling) -> Denoise:
    """D(x; sigma) of a clip [F, C, h, w]: guided windows, fused.

    Frame 0 is in every window; weights fall from a window's middle to its ends. The public code fuses the network's outputs;
    at one sigma x0 is linear in them, so this is the same.
    """
    windows = anchored_windows(len(poses), sampling.window, sampling.overlap)
    weights = triangular_weights(len(windows[0]))

    def denoise(x: Tensor, sigma: float) -> Tensor:
        level = torch.tensor([sigma], device=x.device)
        each = (
            (window, guided(network, x[window][None], level, still.at(window, poses[window].to(x)), sampling.guidance_scale)[0])
            for window in windows
        )
        return fuse_windows(each, weights, x)

    return denoise


def guided(network: Network, x: Tensor, sigma: Tensor, condition: SvdCondition, scale: float) -> Tensor:
    """D_u + w (D_c - D_u), one branch after the other; w = 1 runs the conditional one alone."""
    conditional = network(x, sigma, condition)
    return conditional if scale == 1.0 else guide(network(x, sigma, null_condition(condition)), conditional, scale)


def initial_noise(frames: int, shape: Sequence[int], sampling: Sampling, seed: int) -> Tensor:
    """[F, C, h, w] noise of deviation `noise_std`: one window's, repeated ("tile"), every frame's own, or one for all."""
    drawn = {"tile": min(frames, sampling.window), "independent": frames, "shared": 1}[sampling.noise]
    noise = torch.randn(drawn, *shape, generator=generator_for(seed, 0)) * sampling.noise_std
    return noise[torch.arange(frames) % drawn]


def generate_latents(
    network: Network,
    still: SvdCondition,
    poses: Poses,
    anchor: Tensor,
    config: StableAnimatorConfig,
    seed: int,
    *,
    steer: Steer | None = None,
    advance: Callable[[], None] | None = None,
) -> Tensor:
    """[F, C, h, w] latents of the codec for one reference and F poses; anchor: [F or 1, C, h, w] what a residual is the difference to."""
    sampling, additions = config.sampling, config.additions
    sigmas = sampling_sigmas(sampling.steps, sampling.sigma_min, sampling.sigma_max)
    noise = initial_noise(len(poses), still.reference_latent.shape[1:], sampling, seed).to(still.reference_latent)
    noise = initial_latents(noise, float(sigmas[0]))
    made = sample_edm(
        clip_denoiser(network, still, poses, sampling), noise, sigmas, sampler=sampling.sampler,
        churn=sampling.churn, generator=generator_for(seed, 1), steer=of_latents(steer, additions, anchor), advance=advance,
    )  # fmt: skip
    return additions.restored(made, anchor)


def of_latents(steer: Steer | None, additions: DemoAdditions, anchor: Tensor) -> Steer | None:
    """The same where a difference to the anchor is diffused: faces are looked at in the latents that it stands for."""
    if steer is None or not additions.residual:
        return steer

    def steered(predicted: Tensor, i: int, steps: int, sigma: float) -> Tensor:
        return additions.diffused(steer(additions.restored(predicted, anchor), i, steps, sigma), anchor)

    return steered


# --- faces -----------------------------------------------------------------------------------------------------------


def face_target(
    codec: LatentCodec, recogniser: nn.Module, reference: Reference, driving: Driving, hjb: Hjb, scale: int
) -> FaceTarget | None:
    """Where the T driving frames' faces must be and whom they must show; None where the reference shows no face.

    Both sides' boxes have the same origin, so that crops are framed alike. driving: on the reference's canvas.
    """
    size = (reference.image.shape[0], reference.image.shape[1])
    own_points, own_scores = reference.points[None], reference.scores[None]
    if hjb.boxes == "driving":
        own, boxes = _stored_boxes(reference.signals.face_boxes), _stored_boxes(driving.signals.face_boxes)
    else:
        own, boxes = landmark_boxes(own_points, own_scores, size), landmark_boxes(driving.points, driving.scores, size)
    if not found(own).any():
        return None
    aligned = hjb.crop == "aligned"
    own_warps = landmark_warps(own_points, own) if aligned else box_warps(own)
    warps = landmark_warps(driving.points, boxes) if aligned else box_warps(boxes)
    with torch.no_grad():
        embedding = embedding_of(recogniser, to_signed(reference.image[None]).to(_device_of(recogniser)), own_warps)[0]
    return FaceTarget(decode=differentiable(codec), recogniser=recogniser, reference=embedding, boxes=boxes, warps=warps, scale=scale)


def _device_of(network: nn.Module) -> torch.device:
    """Where its weights are; those of an ONNX file are buffers."""
    return next((held.device for held in (*network.parameters(), *network.buffers())), torch.device("cpu"))


def _stored_boxes(boxes: Tensor | None) -> Tensor:
    if boxes is None:
        raise UserError("hjb.boxes='driving' needs the driving clip's face boxes; extract faces first, or use boxes='landmarks'")
    return boxes[:, 0].float()


def behind_anchor(steer: Steer | None) -> Steer | None:
    """The same for a clip with the reference's own pose in front, which is thrown away: its frame is left alone."""
    if steer is None:
        return None

    def all_but_first(predicted: Tensor, i: int, steps: int, sigma: float) -> Tensor:
        return torch.cat([predicted[:1], steer(predicted[1:], i, steps, sigma)])

    return all_but_first


# --- a clip ----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def still_condition(
    network: StableAnimator, codec: LatentCodec, config: StableAnimatorConfig, reference: Reference, seed: int
) -> SvdCondition:
    """The condition of one reference, without poses, where the network is."""
    image = to_signed(reference.image[None])
    face = reference.signals.face_embeddings
    still = SvdCondition(
        reference_latent=conditioning_latent(codec, image, config.network.time_ids[2], generator_for(seed, 2)),
        image_tokens=network.image_tokens(image),
        face=checked_faces(face, 1, config.network.face_dim),
        pose=None,
        **nothing_dropped(1),
    )
    return on_device(still, network.unet.device)


def anchor_latents(codec: LatentCodec, additions: DemoAdditions, reference: Reference, driving: Driving) -> Tensor:
    """What a residual is the difference to: the reference warped to every driving pose [F, C, h, w], or itself [1, C, h, w]; without one, 0."""
    if additions.warp:
        return warped_latents(codec, reference, driving)
    return codec.encode(to_signed(reference.image[None])) if additions.residual else torch.zeros(1)


def checked_faces(faces: Tensor | None, rows: int, size: int) -> Tensor:
    """[rows, E] raw embeddings; zeros where the method got none. Raises UserError where they are another recogniser's."""
    if faces is None:
        return torch.zeros(rows, size)
    if faces.shape[-1] not in (0, size):
        raise UserError(
            f"face embeddings have {faces.shape[-1]} numbers, this variant's face encoder takes {size}; "
            "extract faces with the recogniser of the variant, or use a variant for that recogniser"
        )
    return faces.float() if faces.shape[-1] else torch.zeros(rows, size)


def with_reference_pose(reference: Reference, driving: Driving) -> tuple[Points, Scores]:
    """[T + 1, 133, 2] and [T + 1, 133]: the reference's own pose, then the driving ones."""
    return np.concatenate([reference.points[None], driving.points]), np.concatenate([reference.scores[None], driving.scores])


def animate(
    network: StableAnimator,
    codec: LatentCodec,
    config: StableAnimatorConfig,
    recogniser: nn.Module | None,
    reference: Reference,
    driving: Driving,
    seed: int,
    advance: Callable[[], None] | None = None,
) -> Iterator[Frames]:
    """One clip in order, uint8 [<= decode_chunk, H, W, 3] at a time: only the latents' memory grows with its length."""
    sampling = config.sampling
    moved = retarget(sampling.retarget, driving.points, driving.scores, reference.points, reference.scores)
    driving = replace(driving, points=moved)
    still = still_condition(network, codec, config, reference, seed)
    target = None
    if recogniser is not None and sampling.hjb.enabled:
        scale = config.size[0] // still.reference_latent.shape[-2]
        target = face_target(codec, recogniser, reference, driving, sampling.hjb, scale)
    steer = steering(target, sampling.hjb)
    anchored = sampling.anchor_reference_pose
    points, scores = with_reference_pose(reference, driving) if anchored else (driving.points, driving.scores)
    poses = DrawnPoses(points, scores, config.size, PoseStyle(style=config.network.pose_drawing))
    steer = behind_anchor(steer) if anchored else steer
    anchor = anchor_latents(codec, config.additions, reference, replace(driving, points=points, scores=scores)).to(still.reference_latent)
    if config.additions.warp:
        still = replace(still, warped=unscaled(codec, anchor)[None])
    latents = generate_latents(network, still, poses, anchor, config, seed, steer=steer, advance=advance)
    for part in latents[1 if anchored else 0 :].split(sampling.decode_chunk):
        yield to_frames(codec.decode(part, sampling.decode_chunk))
