"""A video that is a folder of numbered images: its frames, upright RGB, in natural order of their names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipelines.clip import Frames
from pipelines.errors import ClipError

if TYPE_CHECKING:
    from PIL import Image

_REMEDY = "unpack or copy the sequence again"


def image_paths(folder: Path) -> list[Path]:
    """Images of a folder (png, jpg, jpeg) in natural order. Raises ClipError no_frames, unreadable."""
    from pipelines.sources.frame_folder import image_files  # sources import video.py, which imports this file

    try:
        paths = image_files(folder)
    except OSError as error:
        raise ClipError("unreadable", folder.name, str(error), "check that the folder may be read") from None
    if not paths:
        raise ClipError("no_frames", folder.name, "the folder holds no image (png, jpg)", _REMEDY)
    return paths


@lru_cache(maxsize=8)
def _listed(folder: Path, modified_ns: int) -> tuple[Path, ...]:
    return tuple(image_paths(folder))


def image_frames(folder: Path, indices: Sequence[int] | None = None) -> Iterator[Frames]:
    """[H, W, 3] RGB of the images, all or the given ones (counted from 0); indices behind the last image give nothing.

    Raises ClipError: no_frames, unreadable, decode_error (an image that does not decode, or of another size than the first).
    """
    try:
        paths = _listed(folder, folder.stat().st_mtime_ns)
    except OSError as error:
        raise ClipError("unreadable", folder.name, str(error), "check that the folder may be read") from None
    size: tuple[int, ...] | None = None
    for index in range(len(paths)) if indices is None else indices:
        if index >= len(paths):
            continue
        image = read_image(paths[index])
        size = size or image.shape
        if image.shape != size:
            cause = f"{paths[index].name} is {image.shape[1]}x{image.shape[0]}, others are {size[1]}x{size[0]}"
            raise ClipError("decode_error", folder.name, cause, "bring all images of a sequence to one size")
        yield image


def _require_eight_opaque_bits(path: Path, image: Image.Image) -> None:
    """Pillow would cut 16-bit values off at 255 and drop transparency, and so make other frames without a word."""
    if image.mode.startswith(("I", "F")):
        raise ClipError("decode_error", path.parent.name, f"{path.name} has more than 8 bits a channel", "write 8-bit images")
    if image.mode in ("RGBA", "LA", "PA") and image.getchannel("A").getextrema() != (255, 255):
        raise ClipError("decode_error", path.parent.name, f"{path.name} is partly transparent", "write opaque images, on their background")


def read_image(path: Path) -> Frames:
    """[H, W, 3] RGB; orientation metadata is applied. Raises ClipError unreadable, decode_error."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            _require_eight_opaque_bits(path, image)
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except PermissionError as error:
        raise ClipError("unreadable", path.parent.name, f"{path.name}: {error.strerror}", "check the file's permissions") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ClipError("decode_error", path.parent.name, f"{path.name} is no whole image ({type(error).__name__})", _REMEDY) from None
