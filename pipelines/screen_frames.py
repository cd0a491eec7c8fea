"""Scores of a clip from a few of its frames: bars, exposure, background, sharpness of the face, perceptual hashes.

Frames are sampled at two per second. Of a long or large clip fewer are taken, so that a clip never holds more than 256 MB.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.clip import Clip, Frames
from pipelines.extractors.hands import sharpness
from pipelines.screen_hash import perceptual_hash, signed

# T = sampled frames, H W = their size, h w = reduced size
Luma = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Box = npt.NDArray[np.float64]

SAMPLES_PER_SECOND = 2.0
_FEWEST, _MOST = 4, 32  # sampled frames of a clip
_MOST_BYTES = 256 << 20
_KEY_FRAMES = 6
_WIDTH_PX = 320  # of the pictures that background, exposure and bars are measured on
_DARK = 24.0  # luma of a bar, at most; compressed black is seldom exactly 0
_EDGE = 8.0  # luma
_DILATION = 0.03  # of the longer side: what the mask's edge may miss


def sampled(clip: Clip) -> list[int]:
    """Clip-relative frames to look at: two per second, evenly spaced from the middle of each part, at least 4 where the clip has them."""
    wanted = round(clip.num_frames / float(clip.fps) * SAMPLES_PER_SECOND)
    affordable = _MOST_BYTES // (3 * clip.width * clip.height)
    count = min(max(wanted, _FEWEST), _MOST, max(affordable, 2), clip.num_frames)
    return [int((i + 0.5) * clip.num_frames / count) for i in range(count)]


def frame_scores(frames: Frames, masks: Sequence[Mask] | None, faces: Sequence[Box | None] | None) -> dict[str, Any]:
    """All scores that need pixels, from sampled frames [T, H, W, 3], their body masks [H, W] and face boxes.

    Without masks static_background is None, without face boxes (the table is not at hand) face_sharpness is None.
    """
    lumas = np.stack([reduced_luma(image) for image in frames])
    top, bottom, left, right = bars(lumas)
    _, height, width = lumas.shape
    inside = lumas[:, top : height - bottom, left : width - right]
    return {
        "black_bars": max((top + bottom) / height, (left + right) / width),
        "exposure": float(inside.mean()) if inside.size else 0.0,
        "clipped_share": clipped_share(frames, (top / height, bottom / height, left / width, right / width)),
        "static_background": None if masks is None else background_change(lumas, [_reduced_mask(mask, lumas.shape[1:]) for mask in masks]),
        "face_sharpness": None if faces is None else _median(face_sharpnesses(frames, faces)),
        "hashes": hashes_of(inside),
    }


def reduced_luma(image: Frames) -> Luma:
    """[h, w] BT.601 luma, 0..255, at most 320 px wide."""
    import cv2

    height, width = image.shape[:2]
    if width > _WIDTH_PX:
        image = cv2.resize(image, (_WIDTH_PX, max(1, round(height * _WIDTH_PX / width))), interpolation=cv2.INTER_AREA)
    return np.asarray(image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32))


def _reduced_mask(mask: Mask, size: tuple[int, ...]) -> Mask:
    """Any pixel that the mask touches."""
    import cv2

    resized = cv2.resize(mask.astype(np.float32), (size[1], size[0]), interpolation=cv2.INTER_AREA)
    return np.asarray(resized > 0)


def bars(lumas: Luma) -> tuple[int, int, int, int]:
    """Rows at the top and bottom and columns left and right, in px of [T, h, w], that are black in every frame.

    A line is black where all but 1 % of its pixels stay under luma 24 throughout. Bars end in an edge along the whole line: over four lines
    the median rises by at least 8; a dark scene fades in instead. A wholly black clip is all bar (top = h).
    """
    brightest = lumas.max(axis=0)
    if np.percentile(brightest, 99) <= _DARK:
        return len(brightest), 0, 0, 0
    return _bar(brightest), _bar(brightest[::-1]), _bar(brightest.T), _bar(brightest.T[::-1])


def _bar(lines: Luma) -> int:
    """Lines at the start of [lines, pixels] that are a bar."""
    dark = np.percentile(lines, 99, axis=1) <= _DARK
    count = int(np.argmin(dark))
    if dark.all() or count == 0:
        return 0
    inner = lines[min(count + 2, len(lines) - 1)]
    return count if np.median(inner) - np.median(lines[max(count - 2, 0)]) >= _EDGE else 0


def clipped_share(frames: Frames, margins: tuple[float, float, float, float]) -> float:
    """Share of pixels inside the margins (shares of the height and width) whose three channels are all 0 or all 255."""
    _, height, width, _ = frames.shape
    top, bottom, left, right = margins
    rows = slice(round(top * height), height - round(bottom * height))
    clipped = pixels = 0
    for image in frames:  # one at a time: the comparison of all would double the memory
        part = image[rows, round(left * width) : width - round(right * width)]
        clipped += int(((part == 0).all(axis=-1) | (part == 255).all(axis=-1)).sum())
        pixels += part.shape[0] * part.shape[1]
    return clipped / pixels if pixels else 1.0


def background_change(lumas: Luma, masks: Sequence[Mask]) -> float | None:
    """Median |luma difference| outside the person, of each pair of samples; the mean over pairs. None without a background.

    The person is both frames' masks, dilated by 3 % of the longer side.
    """
    # A median over all pairs, too, would hide a camera that moves in less than half of the clip.
    grown = [_dilated(mask) for mask in masks]
    changes = []
    for t in range(1, len(lumas)):
        outside = ~(grown[t] | grown[t - 1])
        if outside.mean() >= 0.01:
            changes.append(float(np.median(np.abs(lumas[t] - lumas[t - 1])[outside])))
    return float(np.mean(changes)) if changes else None


def _dilated(mask: Mask) -> Mask:
    import cv2

    radius = max(1, round(_DILATION * max(mask.shape)))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), kernel) > 0)


def face_sharpnesses(frames: Frames, faces: Sequence[Box | None]) -> list[float | None]:
    """Variance of the Laplacian of each frame's face crop at 128x128 (as for hands, so that sizes compare); None without a face."""
    return [None if box is None else _sharpness(image, box) for image, box in zip(frames, faces, strict=True)]


