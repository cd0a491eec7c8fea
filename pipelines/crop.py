"""A clip that is a part of the frame: its rows are stored in pixels of the full frame, its frames and rasters are the part's.

Extractors see the cropped frames and know nothing of the crop. What they find at (x, y) of the part is at (x + left, y + top) of the
frame. Rasters (masks, IUV, flow) stay as large as the part, as their own size columns say; the clip's crop places them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.errors import ClipError

Crop = tuple[int, int, int, int]
"""x, y, w, h in pixels of the full upright frame."""

POINTS: Mapping[str, tuple[str, ...]] = {  # columns that hold x, y pairs, flattened
    "poses": ("keypoints",),
    "person_boxes": ("boxes",),
    "faces": ("boxes", "points"),
    "hands": ("boxes",),
}
WARPS: Mapping[str, tuple[str, ...]] = {"faces": ("warp",)}  # 2x3 matrices from pixels of the frame, flattened


def to_full_frame(table: str, row: Mapping[str, Any], crop: Crop | None) -> dict[str, Any]:
    """A row of the part, in pixels of the full frame. Nulls stay null; without a crop it is the row itself."""
    moved = dict(row)
    if crop is None:
        return moved
    for name in POINTS.get(table, ()):
        if moved.get(name) is not None:
            moved[name] = shifted(moved[name], crop).tolist()
    for name in WARPS.get(table, ()):
        if moved.get(name) is not None:
            moved[name] = _warp_from_full(moved[name], crop)
    return moved


def shifted(pairs: Sequence[float], crop: Crop) -> npt.NDArray[np.float32]:
    """Flattened x, y pairs of the part -> of the full frame."""
    return (np.asarray(pairs, np.float32).reshape(-1, 2) + np.asarray(crop[:2], np.float32)).ravel()


def cut_out(subject: str, image: npt.NDArray[np.uint8], crop: Crop | None) -> npt.NDArray[np.uint8]:
    """The part of an upright frame [H, W, 3]. Raises ClipError bad_annotation where it lies outside."""
    if crop is None:
        return image
    x, y, w, h = crop
    height, width = image.shape[:2]
    if min(x, y) < 0 or min(w, h) < 1 or x + w > width or y + h > height:
        raise ClipError("bad_annotation", subject, f"the crop {crop} lies outside a frame of {width}x{height}", "mend the crop")
    return image[y : y + h, x : x + w]


def to_crop(points: npt.NDArray[np.float32], crop: Crop | None) -> npt.NDArray[np.float32]:
    """[..., 2] pixels of the full frame -> of the part."""
    return points if crop is None else points - np.asarray(crop[:2], np.float32)


def _warp_from_full(matrix: Sequence[float], crop: Crop) -> list[float]:
    """A p + b of a point p of the part is A q + (b - A corner) of the same point q = p + corner of the frame."""
    warp = np.asarray(matrix, np.float64).reshape(2, 3)
    warp = np.hstack([warp[:, :2], (warp[:, 2] - warp[:, :2] @ np.asarray(crop[:2], np.float64))[:, None]])
    flat: list[float] = warp.ravel().tolist()
    return flat
