"""What a lossy file between a method and a metric does to frames: parts of the protocols `disco_gif` and `disco_tm`."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from pipelines.clip import Frames


def through_gif(window: Frames) -> Frames:
    """256 colours per frame by Pillow's median cut, as imageio writes GIFs; the file itself is lossless.

    [S, H, W, 3] uint8; every frame alone, so overlapping windows need it once.
    """
    return np.stack([np.asarray(Image.fromarray(frame).quantize(256, Image.Quantize.MEDIANCUT).convert("RGB")) for frame in window])


def through_mp4(window: Frames) -> Frames:
    """x264 at 3 frames/s with imageio's default quality (constant rate factor 25), sides brought to multiples of 16 as imageio does."""
    import av

    _, height, width, _ = window.shape
    size = (-(-width // 16) * 16, -(-height // 16) * 16)
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=3, options={"crf": "25", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for frame in window:
            image = frame if size == (width, height) else np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def padded_to_square(frames: Frames) -> Frames:
    """[N, H, W, 3] -> [N, S, S, 3], S = max(H, W), black, centred; of an odd rest the larger half is at the bottom or right."""
    height, width = frames.shape[1:3]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    return np.pad(frames, ((0, 0), (top, side - height - top), (left, side - width - left), (0, 0)))
