"""How clips are made (Sec. 3.4): initial reference noise, animation-cfg and prompt travelling over DDIM."""

# F = frames of the clip, C h w = latent channels, height, width

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from models.animator import Driving, Reference
from models.clip_dataset import Batch
from models.clip_sampling import (
    ClipCondition,
    DrawnPoses,
    Guide,
    decoded_pieces,
    generate_batch,
    generate_latents,
    initial_noise,
    still_of,
    warped_latents,
)  # fmt: skip
from models.guidance import animation_guide
from models.hia.config import HiaConfig, Sampling
from models.hia.network import Hia, HiaCondition
from models.latents import LatentCodec
from models.noise import add_noise, alpha_bar
from models.sampling_loop import WindowsAt
from models.stage_loss import still_condition
from models.training_loop import generator_for
from models.windows import draw_offset, travelling_windows
from pipelines.clip import Frames


def initial_reference_noise(latent: Tensor, frames: int, scheduler: Any, seed: int) -> Tensor:
    """x_T = sqrt(a_T) z_ref + sqrt(1 - a_T) eps, [F, C, h, w]: "diffuse these latent features 999 times".

    latent [1, C, h, w]. eps is drawn for each frame (the paper does not say). With gamma = .571, z_ref weighs 3.0 %.
    """
    last = torch.tensor([len(scheduler.alphas_cumprod) - 1])
    noise = initial_noise(frames, latent.shape[1:], seed, shared=False).to(latent)
    return add_noise(latent, noise, alpha_bar(scheduler, last, noise))


def animation_cfg(sampling: Sampling) -> Guide:
    """Eq. 4 in the reading that is asked for; off, or at the weight of the conditional prediction alone, the unconditional branch never runs."""
    alone = {"usual": 1.0, "from_conditional": 0.0, "printed": -1.0}[sampling.acfg_form]
    if not sampling.acfg or sampling.guidance_scale == alone:
        return lambda unconditional, conditional: conditional
    return lambda unconditional, conditional: animation_guide(unconditional(), conditional, sampling.guidance_scale, sampling.acfg_form)


def prompt_travel(frames: int, sampling: Sampling, seed: int) -> WindowsAt:
    """Windows that begin elsewhere at every denoising step; the offsets are drawn from the seed before the first."""
    generator = generator_for(seed, 1)
    offsets = [draw_offset(sampling.window, sampling.overlap, generator) for _ in range(sampling.steps)]
    return lambda step: travelling_windows(frames, sampling.window, sampling.overlap, offsets[step])


def make_latents(
    network: Hia, condition: ClipCondition[HiaCondition], sampling: Sampling, seed: int, advance: Callable[[], None] | None = None
) -> Tensor:
    """[F, C, h, w] latents of one reference and F frames, with the techniques that `sampling` switches on."""
    latent = condition.still.reference_latent
    return generate_latents(
        network,
        condition,
        sampling,
        seed,
        advance=advance,
        windows_at=prompt_travel(condition.frames, sampling, seed) if sampling.prompt_travel else None,
        guided=animation_cfg(sampling),
        noise=initial_reference_noise(latent, condition.frames, network.scheduler, seed) if sampling.irn else None,
    )


def pieces(
    network: Hia,
    codec: LatentCodec,
    config: HiaConfig,
    reference: Reference,
    driving: Driving,
    seed: int,
    advance: Callable[[], None] | None = None,
) -> Iterator[Frames]:
    """One clip in order, a few frames at a time, uint8 [<= 8, H, W, 3]."""
    poses, blur = DrawnPoses(driving.points, driving.scores, config.size), driving_blur(config, driving)
    warped = warped_latents(codec, reference, driving) if network.additions.warp else None
    still = HiaCondition(**still_of(network, codec, reference.image), blur=torch.zeros(0, 3, *config.size), warped=warped)
    latents = make_latents(network, with_frames(still, poses, blur), config.sampling, seed, advance)
    yield from decoded_pieces(codec, latents)


def driving_blur(config: HiaConfig, driving: Driving) -> Tensor:
    """[F, 3, H, W] motion-blur maps of a driving clip (Sec. 3.2); hands all equally sharp where `sampling.sharpness` is a constant."""
    blur = driving.signals.blur
    if not config.blur.enabled:
        return torch.zeros(1, 3, *config.size).expand(len(driving.points), -1, -1, -1)
    if blur is None:
        raise ValueError("the driving clip has no motion-blur map; the method lists 'hands' in `needs`")
    return blur if config.sampling.sharpness == "driving" else with_sharpness(blur, config.sampling.clean_sharpness)


def with_sharpness(blur: Tensor, value: float) -> Tensor:
    """The same maps [F, 3, H, W] with every hand `value` sharp."""
    hand = (blur > 0).any(dim=1)
    sharp = torch.where(hand, torch.full_like(blur[:, 2], value), blur[:, 2])
    return torch.cat([blur[:, :2], sharp[:, None]], dim=1)


def with_frames(still: HiaCondition, poses: Tensor | DrawnPoses, blur: Tensor) -> ClipCondition[HiaCondition]:
    """A clip's condition of which the poses and the blur maps [F, 3, H, W] differ between frames."""
    return ClipCondition(
        still=still, frames=len(poses), of=lambda condition, frames: replace(condition, pose=poses[frames], blur=blur[frames])
    )


def condition_of(network: Hia, batch: Batch) -> HiaCondition:
    """Conditions of a batch, nothing dropped."""
    blur = batch.signals.blur
    if blur is None and network.config.blur.enabled:
        raise ValueError("the batch has no motion-blur map; the method lists 'hands' in `needs`")
    return HiaCondition(**still_condition(network, batch), blur=torch.zeros_like(batch.pose) if blur is None else blur)


def animate_batch(network: Hia, codec: LatentCodec, batch: Batch, seed: int) -> Tensor:
    """[R, K, 3, H, W] in [-1, 1] for a training batch, for the periodic pictures."""

    def make(one: HiaCondition) -> Tensor:
        return make_latents(network, with_frames(one, one.pose, one.blur), network.config.sampling, seed)

    return generate_batch(make, codec, condition_of(network, batch), batch)
