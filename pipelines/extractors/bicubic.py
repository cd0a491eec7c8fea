"""Pillow's bicubic resize of one float32 image per channel, as the video metrics of the literature do it.

Antialiased, to a square whatever the aspect, and not clipped: values may leave 0..255. (clean-fid's own resizer, which
`inception.clean_resize` calls, does the same and then clips.)
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipelines.clip import Frames


def bicubic_resize(frame: Frames, size: int) -> npt.NDArray[np.float32]:
    """[H, W, 3] uint8 -> [size, size, 3] float32."""
    channels = [Image.fromarray(frame[..., channel].astype(np.float32)) for channel in range(3)]
    return np.stack([np.asarray(image.resize((size, size), Image.Resampling.BICUBIC)) for image in channels], axis=-1)


def bicubic_windows(windows: Frames, size: int) -> Iterator[npt.NDArray[np.float32]]:
    """Each [S, size, size, 3] float32 of [N, S, H, W, 3] uint8. A frame that two windows in a row share is resized once."""
    resized: dict[bytes, npt.NDArray[np.float32]] = {}
    for window in windows:
        before, resized, keys = resized, {}, [frame.tobytes() for frame in window]
        for key, frame in zip(keys, window, strict=True):
            if key not in resized:
                resized[key] = before[key] if key in before else bicubic_resize(frame, size)
        yield np.stack([resized[key] for key in keys])
