"""Pictures and videos inside a page: base64, H.264 that plays in a browser, small enough to send."""

from __future__ import annotations

import base64
import io
import tempfile
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from PIL import Image

from eval.geometry import resize
from pipelines.clip import Clip, Frames
from pipelines.keypoints import draw_skeleton
from pipelines.lake import Lake
from pipelines.video import encode_video

SHORT_SIDE = 320  # previews of larger clips are made smaller


def preview_size(height: int, width: int, *, short_side: int = SHORT_SIDE) -> tuple[int, int]:
    """(height, width) of a preview: short side at most `short_side`, both even (yuv420p)."""
    scale = min(1.0, short_side / min(height, width))
    return max(2, round(height * scale / 2) * 2), max(2, round(width * scale / 2) * 2)


def video_data_uri(frames: Frames, fps: Fraction, *, size: tuple[int, int] | None = None) -> str:
    """[T, H, W, 3] as data:video/mp4, at `size` (height, width), default that of a preview."""
    small = resize(frames, *(size or preview_size(*frames.shape[1:3])))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        encode_video(path, small, fps)
        return "data:video/mp4;base64," + base64.b64encode(path.read_bytes()).decode()


def image_data_uri(frame: Frames) -> str:
    """[H, W, 3] as data:image/png."""
    small = resize(frame[None], *preview_size(*frame.shape[:2]))[0]
    stream = io.BytesIO()
    Image.fromarray(small).save(stream, format="png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def pose_extractor_of(lake: Lake, dataset: str) -> str | None:
    """The extractor whose poses drove training on this data set; else the first that has poses; None without poses."""
    used = sorted(
        {row["extractor"] for row in lake.rows("training_rows", pc.field("dataset") == dataset, columns=["extractor"]) if row["extractor"]}
    )
    there = sorted({row["extractor"] for row in lake.rows("poses", pc.field("dataset") == dataset, columns=["extractor"])})
    return next((name for name in [*used, *there] if name in there), None)


def pose_frames(lake: Lake, clip: Clip, extractor: str) -> Frames | None:
    """[T, H, W, 3] skeletons on black, at the preview's size; None where the clip has no poses."""
    where = (pc.field("dataset") == clip.dataset) & (pc.field("clip_id") == clip.clip_id) & (pc.field("extractor") == extractor)
    rows: Sequence[Mapping[str, Any]] = [row for row in lake.rows("poses", where) if row["frame"] >= 0 and row["keypoints"]]
    if not rows:
        return None
    height, width = preview_size(clip.height, clip.width)
    scale = np.array([width / clip.width, height / clip.height], np.float32)
    canvas = np.zeros((clip.num_frames, height, width, 3), np.uint8)
    for row in rows:
        points = np.asarray(row["keypoints"], np.float32).reshape(-1, 2) * scale
        canvas[row["frame"]] = draw_skeleton(points, np.asarray(row["scores"], np.float32), height, width)
    return canvas
