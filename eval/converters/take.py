"""The frames of a clip out of what a method wrote: cut from strips and grids, without frames that answer nothing.

T = frames of the clip, L = frames of the file
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from eval.converters.delivered import Delivered
from eval.converters.layout import Layout, Panels
from eval.foreign_clips import cut_strip
from pipelines.clip import Frames
from pipelines.errors import ClipError
from pipelines.image_sequence import read_image
from pipelines.video import probe, read_video

_SQUARE_TOLERANCE = 0.02  # of a strip's pictures


@dataclass(frozen=True, kw_only=True, slots=True)
class Taken:
    """Which frames of a file answer the clip, and what was left out."""

    frames: range
    before: int
    behind: int

    @property
    def said(self) -> str:
        """In words; "" when the file holds the clip's frames and no other."""
        parts = [f"{count} {where} left out" for count, where in ((self.before, "at the start"), (self.behind, "at the end")) if count]
        return ", ".join(parts)


def taken(layout: Layout, clip_id: str, length: int, wanted: int) -> Taken:
    """Which of `length` frames are the clip's `wanted`. Raises ClipError frame_count, which says what the method's settings did."""
    for before in layout.leading:
        rest = length - before
        if rest == wanted or (layout.rounded_to > 1 and rest == math.ceil(wanted / layout.rounded_to) * layout.rounded_to):
            return Taken(frames=range(before, before + wanted), before=before, behind=rest - wanted)
    raise ClipError("frame_count", clip_id, f"{length} frames, the clip has {wanted}{_why(layout, length, wanted)}",
                    "generate one frame for each driving frame")  # fmt: skip


def _why(layout: Layout, length: int, wanted: int) -> str:
    for stride in layout.strides:
        if length in {math.ceil(wanted / stride) + before for before in layout.leading}:
            return f"; it was made from every {stride}th driving frame, which is the published setting"
    return f"; the file should have {layout.leading[0]} more than the clip" if layout.leading == (1,) else ""


def size_and_length(layout: Layout, delivered: Delivered) -> tuple[int, int, int]:
    """(width, height, L) of one generated frame, without decoding. Raises ClipError (unreadable file, a grid that cannot be cut)."""
    from PIL import Image

    if layout.kind == "video":
        info = probe(delivered.paths[0])
        return *panel_size(layout.panels, delivered.clip.clip_id, info.width, info.height), info.frames
    try:
        with Image.open(delivered.paths[0]) as image:
            width, height = image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ClipError("decode_error", delivered.clip.clip_id, f"{delivered.paths[0].name} is no whole image ({type(error).__name__})",
                        "copy it again") from None  # fmt: skip
    if layout.kind == "frames":
        return width, height, len(delivered.paths)
    return _strip_size(delivered, width, height)


def _strip_size(delivered: Delivered, width: int, height: int) -> tuple[int, int, int]:
    """A strip does not say how many pictures it has: the clip's number must give squares, or the clip's own aspect."""
    clip = delivered.clip
    one = width / clip.num_frames
    if width % clip.num_frames == 0 and any(
        abs(one / height / aspect - 1) <= _SQUARE_TOLERANCE for aspect in (1, clip.width / clip.height)
    ):
        return width // clip.num_frames, height, clip.num_frames
    raise ClipError("frame_count", clip.clip_id, f"a strip of {width}x{height} does not hold {clip.num_frames} pictures that are square or "
                    f"of the clip's aspect ({width / height:g} squares)", "generate one frame for each driving frame")  # fmt: skip


def panel_size(panels: Panels | None, clip_id: str, width: int, height: int) -> tuple[int, int]:
    """(width, height) of one panel of a frame. Raises ClipError frame_size where the frame is no such grid."""
    if panels is None:
        return width, height
    across, down = width - panels.border * (panels.columns + 1), height - 2 * panels.border
    if across % panels.columns or across <= 0 or down <= 0:
        cause = f"a frame of {width}x{height} is not {panels.columns} pictures side by side with {panels.border} px between"
        raise ClipError("frame_size", clip_id, cause, "give the file as the method wrote it, not resized")
    return across // panels.columns, down


def cut_panel(panels: Panels | None, clip_id: str, frames: Frames) -> Frames:
    """[L, H, W, 3] -> the method's panel [L, h, w, 3]. Raises ClipError frame_size."""
    width, height = panel_size(panels, clip_id, frames.shape[2], frames.shape[1])
    if panels is None:
        return frames
    left = panels.border + panels.index * (width + panels.border)
    return np.ascontiguousarray(frames[:, panels.border : panels.border + height, left : left + width])


def clip_frames(layout: Layout, delivered: Delivered) -> tuple[Frames, Taken]:
    """[T, h, w, 3] uint8 RGB: frame k answers frame k of the clip. Raises ClipError."""
    clip = delivered.clip
    if layout.kind == "frames":
        frames = _images(delivered)
    elif layout.kind == "strip":
        size_and_length(layout, delivered)  # another number of pictures may divide the width too
        frames = cut_strip(delivered.paths[0], clip.clip_id, clip.num_frames)
    else:
        frames = read_video(delivered.paths[0])
    chosen = taken(layout, clip.clip_id, len(frames), clip.num_frames)
    return cut_panel(layout.panels, clip.clip_id, frames[chosen.frames.start : chosen.frames.stop]), chosen


def _images(delivered: Delivered) -> Frames:
    images = [read_image(path) for path in delivered.paths]
    odd = next((i for i, image in enumerate(images) if image.shape != images[0].shape), None)
    if odd is not None:
        height, width, _ = images[odd].shape
        raise ClipError("decode_error", delivered.clip.clip_id, f"{delivered.paths[odd].name} is {width}x{height}, others are not",
                        "bring all images of a clip to one size")  # fmt: skip
    return np.stack(images)
