"""Cuts between shots: PySceneDetect's adaptive detector on small pictures, then fades.

The pictures come from our own decoder, so that an index here is an index everywhere (containers with wrong timestamps
included), and memory does not grow with the video. A small picture is made from the planes of the decoded frame: each plane is
sampled down first and only the small picture becomes RGB, which costs a fraction of converting the whole frame.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.clip import Frames
from pipelines.fades import merge_fades
from pipelines.split_rule import SplitRule

_PLANAR = frozenset({"yuv420p", "yuvj420p"})


def find_cuts(frames: Iterable[Frames], rule: SplitRule) -> list[int]:
    """First frames of new shots; `frames` are [H, W, 3] RGB in presentation order."""
    from scenedetect import AdaptiveDetector, FrameTimecode

    logging.getLogger("pyscenedetect").setLevel(logging.ERROR)
    detector = AdaptiveDetector(
        adaptive_threshold=rule.adaptive_ratio, min_scene_len=1, window_width=rule.window_width, min_content_val=rule.content_threshold
    )
    cuts: list[int] = []
    luma: list[float] = []
    for number, image in enumerate(frames):
        found = detector.process_frame(FrameTimecode(number, fps=25.0), np.ascontiguousarray(image[..., ::-1]))
        cuts.extend(cut.frame_num for cut in found)
        luma.append(mean_luma(image))
    return merge_fades(sorted({cut for cut in cuts if cut > 0}), luma, rule)


def mean_luma(image: Frames) -> float:
    """Mean BT.601 luma of an RGB picture, 0..255."""
    import cv2

    red, green, blue, _ = cv2.mean(image)
    return float(0.299 * red + 0.587 * green + 0.114 * blue)


def small_picture(frame: Any, width: int) -> Frames:
    """[h, w, 3] RGB of a decoded frame, sampled to `width` where it is wider (bilinear, as PySceneDetect does); not turned upright."""
    full_height, full_width = frame.height, frame.width
    if full_width <= width or frame.format.name not in _PLANAR:
        return reduced(frame.to_ndarray(format="rgb24"), width)
    import cv2

    size = (width, max(1, round(full_height * width / full_width)))
    # chroma planes are half as large; all three are brought to the picture's size
    planes = [cv2.resize(_plane(plane), size, interpolation=cv2.INTER_LINEAR) for plane in frame.planes]
    full_range = frame.format.name == "yuvj420p" or int(frame.color_range) == 2
    return _rgb(*planes, full_range=full_range)


def _plane(plane: Any) -> npt.NDArray[np.uint8]:
    return np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]


def _rgb(y: Any, u: Any, v: Any, *, full_range: bool) -> Frames:
    """BT.601 of three [h, w] planes; video range (16..235) is stretched first, so that black is 0."""
    import cv2

    if not full_range:
        y = cv2.convertScaleAbs(cv2.subtract(y, 16), alpha=255 / 219)
    return np.asarray(cv2.cvtColor(cv2.merge((y, v, u)), cv2.COLOR_YCrCb2RGB), dtype=np.uint8)


def reduced(image: Frames, width: int) -> Frames:
    """[h, w, 3], area-averaged to `width` where the picture is wider."""
    import cv2

    height, full = image.shape[:2]
    if full <= width:
        return image
    size = (width, max(1, round(height * width / full)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
