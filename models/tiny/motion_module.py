"""The tiny motion module: AnimateDiff's temporal layers for the tiny base (Guo et al. 2024), in the place of its second version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.animate_anyone.config import DEMO
from models.checkpoint import load_part
from models.guidance import draw_dropped
from models.noise import add_noise, alpha_bar, diffusion_loss, draw_noise, loss_weight, make_scheduler, target_of
from models.pretrained_networks import base_unet_folder
from models.temporal_attention import motion_parameters, with_motion, zero_motion_output
from models.tiny.base_unet import EMPTY_SHARE, NOISE, save_half
from models.tiny.job import TinyJob
from models.tiny.latent_people import LatentPeople, latent_people
from models.tiny.people import TRAINING_IDENTITIES, UNSEEN_IDENTITIES, cast
from models.training_loop import LoopConfig, LossAt, generator_for
from models.unet_shape import make_motion

# B = windows of a batch, F = frames of a window, C h w = channels, height, width of a latent
WINDOW = DEMO.stage_2.window
BATCH = 2
SHARED_SHARE = 0.5  # of windows whose frames have the same noise: the demo samples so, AnimateDiff with independent noise
FIRST_OUTPUT = 0.02  # deviation of the output layers' weights at the start
LEVELS = (250, 500, 750)  # timesteps at which it is measured
LEARNT_FROM = cast(TRAINING_IDENTITIES, clips=1, frames=24, every=1)
MEASURED_ON = cast(UNSEEN_IDENTITIES, clips=1, frames=WINDOW, every=1)


def build() -> nn.Module:
    """The shipped base, frozen, with motion modules that change little yet. Raises MissingWeightsError."""
    from diffusers import UNet2DConditionModel

    base = load_part(UNet2DConditionModel, base_unet_folder("demo"))
    shape = replace(DEMO.network.unet, channels=tuple(base.config.block_out_channels))
    unet: Any = with_motion(base, make_motion(shape))
    network: nn.Module = unet.requires_grad_(False)
    for name, parameter in motion_parameters(network).items():
        parameter.requires_grad_(True)
        if "proj_out" in name:  # AnimateDiff begins with zeros there: little was learnt in 470 steps (DECISIONS.md)
            nn.init.normal_(parameter, std=FIRST_OUTPUT)
    return network


def learnt_from(cache: Path) -> LatentPeople:
    """Clips of the people of the training jobs at the demo's rate."""
    return latent_people(LEARNT_FROM, cache)


def loss_of(network: nn.Module, data: LatentPeople) -> LossAt:
    """v of random windows; a window has one timestep, one orientation and one caption."""
    device, scheduler = next(network.parameters()).device, make_scheduler(NOISE)

    def loss_at(micro: int, generator: torch.Generator) -> Tensor:
        frames = windows(data, BATCH, generator)
        flip = (torch.rand(BATCH, 1, generator=generator) < 0.5).expand_as(frames)
        clean = data.drawn(frames.flatten(), flip.flatten()).unflatten(0, frames.shape).transpose(1, 2)
        text = data.told(frames[:, 0], draw_dropped(BATCH, EMPTY_SHARE, generator))
        timesteps = torch.randint(NOISE.train_steps, (BATCH,), generator=generator)
        noise = window_noise(clean.shape, torch.rand(BATCH, generator=generator) < SHARED_SHARE, generator)
        alpha = alpha_bar(scheduler, timesteps, clean)
        noisy = add_noise(clean, noise, alpha).to(device)
        prediction = network(noisy, timesteps.to(device), encoder_hidden_states=_each_frame(text).to(device)).sample
        target, weight = target_of(clean, noise, alpha, NOISE.objective), loss_weight(alpha, NOISE)
        return diffusion_loss(prediction, target.to(device), weight.to(device))

    return loss_at


def windows(data: LatentPeople, count: int, generator: torch.Generator) -> Tensor:
    """Frames [count, F] of random windows, each within one clip."""
    length = len(data.latents) // len(data.captions)
    clips = torch.randint(len(data.captions), (count, 1), generator=generator)
    starts = torch.randint(length - WINDOW + 1, (count, 1), generator=generator)
    return clips * length + starts + torch.arange(WINDOW)


