"""RGB of a part of a decoded frame, converting no more than the part.

FFmpeg's crop filter moves pointers; then only the part is converted. Even corners and sizes keep the chroma samples where they are, so
the pixels are those of the whole frame's conversion, to the bit; the part is therefore widened to even ones first, and cut in RGB. Frames
of odd height are converted whole: FFmpeg takes another way through them.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from pipelines.clip import Frames
from pipelines.crop import Crop, cut_out
from pipelines.video_stream import upright

_HALVED = frozenset({"yuv420p", "yuvj420p"})  # chroma of half the size; other formats are converted whole


class FramePart:
    """Call with a decoded frame: [h, w, 3] upright RGB of the crop (None: of the frame)."""

    def __init__(self, subject: str, crop: Crop | None) -> None:
        self._subject, self._crop = subject, crop
        self._graph: Any = None
        self._made_for: tuple[Any, ...] = ()

    def __call__(self, frame: Any) -> Frames:
        """Raises ClipError bad_annotation where the crop lies outside."""
        even = None if self._crop is None else _even(self._crop, frame)
        if self._crop is None or even is None:
            return cut_out(self._subject, upright(frame), self._crop)
        image = self._converted(frame, even)
        (x, y, w, h), (left, top, _, _) = self._crop, even
        return image[y - top : y - top + h, x - left : x - left + w]

    def _converted(self, frame: Any, even: Crop) -> Frames:
        shape = (frame.width, frame.height, frame.format.name, frame.time_base, frame.colorspace, frame.color_range)
        if shape != self._made_for:
            self._graph, self._made_for = _graph(frame, even), shape
        self._graph.push(frame)
        return np.asarray(self._graph.pull().to_ndarray(format="rgb24"))


def _even(crop: Crop, frame: Any) -> Crop | None:
    """The smallest part with even corners and sizes around the crop; None where the frame must be converted whole."""
    x, y, w, h = crop
    inside = min(x, y) >= 0 and min(w, h) >= 1 and x + w <= frame.width and y + h <= frame.height
    left, top, right, bottom = x - x % 2, y - y % 2, x + w + (x + w) % 2, y + h + (y + h) % 2
    if not inside or frame.height % 2 or frame.rotation or frame.format.name not in _HALVED or right > frame.width or bottom > frame.height:
        return None
    return left, top, right - left, bottom - top


def _graph(frame: Any, part: Crop) -> Any:
    import av

    graph = av.filter.Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 1000))
    crop, sink = graph.add("crop", f"{part[2]}:{part[3]}:{part[0]}:{part[1]}:exact=1"), graph.add("buffersink")
    source.link_to(crop)
    crop.link_to(sink)
    graph.configure()
    return graph
