"""A picture to judge an extraction by: frames with skeleton, mask outline, face and hand boxes; failures as text."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from pipelines.clip import Clip, Frames
from pipelines.errors import ClipError, UserError
from pipelines.keypoints import KEYPOINTS, draw_skeleton, scale_points
from pipelines.lake import Lake
from pipelines.masks import decode_rle
from pipelines.video import decode_frames

_TILE = 256  # px, longer side of a frame
_CAPTION = 34  # px below it
_FACE, _LEFT, _RIGHT, _MASK = (255, 220, 0), (0, 255, 120), (255, 80, 200), (255, 255, 255)

Row = Mapping[str, Any]
Features = Mapping[str, Mapping[int, Row]]
"""Table -> frame -> row of one clip."""


def contact_sheet(
    lake: Lake,
    dataset: str,
    extractor: str,
    path: Path,
    *,
    columns: int = 6,
    frames_per_clip: int = 3,
    most_clips: int = 60,
) -> Path:
    """Write a grid of frames of the data set's clips to `path` (.jpg or .png) and return it.

    Every clip takes `frames_per_clip` tiles; a clip that failed, or whose video is gone, takes one with the reason. Of
    more than `most_clips` clips, evenly spaced ones are shown. Raises UserError for a data set without clips.
    """
    rows = lake.rows("clips", pc.field("dataset") == dataset)
    if not rows:
        raise UserError(f"data set {dataset!r} has no clips to show; run the clips step first")
    chosen = [rows[i] for i in _spread(len(rows), most_clips)]
    tiles = [tile for row in chosen for tile in _clip_tiles(lake, row, extractor, frames_per_clip)]
    blank = np.zeros_like(tiles[0])
    tiles += [blank] * (-len(tiles) % columns)
    grid = np.vstack([np.hstack(tiles[start : start + columns]) for start in range(0, len(tiles), columns)])
    return _write(path, grid)


def _spread(count: int, wanted: int) -> list[int]:
    """`wanted` of `count` indices, evenly spaced; all where there are fewer."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, wanted))})


def _clip_tiles(lake: Lake, row: Row, extractor: str, frames: int) -> list[Frames]:
    name = f"{row['video_id']} [{row['start_frame']}-{row['end_frame']}]"
    if row["status"] != "ok":
        return [_message(name, f"{row['code']}: {row['reason']}")]
    clip = Clip.from_row({**row, "uri": str(lake.path(row["uri"]))})
    try:
        features = _features(lake, clip, extractor)
        failure = next((f"{held[-1]['error']}: {held[-1]['reason']}" for held in features.values() if -1 in held), None)
        if failure is not None or not features:
            return [_message(name, failure or f"no rows of extractor {extractor}")]
        indices = [min(int((i + 0.5) * clip.num_frames / frames), clip.num_frames - 1) for i in range(frames)]
        images = decode_frames(replace(clip, crop=None), indices)  # rows are in pixels of the full frame
        return [_frame_tile(image, i, features, name) for image, i in zip(images, indices, strict=True)]
    except ClipError as error:
        return [_message(name, f"{error.code}: {error.reason}")]
    except Exception as error:  # a picture of all clips is worth more than a traceback of one
        return [_message(name, f"{type(error).__name__}: {error}")]


def _features(lake: Lake, clip: Clip, extractor: str) -> Features:
    """The clip's rows of the newest version of the extractor."""
    where = (pc.field("dataset") == clip.dataset) & (pc.field("clip_id") == clip.clip_id) & (pc.field("extractor") == extractor)
    found: dict[str, dict[int, Row]] = {}
    for table in ("poses", "body_masks", "faces", "hands"):
        rows = sorted(lake.rows(table, where), key=lambda row: (row["version"], row["weights_digest"]))
        newest = [row for row in rows if (row["version"], row["weights_digest"]) == (rows[-1]["version"], rows[-1]["weights_digest"])]
        if newest:
            found[table] = {row["frame"]: row for row in newest}
    return found


def _frame_tile(image: Frames, frame: int, features: Features, name: str) -> Frames:
    import cv2

    height, width = image.shape[:2]
    scale = _TILE / max(height, width)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    small: Frames = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
    held = {table: rows[frame] for table, rows in features.items() if frame in rows}
    if "body_masks" in held:
        _outline(small, held["body_masks"])
    if "poses" in held:
        small = _skeleton(small, held["poses"], (height, width))
    if "faces" in held:
        _boxes(small, held["faces"]["boxes"], [_FACE] * 99, scale)
    if "hands" in held:
        _boxes(small, held["hands"]["boxes"], [_LEFT, _RIGHT], scale)
    return _captioned(small, f"{name}\nframe {frame}")


def _outline(image: Frames, row: Row) -> None:
    import cv2

    mask = decode_rle(row["rle"], row["height"], row["width"]).astype(np.uint8)
    resized = cv2.resize(mask, image.shape[1::-1], interpolation=cv2.INTER_AREA)
    contours, _ = cv2.findContours(resized, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(image, contours, -1, _MASK, 1)


def _skeleton(image: Frames, row: Row, source: tuple[int, int]) -> Frames:
    height, width = image.shape[:2]
    points = scale_points(np.array(row["keypoints"], np.float32).reshape(KEYPOINTS, 2), source, (height, width))
    drawn = draw_skeleton(points, np.array(row["scores"], np.float32), height, width)
    return np.where(drawn.any(axis=-1, keepdims=True), drawn, image)


def _boxes(image: Frames, boxes: Sequence[float], colours: Sequence[tuple[int, int, int]], scale: float) -> None:
    import cv2

    corners = np.array(boxes, np.float64).reshape(-1, 4) * scale
    for (x1, y1, x2, y2), colour in zip(corners.round().astype(int).tolist(), colours, strict=False):
        if x2 > x1 and y2 > y1:
            cv2.rectangle(image, (x1, y1), (x2, y2), colour, 1)


def _captioned(image: Frames, caption: str) -> Frames:
    """The image in the middle of a square tile, the caption below."""
    from PIL import Image, ImageDraw, ImageFont

    tile = np.full((_TILE + _CAPTION, _TILE, 3), 24, np.uint8)
    top, left = (_TILE - image.shape[0]) // 2, (_TILE - image.shape[1]) // 2
    tile[top : top + image.shape[0], left : left + image.shape[1]] = image
    picture = Image.fromarray(tile)
    ImageDraw.Draw(picture).multiline_text((4, _TILE + 3), caption, (230, 230, 230), ImageFont.load_default(11))
    return np.array(picture)


def _message(name: str, text: str) -> Frames:
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.new("RGB", (_TILE, _TILE), (70, 20, 20))
    lines = "\n".join(textwrap.wrap(text, 36)[:14])
    ImageDraw.Draw(picture).multiline_text((10, 20), lines, (255, 220, 220), ImageFont.load_default(13))
    return _captioned(np.array(picture), name)


def _write(path: Path, grid: Frames) -> Path:
    from PIL import Image

    kinds = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}
    if path.suffix.lower() not in kinds:
        raise UserError(f"contact sheet {path}: choose a name that ends with .jpg or .png")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    Image.fromarray(grid).save(partial, kinds[path.suffix.lower()], quality=88)
    os.replace(partial, path)
    return path
