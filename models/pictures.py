"""Periodic pictures of a training run: one row per reference with pose, prediction and truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from models.clip_dataset import Batch, to_frames
from models.latents import LatentCodec


def save_batch_picture(path: Path, codec: LatentCodec, batch: Batch, generated: Tensor) -> Path:
    """PNG of reference | pose | generated | truth for the first target of each reference; generated [R, K, 3, H, W] in [-1, 1]."""
    from PIL import Image

    each = batch.latents.shape[1]
    columns = [batch.reference_image, batch.pose[::each] * 2 - 1, generated[:, 0], codec.decode(batch.latents[:, 0])]
    rows = np.concatenate([np.concatenate(list(to_frames(column)), axis=0) for column in columns], axis=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part.png")
    Image.fromarray(rows).save(partial)
    partial.replace(path)
    return path
