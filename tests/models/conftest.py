"""A real network of each class at the smallest size, and clips of a moving square with a moving skeleton."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from models.animate_anyone.config import SCRATCH, AnimateAnyoneConfig, NetworkConfig
from models.clip_dataset import TrainingClip
from models.demo_additions import DemoAdditions
from models.latents import LatentCodec
from models.noise import NoiseConfig
from models.stage_config import PairStage, WindowStage
from models.training_loop import LoopConfig
from models.unet_shape import UnetShape
from pipelines.clip import Clip
from pipelines.video import encode_video

SIZE = (32, 32)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Sums in a fixed order, so that equal seeds give equal bits on any machine that runs the tests."""
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tiny() -> AnimateAnyoneConfig:
    """AnimateAnyone with 7 self-attention sites on 8x8 latents of 16 channels."""
    network = NetworkConfig(
        unet=UnetShape(
            channels=(16, 32), layers=1, heads=2, token_dim=16, norm_groups=4, latent_channels=16, motion_heads=2, motion_frames=8
        ),
        guider_widths=(4, 8, 8),
        additions=DemoAdditions(hint=True, residual=True),
    )
    loop = LoopConfig(steps=6, learning_rate=2e-3, probes=2, pictures=1)
    return replace(
        SCRATCH,
        size=SIZE,
        network=network,
        noise=NoiseConfig(),
        stage_1=PairStage(loop=loop, references=2, targets=2, augment=False, distance=3),
        stage_2=WindowStage(loop=loop, batch=2, window=4, stride=1, augment=False, shared_noise=True),
        sampling=replace(SCRATCH.sampling, steps=2, guidance_scale=1.5, window=4, overlap=1),
    )


@pytest.fixture(scope="session")
def codec() -> LatentCodec:
    """An untrained autoencoder: 32x32 pixels to 4x16x16, packed to 16x8x8."""
    from diffusers import AutoencoderTiny

    torch.manual_seed(0)
    autoencoder = AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
        latent_channels=4,
    )
    raw = autoencoder.encode(torch.rand(8, 3, *SIZE) * 2 - 1).latents.detach()
    return LatentCodec(autoencoder, raw.mean(dim=(0, 2, 3)), raw.std(dim=(0, 2, 3)), packing=2)


def _skeleton(frames: int, shift: float) -> np.ndarray:
    """[T, 133, 2] px in a 48x48 frame: a standing figure that walks to the right; face and hands sit on nose and wrists."""
    body = [
        (24, 8),
        (23, 7),
        (25, 7),
        (22, 8),
        (26, 8),
        (19, 15),
        (29, 15),
        (16, 22),
        (32, 22),
        (15, 28),
        (33, 28),
        (21, 28),
        (27, 28),
        (21, 36),
        (27, 36),
        (21, 44),
        (27, 44),
    ]
    still = np.zeros((133, 2), np.float32)
    still[:17] = body
    still[17:23] = [body[15]] * 3 + [body[16]] * 3
    still[23:91] = body[0]
    still[91:112], still[112:] = body[9], body[10]
    walk = np.linspace(-6, 6, frames, dtype=np.float32) + shift
    return still[None] + np.stack([walk, np.zeros_like(walk)], axis=-1)[:, None]


@pytest.fixture(scope="session")
def make_clip(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., TrainingClip]:
    """Write an mp4 of a coloured figure that follows its skeleton, and give it with its poses."""

    def make(name: str, frames: int = 12, colour: tuple[int, int, int] = (220, 60, 60), shift: float = 0.0) -> TrainingClip:
        points = _skeleton(frames, shift)
        video = np.full((frames, 48, 48, 3), 90, np.uint8)
        for image, person in zip(video, points, strict=True):
            left, top = person[5].round().astype(int)
            image[top : top + 16, max(left, 0) : left + 10] = colour
        path: Path = tmp_path_factory.mktemp("clips") / f"{name}.mp4"
        encode_video(path, video, Fraction(12))
        clip = Clip(
            dataset="tests",
            clip_id=name,
            video_id=name,
            uri=str(path),
            start_frame=0,
            end_frame=frames,
            start_pts=None,
            end_pts=None,
            time_base=Fraction(1, 12),
            fps=Fraction(12),
            width=48,
            height=48,
        )
        return TrainingClip(clip=clip, keypoints=points, scores=np.ones((frames, 133), np.float32), references=tuple(range(frames)))

    return make


@pytest.fixture(scope="session")
def clips(make_clip: Callable[..., TrainingClip]) -> list[TrainingClip]:
    """Two people."""
    return [make_clip("red"), make_clip("blue", colour=(40, 60, 220), shift=2.0)]
