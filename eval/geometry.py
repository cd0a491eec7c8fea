"""The protocol's geometry: both sides of a pair at one size, before any metric sees them."""

from __future__ import annotations

import numpy as np
from PIL import Image

from eval.predictions import check_frames
from eval.protocol import Protocol
from pipelines.clip import Frames
from pipelines.errors import ClipError

ASPECT_TOLERANCE = 0.05  # of a side


def resize(frames: Frames, height: int, width: int) -> Frames:
    """[T, H, W, 3] -> [T, height, width, 3] by Pillow's antialiased bicubic, rounded to uint8 once.

    Unchanged at its own size.
    """
    if frames.shape[1:3] == (height, width):
        return frames
    return np.stack([np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC)) for frame in frames])


def center_square(frames: Frames) -> Frames:
    """The largest square in the middle of [T, H, W, 3]; of an odd remainder the smaller half is cut first."""
    height, width = frames.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return frames[:, top : top + side, left : left + side]


def bring_to_size(protocol: Protocol, clip_id: str, prediction: Frames, truth: Frames) -> tuple[Frames, Frames]:
    """Both clips at the protocol's size of the truth.

    Under a protocol that resizes, a method may generate at another size. Networks want sides divisible by 8 or 64, so the
    aspect may be off by ASPECT_TOLERANCE; then the prediction is stretched to the truth. Raises ClipError (frame_count,
    frame_size).
    """
    check_frames(clip_id, prediction, truth, same_size=protocol.short_side is None)
    if protocol.crop == "center_square":
        prediction, truth = center_square(prediction), center_square(truth)
    size, own = protocol.size_of(*truth.shape[1:3]), protocol.size_of(*prediction.shape[1:3])
    if any(abs(a - b) > ASPECT_TOLERANCE * a for a, b in zip(size, own, strict=True)):
        raise ClipError(
            "frame_size",
            clip_id,
            f"generated frames have another aspect: {own[1]}x{own[0]} against {size[1]}x{size[0]} at the protocol's size",
            "generate the whole frame, without crop or padding",
        )
    return resize(prediction, *size), resize(truth, *size)
