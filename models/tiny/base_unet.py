"""The tiny base: a text-conditioned UNet2DConditionModel of diffusers, in the place of Stable Diffusion's.

It learns pictures, not differences between pictures, with the schedule that the methods train with (models/noise.py): both UNets of a
method start from it, and the reference UNet reads whole pictures. For latents of unit variance the best linear estimate of v
(noise.linear_estimate) is zero, so there is no skip to choose here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.animate_anyone.config import DEMO
from models.autoencoders import autoencoder_folder, latent_channels
from models.checkpoint import load_part
from models.guidance import draw_dropped
from models.noise import NoiseConfig, add_noise, alpha_bar, diffusion_loss, draw_noise, loss_weight, make_scheduler, target_of
from models.tiny.boxed_people import LEARNT_FROM, MEASURED_ON  # the same drawings as the pose networks'
from models.tiny.job import TinyJob
from models.tiny.latent_people import LatentPeople, latent_people
from models.training_loop import LoopConfig, LossAt, generator_for
from models.unet_shape import UnetShape, make_unet

NOISE = NoiseConfig()
BATCH = 16
EMPTY_SHARE = 0.1  # of captions, for classifier-free guidance
LEVELS = (50, 250, 500, 750, 999)  # timesteps at which it is measured


def network_config() -> UnetShape:
    """The demo's size with the shipped autoencoder's channels."""
    return replace(DEMO.network.unet, latent_channels=latent_channels(autoencoder_folder("demo")))


def build() -> nn.Module:
    """Untrained; it begins at v = 0, the best guess that does not look."""
    unet: Any = make_unet(network_config())
    for parameter in unet.conv_out.parameters():
        nn.init.zeros_(parameter)
    network: nn.Module = unet.to(memory_format=torch.channels_last)
    return network


def learnt_from(cache: Path) -> LatentPeople:
    """The people of the training jobs."""
    return latent_people(LEARNT_FROM, cache)


def loss_of(network: nn.Module, data: LatentPeople) -> LossAt:
    """v of random frames, half of them mirrored, at random timesteps."""
    device, scheduler = next(network.parameters()).device, make_scheduler(NOISE)

    def loss_at(micro: int, generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(data.latents), (BATCH,), generator=generator)
        clean = data.drawn(chosen, torch.rand(BATCH, generator=generator) < 0.5).contiguous(memory_format=torch.channels_last)
        text = data.told(chosen, draw_dropped(BATCH, EMPTY_SHARE, generator))
        timesteps = torch.randint(NOISE.train_steps, (BATCH,), generator=generator)
        noise = draw_noise(clean.shape, NOISE, generator)
        alpha = alpha_bar(scheduler, timesteps, clean)
        noisy = add_noise(clean, noise, alpha).to(device)
        prediction = network(noisy, timesteps.to(device), encoder_hidden_states=text.to(device)).sample
        target, weight = target_of(clean, noise, alpha, NOISE.objective), loss_weight(alpha, NOISE)
        return diffusion_loss(prediction, target.to(device), weight.to(device))

    return loss_at


def export(network: nn.Module, folder: Path) -> None:
    """unet/config.json and unet/diffusion_pytorch_model.safetensors (float16), as in Stable Diffusion's folder."""
    save_half(network, folder / "unet")


def save_half(network: Any, folder: Path) -> None:
    """A model of diffusers in half precision; its config names no path and no version."""
    network.half().save_pretrained(folder)
    network.float()
    config = json.loads((folder / "config.json").read_text())
    config.pop("_name_or_path", None)
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def measure(folder: Path, cache: Path) -> Mapping[str, float]:
    """As `scores_of` over people never seen."""
    from diffusers import UNet2DConditionModel

    return scores_of(load_part(UNet2DConditionModel, folder / "unet").eval(), latent_people(MEASURED_ON, cache))


def scores_of(unet: Any, data: LatentPeople) -> dict[str, float]:
    """Mean squared error of v by timestep (1.0 = the error of saying 0 about unit data), and with right, another clip's and no caption.

    The caption's worth is at the last timestep, where nothing of the picture is left in the noise.
    """
    frames = torch.arange(0, len(data.latents), 4)
    right = data.told(frames)
    by_level = {f"v_loss_t{level:03d}": v_loss(unet, data, frames, right, level) for level in LEVELS}
    other = right.roll(len(frames) // 2, dims=0)
    empty = data.told(frames, torch.ones(len(frames), dtype=torch.bool))
    last = LEVELS[-1]
    return {
        "v_loss": sum(by_level.values()) / len(by_level),
        **by_level,
        f"v_loss_t{last}_wrong_caption": v_loss(unet, data, frames, other, last),
        f"v_loss_t{last}_no_caption": v_loss(unet, data, frames, empty, last),
    }


@torch.no_grad()
def v_loss(unet: Any, data: LatentPeople, frames: Tensor, text: Tensor, timestep: int) -> float:
    """Mean squared error of v at one timestep, unweighted, with the same noise for every call. text [N, 77, D]."""
    clean = data.drawn(frames, torch.zeros(len(frames), dtype=torch.bool))
    noise = torch.randn(clean.shape, generator=generator_for(1, timestep))
    times = torch.full((len(frames),), timestep)
    alpha = alpha_bar(make_scheduler(NOISE), times, clean)
    noisy, target = add_noise(clean, noise, alpha), target_of(clean, noise, alpha, NOISE.objective)
    parts = zip(noisy.split(32), times.split(32), text.split(32), strict=True)
    predicted = torch.cat([unet(x, t, encoder_hidden_states=words).sample for x, t, words in parts])
    return float((predicted - target).square().mean())


JOB = TinyJob(
    name="base_unet",
    title="Text-conditioned base of the demo's generators",
    purpose="A UNet2DConditionModel that learnt performers' latents from their captions, in the place of Stable Diffusion's UNet.",
    loop=LoopConfig(steps=4500, learning_rate=1.5e-3, warmup_steps=200, weight_decay=1e-2, decay="cosine", ema_decay=0.995, pictures=0),
    draw=learnt_from,
    build=build,
    loss_of=loss_of,
    export=export,
    packed=True,
    measure=measure,
)
