"""Videos that the benchmarks of decoding and cutting make for themselves: coloured, textured, moving, with shots, fades and noise."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from pipelines.clip import Clip, Frames
from pipelines.video import probe


def shot(frames: int, seed: int, width: int, height: int) -> Iterator[Frames]:
    """[H, W, 3] frames of one shot: a camera that pans over a coloured, textured ground, and a bright square that moves."""
    rng = np.random.default_rng(seed)
    low, high = sorted(rng.integers(0, 256, 2))
    coarse = rng.integers(min(low, 200), max(high, 56), (height // 80 + 3, width // 80 + 3, 3), dtype=np.uint8)
    ground = cv2.resize(coarse, (width + 64, height + 64), interpolation=cv2.INTER_CUBIC)
    fine = cv2.resize(rng.integers(0, 24, (height // 2, width // 2, 1), dtype=np.uint8), (width + 64, height + 64))
    ground = cv2.add(ground, np.repeat(fine[..., None], 3, axis=2))
    size = height // 5
    for number in range(frames):
        x, y = number * 2 % 64, number % 64
        image = ground[y : y + height, x : x + width].copy()
        left = (seed * 37 + number * 5) % (width - size)
        image[height // 3 : height // 3 + size, left : left + size] = rng.integers(180, 256, 3) if number == 0 else (230, 200, 40)
        yield image


def write(path: Path, images: Iterator[Frames], width: int, height: int, *, fps: int = 30, gop: int = 250) -> Path:
    """H.264 with B-frames as most of the web's files have it (x264 `veryfast`, crf 23)."""
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=fps, options={"preset": "veryfast", "crf": "23", "g": str(gop), "bf": "3"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def shots(seconds: int, count: int, width: int, height: int, fps: int = 30, seed: int = 0) -> Iterator[Frames]:
    """`count` shots of equal length, one after the other."""
    for number in range(count):
        yield from shot(seconds * fps // count, seed + number, width, height)


def clip_of(path: Path, start: int, end: int, crop: tuple[int, int, int, int] | None = None) -> Clip:
    """Frames [start, end) of a file with evenly spaced stamps from 0."""
    info = probe(path)
    tick = round(1 / (info.fps * info.time_base))
    return Clip(
        dataset="bench", clip_id=f"{path.stem}-{start}", video_id=path.stem, uri=str(path), start_frame=start, end_frame=end,
        start_pts=start * tick, end_pts=end * tick, time_base=info.time_base, fps=Fraction(info.fps),
        width=crop[2] if crop else info.width, height=crop[3] if crop else info.height, crop=crop,
    )  # fmt: skip
