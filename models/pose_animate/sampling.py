"""How clips are made: align the poses, invert the source, optimise embeddings, and denoise all frames of a pass together."""

# F = frames of a pass, T = levels, S D = tokens of a prompt and their width, C h w = latent channels, height, width

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from models.animator import Driving, Reference
from models.clip_dataset import draw_poses, to_signed, to_unit
from models.clip_sampling import decoded_pieces
from models.frame_passes import frame_passes, shared_ticks
from models.guidance import guide
from models.latents import LatentCodec
from models.on_device import on_device
from models.pose_animate.config import PoseAnimateConfig
from models.pose_animate.frame_embedding import FrameTask, FrameWork, RunFrames, one_after_the_other
from models.pose_animate.inversion import Branches, Prompts, invert, optimize_source
from models.pose_animate.mask_decoupling import FrameMasks, pose_hull
from models.pose_animate.network import PoseAnimate, network_of
from models.pose_animate.pose_alignment import AlignedPoses, align_poses
from pipelines.clip import Frames
from pipelines.errors import UserError


@dataclass(frozen=True, slots=True)
class Source:
    """What is known of the source image before any frame is made."""

    prompts: Prompts
    character: list[int]  # places of the character's tokens
    trajectory: Tensor  # [T + 1, 1, C, h, w], Z_0 first
    embeddings: Tensor  # e_s [T, S, D], the noisiest level's first
    mask: Tensor | None  # M_s [1, 1, H, W]; None without MGDM


def animate(
    config: PoseAnimateConfig,
    codec: LatentCodec,
    reference: Reference,
    driving: Driving,
    seed: int,
    advance: Callable[[], None] | None = None,
    run_frames: RunFrames = one_after_the_other,
) -> Iterator[Frames]:
    """uint8 [<= 8, H, W, 3] pieces of the clip, one frame for each driving pose; the source and the transition frames are made, but not given.

    The seed changes nothing: all frames begin with the source's own inverted noise. Raises UserError where the reference lacks what the
    variant needs.
    """
    network, poses = network_of(config), aligned(reference, driving, config)
    source = prepare(network, codec, reference)
    passes = frame_passes(len(poses.points), config.sampling.frames + 1)
    tick, embeddings = shared_ticks(advance, len(passes)), dict[int, Tensor]()
    for frames, repeated in passes:
        embeddings = embeddings_of(network, source, poses, frames, embeddings, run_frames)
        together = torch.stack([embeddings[frame] for frame in frames]).to(source.trajectory)
        latents = denoise_pass(network, source, poses, frames, together, tick)
        wanted = [place for place, frame in enumerate(frames) if place >= repeated and frame >= poses.leading]
        if wanted:  # a short pass may be transition frames alone
            yield from decoded_pieces(codec, latents[wanted])


def aligned(reference: Reference, driving: Driving, config: PoseAnimateConfig) -> AlignedPoses:
    """PATA. Raises UserError where source and driving pose share no joint."""
    try:
        return align_poses((reference.points, reference.scores), (driving.points, driving.scores), config.size[0], config.pata)
    except ValueError as error:
        raise UserError(f"pose_animate: {error}") from None


def prepare(network: PoseAnimate, codec: LatentCodec, reference: Reference) -> Source:
    """Inversion and pose-aware inversion of the source (Alg. 1, lines 1 and 2)."""
    config = network.config
    prompt, word = prompt_of(reference, config)
    prompts = Prompts(network.text([prompt]), network.text([""]), network.text.length_of(prompt))
    pose = to_unit(draw_poses(reference.points[None], reference.scores[None], config.size))
    latent = codec.encode(to_signed(reference.image[None])).to(prompts.conditional)
    trajectory = invert(network, latent, prompts.conditional, pose)
    branches = Branches(network, prompts, config.sampling.guidance_scale, config.pacm.optimize)
    unchanged = branches.initial.expand(network.schedule.steps, -1, -1)
    embeddings = optimize_source(branches, trajectory, pose, config.pacm) if config.pacm.enabled else unchanged
    decoupled = config.dcam.enabled and config.mgdm.enabled
    mask = body_mask_of(reference, config) if decoupled else None
    return Source(prompts, network.text.places_of(prompt, word) if decoupled else [], trajectory, embeddings, mask)


