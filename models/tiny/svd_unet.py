"""The tiny SVD twin: UNetSpatioTemporalConditionModel of diffusers, which makes clips from their first frame (Blattmann et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.autoencoders import latent_channels
from models.checkpoint import load_part
from models.clip_dataset import to_signed
from models.guidance import draw_dropped
from models.norm_groups import regrouped
from models.pretrained_networks import svd_vae_folder
from models.stable_animator.temporal_codec import TemporalCodec, codec_in
from models.tiny.base_unet import save_half
from models.tiny.ip_adapter import embeddings_of
from models.tiny.job import TinyJob
from models.tiny.motion_module import LEARNT_FROM, MEASURED_ON, WINDOW
from models.tiny.people import Casting, draw
from models.training_loop import LoopConfig, LossAt, generator_for

# M = clips, L = frames of one, B = windows of a batch, F = frames of a window
BATCH = 2
WIDTHS, HEADS = (32, 64), (2, 4)
GROUPS = 8  # of the norms (models/norm_groups.py)
FPS, MOTION_BUCKET = 24, 127  # SVD's micro-conditions; the bucket is the published pipeline's default, and here always the same
SIGMA_MEAN, SIGMA_STD = 0.7, 1.6  # of ln sigma (App. D, fine-tuned at low resolution)
AUGMENTATION_MEAN, AUGMENTATION_STD = -3.0, 0.5  # of ln sigma of the first frame's noise (App. D)
DROPPED_SHARE = 0.1  # of first frames, for classifier-free guidance
LEVELS = (0.5, 2.0, 10.0)  # sigmas at which it is measured


@dataclass(frozen=True, slots=True)
class LatentClips:
    """latents [M, L, C, h, w] scaled to unit deviation; pictures [M, L, D] of clip_image_tiny; scale: the autoencoder's scaling_factor."""

    latents: Tensor
    pictures: Tensor
    scale: float


def build() -> nn.Module:
    """Untrained: noisy latents and the first frame's, side by side, to latents. Raises MissingWeightsError."""
    from diffusers import UNetSpatioTemporalConditionModel

    channels = latent_channels(svd_vae_folder())
    levels = len(WIDTHS)
    made = UNetSpatioTemporalConditionModel(
        in_channels=2 * channels, out_channels=channels, block_out_channels=WIDTHS, num_attention_heads=HEADS, layers_per_block=1,
        down_block_types=("CrossAttnDownBlockSpatioTemporal",) * levels, up_block_types=("CrossAttnUpBlockSpatioTemporal",) * levels,
        addition_time_embed_dim=32, projection_class_embeddings_input_dim=96, cross_attention_dim=64, num_frames=WINDOW,
    )  # fmt: skip
    network: nn.Module = regrouped(made, GROUPS)
    return network


def learnt_from(cache: Path) -> LatentClips:
    """Clips of the people of the training jobs."""
    return latent_clips(LEARNT_FROM, cache)


