"""Small pictures of clips for the screening page: frames, or drawn silhouettes and skeletons in their place."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping

import numpy as np

from pipelines.clip import Clip, Frames
from pipelines.errors import ClipError
from pipelines.keypoints import KEYPOINTS, draw_skeleton, scale_points
from pipelines.lake import Lake
from pipelines.masks import decode_rle
from pipelines.screen_sources import ClipRows, Held, Row, rows_of
from pipelines.video import decode_frames

_HEIGHT_PX = 150
_MOMENTS = (0.15, 0.5, 0.85)  # of the clip
_GREY, _BODY = 72, 128  # of the ground and of the silhouette


def clip_pictures(lake: Lake, dataset: str, clips: list[Clip], held: Mapping[str, Held], *, media: bool) -> dict[str, str]:
    """Clip id -> data: URI of a JPEG with three moments side by side; clips without a picture are left out.

    media: the frames themselves. Otherwise the person's mask and skeleton on grey, which show no one.
    """
    found = {}
    for start in range(0, len(clips), 16):  # rows of few clips at a time
        batch = clips[start : start + 16]
        wanted = {table: source for table, source in held.items() if table in ("poses", "body_masks")}
        rows = {} if media else rows_of(lake, dataset, batch, wanted)
        for clip in batch:
            picture = _frames_picture(clip) if media else _drawn_picture(clip, rows.get(clip.clip_id))
            if picture is not None:
                found[clip.clip_id] = _data_uri(picture)
    return found


def _moments(clip: Clip) -> list[int]:
    return [min(int(moment * clip.num_frames), clip.num_frames - 1) for moment in _MOMENTS]


def _size(clip: Clip) -> tuple[int, int]:
    """Height and width of one tile."""
    return _HEIGHT_PX, max(1, round(clip.width * _HEIGHT_PX / clip.height))


def _frames_picture(clip: Clip) -> Frames | None:
    import cv2

    height, width = _size(clip)
    try:
        frames = decode_frames(clip, _moments(clip))
    except ClipError:
        return None  # the page says so; its reason is among the failed extractions
    return np.hstack([cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA) for image in frames])


def _drawn_picture(clip: Clip, rows: ClipRows | None) -> Frames | None:
    if rows is None or rows.tables.get("poses") is None:
        return None
    return np.hstack([_drawn(clip, rows, frame) for frame in _moments(clip)])


def _drawn(clip: Clip, rows: ClipRows, frame: int) -> Frames:
    import cv2

    height, width = _size(clip)
    tile = np.full((height, width, 3), _GREY, np.uint8)
    masks, poses = rows.tables.get("body_masks"), rows.tables["poses"] or []
    corner = (0, 0) if clip.crop is None else clip.crop[:2]
    if masks is not None:
        mask = _cropped(masks[frame], clip)
        tile[cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA) >= 0.5] = _BODY
    points = np.array(poses[frame]["keypoints"], np.float32).reshape(KEYPOINTS, 2) - np.array(corner, np.float32)
    scaled = scale_points(points, (clip.height, clip.width), (height, width))
    drawn = draw_skeleton(scaled, np.array(poses[frame]["scores"], np.float32), height, width)
    return np.where(drawn.any(axis=-1, keepdims=True), drawn, tile)


def _cropped(row: Row, clip: Clip) -> Frames:
    mask = decode_rle(row["rle"], row["height"], row["width"]).astype(np.uint8)
    x, y, width, height = clip.crop or (0, 0, mask.shape[1], mask.shape[0])
    return mask[y : y + height, x : x + width]


def _data_uri(picture: Frames) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
