"""Masks and DensePose maps that came with a data set of frame folders (TikTok), as rows like those of a network.

For `<sequence>/images/0001.png` they are `<sequence>/masks/0001.png` and `<sequence>/densepose/0001.png`. There is no
network, so the weights digest is empty; a frame without its files, or with files of another shape, fails the clip.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pipelines.clip import Clip, Frames
from pipelines.errors import ClipError
from pipelines.masks import encode_rle, pack_array
from pipelines.sources.frame_folder import image_files
from pipelines.storage import local_beside, local_file

Row = dict[str, Any]
Image = npt.NDArray[np.uint8]
Order = Literal["IUV", "VUI"]

_INSIDE = 100  # HDNet, for which the masks were made: a pixel is the person's above this grey level
_PARTS = 24
_SAMPLED_FRAMES = 8  # by which the order of a clip's DensePose channels is told
_REMEDY = "unpack the data set again, or choose another extractor"


class DatasetAnnotations:
    """Body masks (soft as stored, hard above grey level 100) and DensePose maps of the data set's authors."""

    name = "dataset_annotations"
    version = 1
    tables = ("body_masks", "densepose")

    def weights_digest(self) -> str:
        """Empty: no network takes part."""
        return ""

    def load(self, device: str) -> Callable[[Clip, Frames], dict[str, list[Row]]]:
        """From a clip and its frames to rows; raises ClipError bad_annotation. `device` is not used."""
        return _extract


def _extract(clip: Clip, frames: Frames) -> dict[str, list[Row]]:
    masks, maps = (_files(clip, kind) for kind in ("masks", "densepose"))
    order = _order(maps, clip.clip_id)
    return {
        "body_masks": [_mask_row(_mask(path, clip, frames)) for path in masks],
        "densepose": [_iuv_row(_iuv(path, clip, frames, order)) for path in maps],
    }


def _files(clip: Clip, kind: str) -> list[Path]:
    """The annotation of every frame of the clip, found by the frame's name."""
    images, annotations = local_file(clip.uri), local_beside(clip.uri, kind)
    if not images.is_dir() or not annotations.is_dir():
        raise ClipError("bad_annotation", clip.clip_id, f"no folder {kind}/ beside {images.name}", "choose another extractor")
    files = {path.stem: path for path in image_files(annotations)}
    names = [path.stem for path in image_files(images)[clip.start_frame : clip.end_frame]]
    if len(names) < clip.num_frames:
        cause = f"images/ holds {clip.start_frame + len(names)} frames, the clip ends at {clip.end_frame}"
        raise ClipError("bad_annotation", clip.clip_id, cause, _REMEDY)
    missing = [name for name in names if name not in files]
    if missing:
        cause = f"{kind}/ lacks {len(missing)} of {clip.num_frames} frames (first: {missing[0]})"
        raise ClipError("bad_annotation", clip.clip_id, cause, _REMEDY)
    return [files[name] for name in names]


def _read(path: Path, subject: str) -> Image:
    """[H, W, 3] of an image file."""
    from PIL import Image as Pictures

    try:
        with Pictures.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Pictures.DecompressionBombError) as error:
        raise ClipError("bad_annotation", subject, f"{path.parent.name}/{path.name} cannot be read ({error})", _REMEDY) from None


def _fitted(image: Image, path: Path, clip: Clip, frames: Frames) -> Image:
    """The clip's crop of the full frame's annotation, as large as the frames."""
    x, y, width, height = clip.crop or (0, 0, image.shape[1], image.shape[0])
    part = image[y : y + height, x : x + width]
    if part.shape[:2] != frames.shape[1:3]:
        held, needed = (f"{shape[1]}x{shape[0]}" for shape in (part.shape, frames.shape[1:]))
        cause = f"{path.parent.name}/{path.name} is {held} px, its frame {needed}"
        raise ClipError("bad_annotation", clip.clip_id, cause, _REMEDY)
    return part


def _mask(path: Path, clip: Clip, frames: Frames) -> Image:
    """[H, W] grey levels."""
    image = _fitted(_read(path, clip.clip_id), path, clip, frames)
    if (image != image[..., :1]).any():
        raise ClipError("bad_annotation", clip.clip_id, f"masks/{path.name} is coloured, so it is no mask", _REMEDY)
    return np.ascontiguousarray(image[..., 0])


def _order(maps: Sequence[Path], subject: str) -> Order:
    """Which channel of the clip's files holds the part index: the one that never exceeds 24.

    The released files are V, U, I as an RGB reader sees them (I, U, V written by a library that stores blue first); copies
    in the other order exist. A clip in which nobody is seen has no order, and needs none.
    """
    chosen = [maps[i] for i in np.unique(np.linspace(0, len(maps) - 1, _SAMPLED_FRAMES).astype(int))]
    largest = np.max([_read(path, subject).reshape(-1, 3).max(axis=0) for path in chosen], axis=0)
    if largest[2] <= _PARTS:
        return "VUI"
    if largest[0] <= _PARTS:
        return "IUV"
    cause = f"densepose/: no channel holds part indices 0..{_PARTS} (largest values {largest.tolist()})"
    raise ClipError("bad_annotation", subject, cause, _REMEDY)


def _iuv(path: Path, clip: Clip, frames: Frames, order: Order) -> Image:
    """[H, W, 3] part 0..24, U and V as 0..255."""
    image = _fitted(_read(path, clip.clip_id), path, clip, frames)
    iuv = image[..., ::-1] if order == "VUI" else image
    if iuv[..., 0].max() > _PARTS:
        raise ClipError("bad_annotation", clip.clip_id, f"densepose/{path.name}: part index {iuv[..., 0].max()} is over {_PARTS}", _REMEDY)
    return np.ascontiguousarray(iuv)


def _mask_row(soft: Image) -> Row:
    hard = soft > _INSIDE
    packed, shape, dtype = pack_array(soft)
    return {"rle": encode_rle(hard), "height": soft.shape[0], "width": soft.shape[1], "area_px": int(hard.sum()),
            "soft": packed, "soft_shape": shape, "soft_dtype": dtype}  # fmt: skip


def _iuv_row(iuv: Image) -> Row:
    packed, shape, dtype = pack_array(iuv)
    return {"iuv": packed, "shape": shape, "dtype": dtype}