@torch.no_grad()
def latent_clips(casting: Casting, cache: Path) -> LatentClips:
    """A casting through the shipped temporal autoencoder and picture tower. Raises MissingWeightsError."""
    codec, people = codec_in(svd_vae_folder()), draw(casting, cache)
    assert isinstance(codec, TemporalCodec)
    parts = np.array_split(np.arange(len(people.frames)), max(1, len(people.frames) // 16))
    latents = torch.cat([codec.encode(to_signed(np.array(people.frames[rows]))) for rows in parts])
    clips = len(np.unique(people.clip))
    return LatentClips(latents.unflatten(0, (clips, -1)), embeddings_of(people.frames).unflatten(0, (clips, -1)), codec.scale)


def loss_of(network: nn.Module, data: LatentClips) -> LossAt:
    """EDM's weighted error of x0 (Karras et al. 2022) with SVD's preconditioning, over random windows."""
    device = next(network.parameters()).device

    def loss_at(micro: int, generator: torch.Generator) -> Tensor:
        clips = torch.randint(len(data.latents), (BATCH,), generator=generator)
        starts = torch.randint(data.latents.shape[1] - WINDOW + 1, (BATCH,), generator=generator)
        clean = torch.stack([data.latents[c, s : s + WINDOW] for c, s in zip(clips, starts, strict=True)])
        sigma = (SIGMA_MEAN + SIGMA_STD * torch.randn(BATCH, generator=generator)).exp()
        augmentation = (AUGMENTATION_MEAN + AUGMENTATION_STD * torch.randn(BATCH, generator=generator)).exp()
        kept = ~draw_dropped(BATCH, DROPPED_SHARE, generator)
        first = clean[:, 0] / data.scale
        first = (first + augmentation[:, None, None, None] * torch.randn(first.shape, generator=generator)) * kept[:, None, None, None]
        pictures = data.pictures[clips, starts] * kept[:, None]
        noise = torch.randn(clean.shape, generator=generator)
        given = clean + sigma[:, None, None, None, None] * noise, sigma, first, pictures, augmentation
        found = denoised(network, *(value.to(device) for value in given))
        weight = ((1 + sigma**2) / sigma**2).to(device)[:, None, None, None, None]
        return (weight * (found - clean.to(device)).square()).mean()

    return loss_at


def denoised(network: Any, noisy: Tensor, sigma: Tensor, first: Tensor, pictures: Tensor, augmentation: Tensor) -> Tensor:
    """Estimate of x0 [B, F, C, h, w] from x0 + sigma eps.

    first [B, C, h, w] in the autoencoder's own scale, as SVD's pipeline gives it; pictures [B, D]; sigma, augmentation [B].
    F's coefficients are those of v-prediction: c_skip = 1 / (s^2 + 1), c_out = -s / sqrt(s^2 + 1), c_in = 1 / sqrt(s^2 + 1), c_noise = ln(s) / 4.
    """
    wide = sigma[:, None, None, None, None]
    stem = torch.cat([noisy / (wide**2 + 1).sqrt(), first[:, None].expand(-1, noisy.shape[1], -1, -1, -1)], dim=2)
    told = torch.stack([torch.full_like(sigma, FPS - 1), torch.full_like(sigma, MOTION_BUCKET), augmentation], dim=1)
    v = network(stem, sigma.log() / 4, encoder_hidden_states=pictures[:, None], added_time_ids=told).sample
    return noisy / (wide**2 + 1) - v * wide / (wide**2 + 1).sqrt()


def export(network: Any, folder: Path) -> None:
    """config.json and diffusion_pytorch_model.safetensors (float16)."""
    save_half(network, folder)


def measure(folder: Path, cache: Path) -> Mapping[str, float]:
    """As `scores_of` over people never seen."""
    from diffusers import UNetSpatioTemporalConditionModel

    return scores_of(load_part(UNetSpatioTemporalConditionModel, folder).eval(), latent_clips(MEASURED_ON, cache))


def scores_of(network: Any, data: LatentClips) -> dict[str, float]:
    """Mean squared error of x0 (unit data) with the right first frame, with another clip's, and with none."""
    first, pictures = data.latents[:, 0] / data.scale, data.pictures[:, 0]
    shown = {
        "x0_loss": (first, pictures),
        "x0_loss_wrong_frame": (first.roll(1, dims=0), pictures.roll(1, dims=0)),
        "x0_loss_no_frame": (torch.zeros_like(first), torch.zeros_like(pictures)),
    }
    return {name: sum(_x0_loss(network, data, *given, sigma) for sigma in LEVELS) / len(LEVELS) for name, given in shown.items()}


@torch.no_grad()
def _x0_loss(network: Any, data: LatentClips, first: Tensor, pictures: Tensor, sigma: float) -> float:
    errors = []
    for clip in range(len(data.latents)):
        clean, rows = data.latents[clip : clip + 1, :WINDOW], slice(clip, clip + 1)
        noisy = clean + sigma * torch.randn(clean.shape, generator=generator_for(clip, round(100 * sigma)))
        level, still = torch.tensor([sigma]), torch.tensor([0.02])
        errors.append(float((denoised(network, noisy, level, first[rows], pictures[rows], still) - clean).square().mean()))
    return sum(errors) / len(errors)


JOB = TinyJob(
    name="svd_unet",
    title="Image-to-video UNet of the demo",
    purpose="A UNetSpatioTemporalConditionModel that makes performers' clips from their first frame, in the place of Stable Video Diffusion's.",
    loop=LoopConfig(steps=3000, learning_rate=1e-3, warmup_steps=100, decay="cosine", ema_decay=0.995, pictures=0),
    draw=learnt_from,
    build=build,
    loss_of=loss_of,
    export=export,
    packed=True,
    measure=measure,
)
