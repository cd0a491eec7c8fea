"""A user's photograph as one upright RGB picture of 8 bits; what was changed on the way is said, never done in silence."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipelines.clip import Clip, Frames
from pipelines.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

SMALLEST_SIDE = 32  # pixels; nobody is recognised in less
_ORIENTATION = 0x0112  # EXIF tag
_REMEDY = "save it as PNG or JPEG"


@dataclass(frozen=True, kw_only=True, slots=True)
class Photograph:
    """image: [H, W, 3] upright RGB. notes: what was done to it, in words."""

    path: Path
    image: Frames
    notes: tuple[str, ...] = ()

    @property
    def clip(self) -> Clip:
        """The photograph as a clip of one frame, for extractors."""
        height, width, _ = self.image.shape
        one = Fraction(1)
        return Clip(
            dataset="", clip_id=self.path.name, video_id=self.path.name, uri=str(self.path), start_frame=0, end_frame=1,
            start_pts=None, end_pts=None, time_base=one, fps=one, width=width, height=height,
        )  # fmt: skip


def read_photograph(path: Path) -> Photograph:
    """Open an image file: turned upright as its EXIF data says, transparency laid on white.

    Raises UserError: missing, not an image, more than 8 bits a channel, smaller than SMALLEST_SIDE.
    """
    from PIL import Image, UnidentifiedImageError

    if not path.is_file():
        raise UserError(f"photograph {path}: there is no such file; give a PNG or JPEG of one person")
    try:
        with Image.open(path) as image:
            return _checked(path, *_opaque(path, *_upright(path, image)))
    except PermissionError as error:
        raise UserError(f"photograph {path}: {error.strerror}; check the file's permissions") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"photograph {path} is no image that can be opened whole ({type(error).__name__}); {_REMEDY}") from None


def _upright(path: Path, image: Image.Image) -> tuple[Image.Image, list[str]]:
    from PIL import ImageOps

    if image.mode.startswith(("I", "F")):
        raise UserError(f"photograph {path} has more than 8 bits a channel; {_REMEDY} with 8 bits")
    turned = image.getexif().get(_ORIENTATION, 1) not in (0, 1)
    return ImageOps.exif_transpose(image), [f"{path.name} was turned upright as its EXIF orientation says"] if turned else []


def _opaque(path: Path, image: Image.Image, notes: list[str]) -> tuple[Image.Image, list[str]]:
    from PIL import Image

    if not image.has_transparency_data:
        return image.convert("RGB"), notes
    layers = image.convert("RGBA")
    if layers.getchannel("A").getextrema() == (255, 255):
        return layers.convert("RGB"), notes
    white = Image.new("RGBA", layers.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, layers).convert("RGB"), [*notes, f"{path.name} is partly transparent and was laid on white"]


def _checked(path: Path, image: Image.Image, notes: list[str]) -> Photograph:
    if min(image.size) < SMALLEST_SIDE:
        raise UserError(
            f"photograph {path} is {image.width}x{image.height} pixels; the smaller side must have at least {SMALLEST_SIDE}, give a larger one"
        )
    return Photograph(path=path, image=np.asarray(image), notes=tuple(notes))