def _each_frame(text: Tensor) -> Tensor:
    """[B, 77, D] -> [B * F, 77, D], as UNetMotionModel wants it."""
    return text.repeat_interleave(WINDOW, dim=0)


def window_noise(shape: torch.Size, shared: Tensor, generator: torch.Generator) -> Tensor:
    """Noise [B, C, F, h, w], the same for all frames where `shared` [B]."""
    noise = draw_noise(shape, NOISE, generator)
    return torch.where(shared[:, None, None, None, None], noise[:, :, :1], noise)


def export(network: Any, folder: Path) -> None:
    """config.json and diffusion_pytorch_model.safetensors (float16) of a MotionAdapter."""
    save_half(adapter_of(network), folder)


def adapter_of(network: Any) -> Any:
    """The MotionAdapter with the motion modules of a UNetMotionModel."""
    adapter = make_motion(replace(DEMO.network.unet, channels=tuple(network.config.block_out_channels)))
    adapter.load_state_dict({name: value.cpu() for name, value in network.state_dict().items() if "motion_modules" in name})
    return adapter


def measure(folder: Path, cache: Path) -> Mapping[str, float]:
    """As `scores_of` over people never seen."""
    from diffusers import MotionAdapter, UNet2DConditionModel

    base = load_part(UNet2DConditionModel, base_unet_folder("demo"))
    return scores_of(base.eval(), load_part(MotionAdapter, folder), latent_people(MEASURED_ON, cache))


def scores_of(base: Any, adapter: Any, data: LatentPeople) -> dict[str, float]:
    """Mean squared error of v over windows, with the motion modules and without; flicker: how much predicted x0 changes between frames.

    flicker_ratio: mean |difference of neighbouring predicted frames| over the truth's, at independent noise (1 = as steady as the truth).
    """
    unet = with_motion(base, adapter).eval()
    still, moving = _zeroed(unet), unet
    scores: dict[str, float] = {}
    for name, network in (("v_loss", moving), ("v_loss_without", still)):
        errors, flickers = zip(*(_errors(network, data, level) for level in LEVELS), strict=True)
        scores[name] = sum(errors) / len(errors)
        scores[name.replace("v_loss", "flicker_ratio")] = sum(flickers) / len(flickers)
    return scores


def _zeroed(unet: Any) -> Any:
    from copy import deepcopy

    still = deepcopy(unet)
    zero_motion_output(still)
    return still


@torch.no_grad()
def _errors(unet: Any, data: LatentPeople, level: int) -> tuple[float, float]:
    """(squared error of v, flicker of x0 relative to the truth's) of the first window of every clip at one timestep, independent noise."""
    length, scheduler, errors, flickers = len(data.latents) // len(data.captions), make_scheduler(NOISE), [], []
    for clip in range(len(data.captions)):
        frames = clip * length + torch.arange(WINDOW)
        clean = data.drawn(frames, torch.zeros(WINDOW, dtype=torch.bool)).transpose(0, 1)[None]
        noise, times = torch.randn(clean.shape, generator=generator_for(clip, level)), torch.tensor([level])
        alpha = alpha_bar(scheduler, times, clean)
        noisy = add_noise(clean, noise, alpha)
        v = unet(noisy, times, encoder_hidden_states=_each_frame(data.told(frames[:1]))).sample
        errors.append(float((v - target_of(clean, noise, alpha, NOISE.objective)).square().mean()))
        found = alpha.sqrt() * noisy - (1 - alpha).sqrt() * v
        flickers.append(float(found.diff(dim=2).abs().mean() / clean.diff(dim=2).abs().mean().clamp(min=1e-6)))
    return sum(errors) / len(errors), sum(flickers) / len(flickers)


JOB = TinyJob(
    name="motion_module",
    title="Motion module of the demo's generators",
    purpose="A MotionAdapter for the tiny base, learnt from windows of 12 frames of performers, in the place of AnimateDiff's.",
    loop=LoopConfig(steps=2000, learning_rate=2e-3, warmup_steps=50, decay="cosine", ema_decay=0.995, pictures=0),
    draw=learnt_from,
    build=build,
    loss_of=loss_of,
    export=export,
    packed=True,
    measure=measure,
)
