"""HIA at the smallest size, made of the real classes, and clips with hands and faces for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from models.clip_dataset import TrainingClip
from models.clip_signals import ClipSignals, FaceSignals
from models.demo_additions import DemoAdditions
from models.hia.config import BRIEF, HiaConfig, Sampling
from models.hia.network import Hia, HiaCondition
from models.motion_blur_map import HandSignals
from models.signals import SignalName
from models.stage_config import PairStage, WindowStage
from models.training_loop import LoopConfig
from models.unet_shape import UnetShape
from pipelines.extractors.face_embedding import similarity_warp

SIZE, HALF = (32, 32), (16, 16)
_LOOP = LoopConfig(steps=3, learning_rate=1e-3, probes=2, pictures=1)

TINY = replace(
    BRIEF,
    size=SIZE,
    shape=UnetShape(channels=(16, 32), layers=1, heads=2, token_dim=16, norm_groups=4, latent_channels=16, motion_heads=2, motion_frames=8),
    hint_widths=(4, 8, 8),
    additions=DemoAdditions(),
    stage_1=PairStage(loop=_LOOP, references=2, targets=2, augment=False, distance=3, flip=0.5),
    stage_2=PairStage(loop=_LOOP, references=1, targets=2, augment=False, distance=3, flip=0.5, timesteps=(0, 125)),
    stage_3=WindowStage(loop=_LOOP, batch=1, window=4, stride=1, augment=False, size=HALF),
    stage_4=WindowStage(loop=_LOOP, batch=1, window=4, stride=1, augment=False, static=0.5),
    sampling=Sampling(steps=2, window=4, overlap=1),
)


def awake(network: Hia) -> Hia:
    """Random values in what starts at zero, so that every input is heard."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.abs().max() == 0 and "image_tokens" not in name:
                parameter.normal_(std=0.2)
    return network.eval()


def condition_for(config: HiaConfig, references: int = 1, each: int = 4) -> HiaCondition:
    """Random conditions, nothing dropped."""
    torch.manual_seed(2)
    return HiaCondition(
        reference_latent=torch.randn(references, 16, 8, 8),
        image_tokens=torch.randn(references, 1, config.shape.token_dim),
        pose=torch.rand(references * each, 3, *config.size),
        dropped=torch.zeros(references, dtype=torch.bool),
        blur=torch.rand(references * each, 3, *config.size),
    )


def noisy_latents(references: int = 1, each: int = 4) -> Tensor:
    """[R, K, 16, 8, 8]."""
    return torch.randn(references, each, 16, 8, 8, generator=torch.Generator().manual_seed(3))


def with_signals(clips: Sequence[TrainingClip]) -> list[TrainingClip]:
    """The clips with a hand at each side of the figure and a face above it, which move with it."""
    return [replace(clip, signals=_reader(clip)) for clip in clips]


def _reader(clip: TrainingClip):  # type: ignore[no-untyped-def]
    def read(names: Sequence[SignalName]) -> ClipSignals:
        frames = len(clip.keypoints)
        return ClipSignals(
            frames=frames,
            fps=float(clip.clip.fps),
            hands=_hands(clip) if "hands" in names else None,
            sharpness_p99=500.0 if "hands" in names else None,
            faces=_faces(clip) if "faces" in names else None,
        )

    return read


def _hands(clip: TrainingClip) -> HandSignals:
    wrists = clip.keypoints[:, [9, 10]]
    movement = np.zeros_like(wrists)
    movement[1:] = np.diff(wrists, axis=0)
    frames = len(wrists)
    return HandSignals(
        boxes=np.concatenate([wrists - 5, wrists + 5], axis=-1).astype(np.float32),
        valid=np.ones((frames, 2), bool),
        movement=movement.astype(np.float32),
        sharpness=np.full((frames, 2), 100.0, np.float32),
    )


def _faces(clip: TrainingClip) -> FaceSignals:
    nose = clip.keypoints[:, 0]
    points = nose[:, None] + np.array([[-4, -3], [4, -3], [0, 0], [-3, 4], [3, 4]], np.float32)
    return FaceSignals(
        boxes=np.concatenate([nose - 7, nose + 7], axis=-1).astype(np.float32),
        warps=np.stack([similarity_warp(p) for p in points]),
        found=np.ones(len(nose), bool),
        embeddings=np.zeros((len(nose), 32), np.float32),
    )