def prompt_of(reference: Reference, config: PoseAnimateConfig) -> tuple[str, str]:
    """C and its word for the character: of the reference's signals, else of the config. Raises UserError where there is no prompt."""
    told = reference.signals.caption
    if told:
        return told, reference.signals.character or config.character
    if not config.prompt:
        raise UserError(
            "pose_animate needs a prompt that says what the reference shows, and it has no caption; extract captions, or give the variant a prompt"
        )
    return config.prompt, config.character


def body_mask_of(reference: Reference, config: PoseAnimateConfig) -> Tensor:
    """M_s [1, 1, H, W]. Raises UserError where the reference has none, unless the variant takes its pose's hull."""
    if reference.signals.body_mask is not None:
        return reference.signals.body_mask
    if config.mgdm.without_mask == "error":
        raise UserError("pose_animate needs the body mask of the reference; extract person masks, or take a variant with -no_mgdm")
    return pose_hull(reference.points[None], reference.scores[None], config.size, config.mgdm.dilation)


def embeddings_of(
    network: PoseAnimate, source: Source, poses: AlignedPoses, frames: list[int], before: dict[int, Tensor], run_frames: RunFrames
) -> dict[int, Tensor]:
    """Embeddings [T, S, D] by frame, on the CPU: frame 0 has the source's, those of the pass `before` are kept, the others are optimised (Alg. 1).

    Without PACM all frames have the prompt's.
    """
    if not network.config.pacm.enabled:
        return dict.fromkeys(frames, source.embeddings.cpu())
    new = [frame for frame in frames if frame not in before and frame != 0]
    shared = on_device(source, torch.device("cpu"))
    tasks = [
        FrameTask(pose=pose_images(poses, [frame], network.config), trajectory=shared.trajectory, source_embeddings=shared.embeddings,
                  prompts=shared.prompts)
        for frame in new
    ]  # fmt: skip
    made = dict(zip(new, run_frames(FrameWork(network.config), tasks), strict=True))
    return {**{frame: before[frame] for frame in frames if frame in before}, **made, 0: source.embeddings.cpu()}


def pose_images(poses: AlignedPoses, frames: list[int], config: PoseAnimateConfig) -> Tensor:
    """[F, 3, H, W] in [0, 1]."""
    return to_unit(draw_poses(poses.points[frames], poses.scores[frames], config.size))


@torch.no_grad()
def denoise_pass(
    network: PoseAnimate, source: Source, poses: AlignedPoses, frames: list[int], embeddings: Tensor, advance: Callable[[], None]
) -> Tensor:
    """Clean latents [F, C, h, w] of frames that are denoised together, all from Z_T; embeddings [F, T, S, D]."""
    config, count = network.config, len(frames)
    images = pose_images(poses, frames, config)
    latents = source.trajectory[-1].expand(count, -1, -1, -1)
    masks = None
    if source.mask is not None:
        hulls = pose_hull(poses.points[frames], poses.scores[frames], config.size, config.mgdm.dilation)
        masks = FrameMasks(source.mask, hulls, (latents.shape[2], latents.shape[3]), config.mgdm)
    network.maps.forget()
    for index, level in enumerate(range(network.schedule.steps, 0, -1)):
        noise = _guided_noise(network, source, latents, level, embeddings[:, index], images, masks, index)
        latents = network.step(latents, noise, level)
        advance()
    return latents


def _guided_noise(
    network: PoseAnimate,
    source: Source,
    latents: Tensor,
    level: int,
    embedding: Tensor,
    images: Tensor,
    masks: FrameMasks | None,
    index: int,
) -> Tensor:
    """Both branches, one after the other, under the same masks: those of the maps of the levels before this one."""
    config, count = network.config, len(latents)
    sides = source.prompts.conditional.expand(count, -1, -1), source.prompts.unconditional.expand(count, -1, -1)
    conditional, unconditional = (embedding, sides[1]) if config.pacm.optimize == "cond" else (sides[0], embedding)
    scale = config.mgdm.map_scale
    maps = network.maps.mean(latents.shape[2] // scale, latents.shape[3] // scale)
    masks_at = masks.at(index / network.schedule.steps, maps) if masks is not None else None
    with network.consistency.over(count if config.dcam.enabled else 0, masks_at):
        without = network.noise(latents, level, unconditional, images)
        with network.maps.recording(source.character):
            given = network.noise(latents, level, conditional, images)
    return guide(without, given, config.sampling.guidance_scale)