def _sharpness(image: Frames, box: Box) -> float | None:
    height, width = image.shape[:2]
    x1, y1, x2, y2 = np.clip(box, 0, [width, height, width, height]).tolist()
    return sharpness(image, (x1, y1, x2, y2))[1] if x2 - x1 >= 3 and y2 - y1 >= 3 else None


def _median(values: Sequence[float | None]) -> float:
    """Median of what is there; 0 where nothing is."""
    held = [value for value in values if value is not None]
    return float(np.median(held)) if held else 0.0


def hashes_of(lumas: Luma) -> list[int]:
    """Signed perceptual hashes of up to six evenly spaced frames of [T, h, w]; frames without structure have none."""
    if not lumas.size:
        return []
    count = min(_KEY_FRAMES, len(lumas))
    keys = [perceptual_hash(lumas[int((i + 0.5) * len(lumas) / count)]) for i in range(count)]
    return [signed(key) for key in keys if key is not None]


def reference_frames(sharp: Sequence[float | None], frames: Sequence[int], held: Mapping[int, tuple[float, float]]) -> list[int]:
    """Sampled frames that may serve as the reference: mean body score over 0.5, the person's area at least 5 %, a face,
    and that face at least as sharp as the median one.

    sharp: per sampled frame; held: frame -> (mean body score, share of the frame that the person covers).
    """
    # "At least", not "above": in a clip with one face, or equally sharp ones, no frame is above the median.
    middle = _median(sharp)
    return [
        frame
        for frame, value in zip(frames, sharp, strict=True)
        if value is not None and value >= middle and held[frame][0] > 0.5 and held[frame][1] >= 0.05
    ]
