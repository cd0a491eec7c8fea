"""The protocol's geometry: both sides of a pair at one size, before any metric sees them."""

from __future__ import annotations

import numpy as np
from PIL import Image

from eval.predictions import SMALLEST_SIDE, check_frames
from eval.protocol import Protocol
from pipelines.clip import Frames
from pipelines.errors import ClipError

ASPECT_TOLERANCE = 0.05  # of a side


_FILTERS = {"pil-bicubic": Image.Resampling.BICUBIC, "pil-bilinear": Image.Resampling.BILINEAR}


def resize(frames: Frames, height: int, width: int, how: str = "pil-bicubic") -> Frames:
    """[T, H, W, 3] -> [T, height, width, 3]. Pillow's filters are antialiased and round to uint8 once; cv2-linear is OpenCV's
    bilinear, which aliases. Unchanged at its own size.
    """
    if frames.shape[1:3] == (height, width):
        return frames
    if how == "cv2-linear":
        import cv2

        return np.stack([np.asarray(cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR)) for frame in frames])
    return np.stack([np.asarray(Image.fromarray(frame).resize((width, height), _FILTERS[how])) for frame in frames])


def center_square(frames: Frames) -> Frames:
    """The largest square in the middle of [T, H, W, 3]; of an odd remainder the smaller half is cut first."""
    height, width = frames.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return frames[:, top : top + side, left : left + side]


def centred_crop(whole: tuple[int, int], aspect: tuple[int, int]) -> tuple[float, float, float, float]:
    """x, y, width, height of the largest box of the aspect (height, width) in the middle of `whole` (height, width)."""
    scale = min(whole[0] / aspect[0], whole[1] / aspect[1])
    height, width = aspect[0] * scale, aspect[1] * scale
    return (whole[1] - width) / 2, (whole[0] - height) / 2, width, height


def bring_to_size(protocol: Protocol, clip_id: str, prediction: Frames, truth: Frames) -> tuple[Frames, Frames]:
    """Both clips at the protocol's size of the truth.

    Under a protocol that resizes, a method may generate at another size. Networks want sides divisible by 8 or 64, so the
    aspect may be off by ASPECT_TOLERANCE; then the prediction is stretched to the truth. Raises ClipError (frame_count,
    frame_size).
    """
    stretches = protocol.prediction_resize != "same"
    check_frames(clip_id, prediction, truth, same_size=protocol.short_side is None and not stretches)
    if protocol.crop == "center_square":
        prediction, truth = center_square(prediction), center_square(truth)
    size = protocol.size_of(*truth.shape[1:3])
    if not same_aspect(protocol, _size(truth), _size(prediction)):
        (height, width), (own_height, own_width) = truth.shape[1:3], prediction.shape[1:3]
        raise ClipError(
            "frame_size",
            clip_id,
            f"generated frames have another aspect: {own_width}x{own_height} against {width}x{height}",
            "generate the whole frame, without crop or padding",
        )
    if min(size) < SMALLEST_SIDE:
        raise ClipError(
            "frame_size",
            clip_id,
            f"{size[1]}x{size[0]} at the protocol's size is too small to score",
            f"at least {SMALLEST_SIDE} pixels a side",
        )
    filters = protocol.prediction_resize if stretches else protocol.resize, protocol.resize
    return resize(prediction, *size, filters[0]), resize(truth, *size, filters[1])


def _size(frames: Frames) -> tuple[int, int]:
    return int(frames.shape[1]), int(frames.shape[2])


def same_aspect(protocol: Protocol, truth: tuple[int, int], prediction: tuple[int, int]) -> bool:
    """Whether two (height, width) agree at the protocol's size, up to ASPECT_TOLERANCE of a side."""
    size, own = protocol.size_of(*truth), protocol.size_of(*prediction)
    if protocol.short_side is None:
        own = _at_short_side(own, min(size))
    return all(abs(a - b) <= ASPECT_TOLERANCE * a for a, b in zip(size, own, strict=True))


def _at_short_side(size: tuple[int, int], short: int) -> tuple[int, int]:
    height, width = size
    return round(height * short / min(size)), round(width * short / min(size))
