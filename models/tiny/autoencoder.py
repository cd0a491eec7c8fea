"""The demo's autoencoder: AutoencoderTiny, four times smaller per side, trained on performers that it is then not measured on."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.clip_dataset import to_signed
from models.latents import LatentCodec, save_statistics
from models.training_loop import flushed_denormals, generator_for, replace_folder
from pipelines.clip import Frames
from pipelines.progress import Progress
from pipelines.sources.scan import sha256_of

SHIPPED = Path(__file__).resolve().parents[2] / "pipelines" / "tiny" / "autoencoder"

TRAIN_IDENTITIES = range(2000, 2064)  # apart from the demo's people (0..) and its test people (1000..)
UNSEEN_IDENTITIES = range(3000, 3016)


@dataclass(frozen=True, kw_only=True, slots=True)
class AutoencoderConfig:
    """Size and training. 4 x 32 x 32 latents at 128 x 128, packed to 16 x 16 x 16 by LatentCodec."""

    width: int = 32
    blocks: tuple[int, ...] = (1, 2, 2)  # residual blocks per level; one level less than halvings
    latent_channels: int = 4
    packing: int = 2
    steps: int = 2000
    batch: int = 16
    crop_px: int = 64
    learning_rate: float = 2e-3
    motions: int = 2  # clips per identity
    frames: int = 24  # per clip


def make_autoencoder(config: AutoencoderConfig) -> Any:
    """An untrained AutoencoderTiny of diffusers."""
    from diffusers import AutoencoderTiny

    widths = (config.width,) * len(config.blocks)
    return AutoencoderTiny(
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        num_encoder_blocks=config.blocks,
        num_decoder_blocks=config.blocks[::-1],
        latent_channels=config.latent_channels,
        upsampling_scaling_factor=2,
    )


def performer_frames(identities: range, config: AutoencoderConfig) -> Frames:
    """Every third frame of a few dances of each identity, [N, 128, 128, 3]."""
    from pipelines.performers import perform

    clips = [
        perform(identity, identity * 10 + motion, frames=config.frames).frames[::3]
        for identity in identities
        for motion in range(config.motions)
    ]
    return np.concatenate(clips)


def _crops(images: Tensor, config: AutoencoderConfig, seed: int) -> Iterator[Tensor]:
    """Random crops [B, 3, crop, crop] and mirrorings, one batch per step."""
    for step in range(config.steps):
        generator = generator_for(seed, step)
        chosen = torch.randint(len(images), (config.batch,), generator=generator)
        corners = torch.randint(images.shape[-1] - config.crop_px + 1, (config.batch, 2), generator=generator)
        flips = torch.rand(config.batch, generator=generator) < 0.5
        crops = [
            images[i, :, y : y + config.crop_px, x : x + config.crop_px]
            for i, (y, x) in zip(chosen.tolist(), corners.tolist(), strict=True)
        ]
        yield torch.stack([crop.flip(-1) if flip else crop for crop, flip in zip(crops, flips.tolist(), strict=True)]).contiguous(
            memory_format=torch.channels_last
        )


@flushed_denormals()
def fit(autoencoder: Any, images: Tensor, config: AutoencoderConfig, seed: int) -> None:
    """Mean absolute plus squared error, one-cycle learning rate."""
    autoencoder.to(memory_format=torch.channels_last)  # a quarter faster on a CPU
    optimizer = torch.optim.AdamW(autoencoder.parameters(), lr=config.learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=config.steps, pct_start=0.05)
    with closing(Progress(config.steps, "steps", "autoencoder")) as bar:
        for batch in _crops(images, config, seed):
            error = autoencoder.decode(autoencoder.encode(batch).latents).sample - batch
            loss = error.abs().mean() + 2 * error.square().mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(autoencoder.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            bar.update(1)


def reconstruction_psnr(codec: LatentCodec, frames: Frames) -> float:
    """Mean over frames of the PSNR in dB of decode(encode(frame)), rounded to 8 bit."""
    decoded = (codec.decode(codec.encode(to_signed(frames))) + 1) * 127.5
    truth = torch.from_numpy(frames).permute(0, 3, 1, 2).double()
    mse = (decoded.round().double() - truth).square().mean(dim=(1, 2, 3))
    return float((20 * torch.log10(255 / mse.sqrt())).mean())


def train_autoencoder(
    out: Path, config: AutoencoderConfig, *, seed: int = 0, on_done: Callable[[dict[str, Any]], None] | None = None
) -> dict[str, Any]:
    """Draw the people, train, measure on unseen people, and write the folder `out` with its card; returns the card's facts."""
    started = time.monotonic()
    torch.manual_seed(seed)
    autoencoder = make_autoencoder(config)
    images = to_signed(performer_frames(TRAIN_IDENTITIES, config))
    fit(autoencoder, images, config, seed)
    partial = out.with_name(f".{out.name}.{os.getpid()}.part")
    shutil.rmtree(partial, ignore_errors=True)
    autoencoder.half().save_pretrained(partial)
    _drop_derived(partial / "config.json")
    autoencoder.float()
    with torch.no_grad():
        save_statistics(partial, torch.cat([autoencoder.encode(part).latents for part in images.split(32)]), config.packing)
    codec = LatentCodec.load(partial)
    facts = {
        "role": "autoencoder of the demo",
        "config": asdict(config),
        "seed": seed,
        "parameters": sum(p.numel() for p in autoencoder.parameters()),
        "trained_on": f"performers {TRAIN_IDENTITIES.start}..{TRAIN_IDENTITIES.stop - 1}, {len(images)} frames",
        "measured_on": f"performers {UNSEEN_IDENTITIES.start}..{UNSEEN_IDENTITIES.stop - 1}, never trained on",
        "psnr_db": round(reconstruction_psnr(codec, performer_frames(UNSEEN_IDENTITIES, config)), 2),
        "seconds": round(time.monotonic() - started),
        "sha256": sha256_of(partial / "diffusion_pytorch_model.safetensors"),
        "licence": "Apache-2.0",
    }
    (partial / "card.json").write_text(json.dumps(facts, indent=1))
    (partial / "README.md").write_text(_card(facts))
    replace_folder(partial, out)
    if on_done is not None:
        on_done(facts)
    return facts


def _drop_derived(path: Path) -> None:
    """Take out `block_out_channels`, which diffusers writes and then warns about when it reads it."""
    config = json.loads(path.read_text())
    config.pop("block_out_channels", None)
    path.write_text(json.dumps(config, indent=2, sort_keys=True))


def _card(facts: dict[str, Any]) -> str:
    return "\n".join(
        [
            "# Demo autoencoder",
            "",
            f"An `AutoencoderTiny` of {facts['parameters']:,} parameters, 4 x 32 x 32 latents for 128 x 128 pixels, for Rotoscope's demo on performers. It knows no real people.",
            "",
            "| fact | value |",
            "|---|---|",
            *(f"| {name.replace('_', ' ')} | {value} |" for name, value in facts.items() if name not in {"config", "parameters"}),
            "",
            "Made by `python -m models autoencoder`.",
            "",
        ]
    )


def measure_shipped() -> float:
    """PSNR in dB of the shipped autoencoder on a few unseen performers, drawn now."""
    few = range(UNSEEN_IDENTITIES.start, UNSEEN_IDENTITIES.start + 4)
    return round(reconstruction_psnr(LatentCodec.load(SHIPPED), performer_frames(few, AutoencoderConfig(motions=1))), 2)
