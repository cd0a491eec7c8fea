"""The autoencoder of the tiny SVD twin: AutoencoderKLTemporalDecoder of diffusers, whose decoder sees neighbouring frames (Blattmann et al. 2023)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.checkpoint import load_part
from models.clip_dataset import to_frames, to_signed
from models.latents import save_packing
from models.norm_groups import regrouped
from models.stable_animator.temporal_codec import TemporalCodec
from models.tiny.autoencoder import corners_of
from models.tiny.base_unet import save_half
from models.tiny.job import TinyJob
from models.tiny.motion_module import LEARNT_FROM, MEASURED_ON
from models.tiny.people import People, draw
from models.training_loop import LoopConfig, LossAt
from pipelines.clip import Frames

# B = clips of a batch, T = frames of one
# Two halvings, and latents packed two by two as the demo's image autoencoder has them: 32 x 16 x 16 for 128 x 128. With SVD's three halvings and
# 16 channels whole frames came back at 27.0 dB, without faces.
WIDTHS = (32, 32, 32)  # the smallest that diffusers builds
LATENT_CHANNELS, PACKING = 8, 2
GROUPS = 8  # of the norms (models/norm_groups.py)
FRAMES, CROP_PX = 8, 64  # pictures of a step
ON_PERSON = 0.5  # share of crops around a keypoint, as the image autoencoder's
FIRST_LOG_VARIANCE = -6.0  # of the posterior: at diffusers' 0, latents are noise until it has shrunk
# Frames of a clip, one of them for each step: trained on pairs alone, pairs came back at 28.4 dB and four frames at 20.4.
LENGTHS = (1, 2, 4)
KL_WEIGHT = 1e-6  # Rombach et al. 2022


def build() -> nn.Module:
    """Untrained."""
    from diffusers import AutoencoderKLTemporalDecoder

    made = AutoencoderKLTemporalDecoder(
        down_block_types=("DownEncoderBlock2D",) * len(WIDTHS), block_out_channels=WIDTHS, layers_per_block=1,
        latent_channels=LATENT_CHANNELS, scaling_factor=1.0, force_upcast=False,
    )  # fmt: skip
    network: nn.Module = begun(regrouped(made, GROUPS))
    return network


@torch.no_grad()
def begun(network: Any) -> Any:
    """The network whose residual blocks and attention add nothing yet, and whose posterior is narrow.

    After 300 steps its crops of people were at 20.3 dB, without the two at 18.7.
    """
    from diffusers.models.attention_processor import Attention
    from diffusers.models.resnet import ResnetBlock2D, TemporalResnetBlock

    last = [module.conv2 for module in network.modules() if isinstance(module, ResnetBlock2D | TemporalResnetBlock)]
    last += [module.to_out[0] for module in network.modules() if isinstance(module, Attention)]
    for layer in last:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    nn.init.zeros_(network.quant_conv.weight[LATENT_CHANNELS:])
    nn.init.constant_(network.quant_conv.bias[LATENT_CHANNELS:], FIRST_LOG_VARIANCE)
    return network


def learnt_from(cache: Path) -> People:
    """Clips of the people of the training jobs at the demo's rate."""
    return draw(LEARNT_FROM, cache)


def loss_of(network: Any, people: People) -> LossAt:
    """Mean absolute plus twice the squared error of moving crops [B * T, 3, crop, crop], and a little KL."""

    def loss_at(micro: int, generator: torch.Generator) -> Tensor:
        length = LENGTHS[int(torch.randint(len(LENGTHS), (), generator=generator))]
        images = to_signed(crops(people, FRAMES // length, length, generator)).to(network.device)
        posterior = network.encode(images).latent_dist
        sample = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=generator).to(images)
        error = network.decode(sample, num_frames=length).sample - images
        return error.abs().mean() + 2 * error.square().mean() + KL_WEIGHT * posterior.kl().mean()

    return loss_at


def crops(people: People, clips: int, length: int, generator: torch.Generator) -> Frames:
    """[clips * length, crop, crop, 3]: the same crop of neighbouring frames of each clip, half of the clips mirrored."""
    starts = np.flatnonzero(people.clip[: len(people.clip) - length + 1] == people.clip[length - 1 :])
    chosen = starts[torch.randint(len(starts), (clips,), generator=generator).numpy()].tolist()
    corners = corners_of(people, chosen, CROP_PX, ON_PERSON, generator).tolist()
    flips = (torch.rand(clips, generator=generator) < 0.5).tolist()
    parts = [people.frames[i : i + length, y : y + CROP_PX, x : x + CROP_PX] for i, (y, x) in zip(chosen, corners, strict=True)]
    return np.concatenate([part[:, :, ::-1] if flip else part for part, flip in zip(parts, flips, strict=True)])


def export(network: Any, folder: Path) -> None:
    """config.json and diffusion_pytorch_model.safetensors (float16)."""
    save_half(network, folder)


@torch.no_grad()
def write_scale(network: Any, folder: Path, people: People) -> None:
    """scaling_factor of config.json: one over the latents' standard deviation on training frames, as Stable Diffusion's was found.

    How latents are packed is in latents.json.
    """
    images = to_signed(np.array(people.frames[:: max(1, len(people.frames) // 256)]))
    std = float(torch.cat([network.encode(part).latent_dist.mean for part in images.split(16)]).std())
    config = json.loads((folder / "config.json").read_text())
    config["scaling_factor"] = round(1 / std, 6)
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    save_packing(folder, PACKING)


def measure(folder: Path, cache: Path) -> Mapping[str, float]:
    """As `scores_of` over people never seen."""
    from diffusers import AutoencoderKLTemporalDecoder

    return scores_of(load_part(AutoencoderKLTemporalDecoder, folder).eval(), draw(MEASURED_ON, cache))


@torch.no_grad()
def scores_of(network: Any, people: People) -> dict[str, float]:
    """psnr_db: mean over frames of what clips become, a few frames at a time as in sampling, rounded to 8 bit.

    flicker_ratio: change between neighbouring frames over the truth's.
    """
    codec, values, ratios = TemporalCodec(network, PACKING), [], []
    for clip in np.unique(people.clip):
        frames = np.array(people.frames[people.clip == clip])
        images = to_signed(frames)
        decoded = codec.decode(codec.encode(images))
        made, truth = to_frames(decoded).astype(np.float64), frames.astype(np.float64)
        values += [float(20 * np.log10(255 / np.sqrt(max(error, 1e-9)))) for error in ((made - truth) ** 2).mean((1, 2, 3))]
        ratios.append(float(np.abs(np.diff(made, axis=0)).mean() / max(np.abs(np.diff(truth, axis=0)).mean(), 1e-9)))
    return {"psnr_db": float(np.mean(values)), "flicker_ratio": float(np.mean(ratios))}


JOB = TinyJob(
    name="svd_vae",
    title="Temporal autoencoder of the demo",
    purpose="An AutoencoderKLTemporalDecoder with 8 x 32 x 32 latents for 128 x 128 pixels, in the place of Stable Video Diffusion's.",
    loop=LoopConfig(steps=5000, learning_rate=2e-3, warmup_steps=100, weight_decay=1e-4, decay="cosine", ema_decay=0.995, pictures=0),
    draw=learnt_from,
    build=build,
    loss_of=loss_of,
    export=export,
    packed=True,
    finish=write_scale,
    measure=measure,
)
