"""The demo's autoencoder: AutoencoderTiny, four times smaller per side, trained on performers that it is then not measured on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.clip_dataset import to_frames, to_signed
from models.latents import LatentCodec, save_statistics
from models.tiny.boxed_people import LEARNT_FROM, MEASURED_ON  # the same drawings as the pose networks'
from models.tiny.job import SHIPPED as FAMILY
from models.tiny.job import TinyJob
from models.tiny.people import UNSEEN_IDENTITIES, People, cast, draw
from models.training_loop import LoopConfig, LossAt
from pipelines.clip import Frames

SHIPPED = FAMILY / "autoencoder"


@dataclass(frozen=True, kw_only=True, slots=True)
class AutoencoderConfig:
    """Size. 8 x 32 x 32 latents at 128 x 128, packed to 32 x 16 x 16 by LatentCodec.

    With 4 channels whole frames were as good (33.8 dB) and faces, a dozen pixels high, were lost (24 dB).
    """

    width: int = 32
    blocks: tuple[int, ...] = (1, 2, 2)  # residual blocks per level; one level less than halvings
    latent_channels: int = 8
    packing: int = 2
    batch: int = 16
    crop_px: int = 64
    on_person: float = 0.5  # share of crops around a keypoint: of 133, 68 are the face's and 42 the hands'


CONFIG = AutoencoderConfig()


def make_autoencoder(config: AutoencoderConfig = CONFIG) -> Any:
    """An untrained AutoencoderTiny of diffusers."""
    from diffusers import AutoencoderTiny

    widths = (config.width,) * len(config.blocks)
    made = AutoencoderTiny(
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        num_encoder_blocks=config.blocks,
        num_decoder_blocks=config.blocks[::-1],
        latent_channels=config.latent_channels,
        upsampling_scaling_factor=2,
    )
    return made.to(memory_format=torch.channels_last)  # a quarter faster on a CPU


def reconstruction_loss(autoencoder: Any, people: People, config: AutoencoderConfig = CONFIG) -> LossAt:
    """Mean absolute plus twice the squared error of random crops [B, 3, crop, crop], half of them mirrored."""

    def loss_at(micro: int, generator: torch.Generator) -> Tensor:
        batch = _crops(people, config, generator).to(autoencoder.device)
        error = autoencoder.decode(autoencoder.encode(batch).latents).sample - batch
        return error.abs().mean() + 2 * error.square().mean()

    return loss_at


def _crops(people: People, config: AutoencoderConfig, generator: torch.Generator) -> Tensor:
    side = config.crop_px
    chosen = torch.randint(len(people.frames), (config.batch,), generator=generator).tolist()
    corners = corners_of(people, chosen, side, config.on_person, generator).tolist()
    flips = (torch.rand(config.batch, generator=generator) < 0.5).tolist()
    crops = [people.frames[i, y : y + side, x : x + side] for i, (y, x) in zip(chosen, corners, strict=True)]
    mirrored = np.stack([crop[:, ::-1] if flip else crop for crop, flip in zip(crops, flips, strict=True)])
    return to_signed(mirrored).contiguous(memory_format=torch.channels_last)


def corners_of(people: People, chosen: list[int], side: int, on_person: float, generator: torch.Generator) -> Tensor:
    """[B, 2] top and left of a crop of each chosen frame: anywhere, or, with probability `on_person`, such that a keypoint is somewhere inside."""
    most, count = people.frames.shape[1] - side, len(chosen)
    anywhere = torch.randint(most + 1, (count, 2), generator=generator)
    point = torch.randint(people.truth["keypoints"].shape[1], (count,), generator=generator).tolist()
    inside = torch.randint(side, (count, 2), generator=generator)
    points = np.stack([people.truth["keypoints"][i, k, ::-1] for i, k in zip(chosen, point, strict=True)])  # y, x
    around = (torch.from_numpy(points.round().astype(np.int64)) - inside).clamp(0, most)
    person = torch.rand(count, generator=generator) < on_person
    return torch.where(person[:, None], around, anywhere)


def reconstruction_psnr(codec: LatentCodec, frames: Frames) -> float:
    """Mean over frames of the PSNR in dB of decode(encode(frame)), rounded to 8 bit."""
    total = 0.0
    for start in range(0, len(frames), 32):
        part = frames[start : start + 32]
        decoded = (codec.decode(codec.encode(to_signed(part))) + 1) * 127.5
        truth = torch.from_numpy(part.copy()).permute(0, 3, 1, 2).double()
        mse = (decoded.round().double() - truth).square().mean(dim=(1, 2, 3))
        total += float((20 * torch.log10(255 / mse.sqrt())).sum())
    return total / len(frames)


def body_psnr(codec: LatentCodec, people: People) -> float:
    """PSNR in dB of all pixels of bodies together (part labels above 0), which whole frames hide: most of a frame is smooth."""
    total, count = 0.0, 0
    for start in range(0, len(people.frames), 32):
        part, body = people.frames[start : start + 32], people.truth["iuv"][start : start + 32, ..., 0] > 0
        decoded = to_frames(codec.decode(codec.encode(to_signed(part))))
        total += float(np.square(decoded[body].astype(np.float64) - part[body]).sum())
        count += 3 * int(body.sum())
    return float(10 * np.log10(255**2 * count / total))


def _training_people(cache: Path) -> People:
    return draw(LEARNT_FROM, cache)


def _export(autoencoder: Any, folder: Path) -> None:
    """A folder of diffusers, in half precision."""
    autoencoder.half().save_pretrained(folder)
    _drop_derived(folder / "config.json")
    autoencoder.float()


def _write_statistics(autoencoder: Any, folder: Path, people: People) -> None:
    images = to_signed(people.frames[::8])
    with torch.no_grad():
        save_statistics(folder, torch.cat([autoencoder.encode(part).latents for part in images.split(32)]), CONFIG.packing)


def _drop_derived(path: Path) -> None:
    """Take out `block_out_channels`, which diffusers writes and then warns about when it reads it."""
    config = json.loads(path.read_text())
    config.pop("block_out_channels", None)
    path.write_text(json.dumps(config, indent=2, sort_keys=True))


def _measure(folder: Path, cache: Path) -> dict[str, float]:
    unseen = draw(MEASURED_ON, cache)
    codec = LatentCodec.load(folder)
    return {"psnr_db": reconstruction_psnr(codec, unseen.frames), "body_psnr_db": body_psnr(codec, unseen)}


def measure_shipped(cache: Path) -> float:
    """PSNR in dB of the shipped autoencoder on a few unseen performers, drawn now."""
    few = range(UNSEEN_IDENTITIES.start, UNSEEN_IDENTITIES.start + 4)
    return round(reconstruction_psnr(LatentCodec.load(SHIPPED), draw(cast(few, truth=(), clips=1), cache).frames), 2)


JOB = TinyJob(
    name="autoencoder",
    title="Demo autoencoder",
    purpose="An AutoencoderTiny with 8 x 32 x 32 latents for 128 x 128 pixels, in the place of Stable Diffusion's VAE.",
    loop=LoopConfig(steps=6000, learning_rate=2e-3, warmup_steps=200, weight_decay=1e-4, decay="cosine", ema_decay=0.995, pictures=0),
    draw=_training_people,
    build=make_autoencoder,
    loss_of=reconstruction_loss,
    export=_export,
    finish=_write_statistics,
    measure=_measure,
)
