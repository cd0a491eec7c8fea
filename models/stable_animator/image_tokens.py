"""The image token of SVD: the CLIP embedding of the reference image, resized as its encoder was trained behind (pipelines/extractors/clip_image.py)."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.clip_dataset import to_frames
from models.image_tokens import PooledImageTokens
from pipelines.clip import Clip, Frames
from pipelines.extractors.clip_image import CLIP_HUGE, CLIP_TINY, ClipImage
from pipelines.extractors.pretrained_folder import folder_of

_ENCODERS = {encoder.role: encoder for encoder in (CLIP_HUGE, CLIP_TINY)}


class EmbeddedImage(nn.Module):
    """[R, 3, H, W] in [-1, 1] -> [R, 1, D] by an extractor of the lake; nothing of it is trained. Raises MissingWeightsError."""

    def __init__(self, encoder: ClipImage, device: str = "cpu") -> None:
        super().__init__()
        self._extract: Any = encoder.load(device)

    def forward(self, images: Tensor) -> Tensor:
        frames = to_frames(images)  # exact: the images come from bytes
        rows = self._extract(_nameless(frames), frames)["clip_embeddings"]
        return torch.tensor([row["embedding"] for row in rows]).to(images)[:, None]


def _nameless(frames: Frames) -> Clip:
    """A clip for frames that are in no file."""
    return Clip(
        dataset="", clip_id="reference", video_id="reference", uri="", start_frame=0, end_frame=len(frames), start_pts=None, end_pts=None,
        time_base=Fraction(1, 24), fps=Fraction(24), width=frames.shape[2], height=frames.shape[1],
    )  # fmt: skip


def image_tokens_of(role: str | None, width: int) -> nn.Module:
    """The encoder of a role, or the pooled stand-in; width: of the tokens that the UNet takes."""
    return PooledImageTokens(width) if role is None else EmbeddedImage(_ENCODERS[role])


def encoder_folder(role: str) -> Path:
    """Folder of an image encoder's role. Raises MissingWeightsError."""
    return folder_of(role, "config.json")
