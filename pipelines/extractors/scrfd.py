"""SCRFD (Guo et al. 2021), the face detector of insightface's packs: boxes and five points, without anchor sizes.

Pre- and post-processing are insightface's: letterbox at the top left on black, RGB (x - 127.5) / 128, two anchors per cell of
strides 8, 16, 32, distances from the cell's corner in strides; score over 0.5, suppression at 0.4 counting the last pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np

from pipelines.boxes import Floats, letterbox, nms
from pipelines.clip import Frames
from pipelines.errors import UserError
from pipelines.extractors.faces import Faces
from pipelines.onnx_session import open_session, planes

SCORE, NMS_IOU = 0.5, 0.4
_NORMALISED = np.repeat(((np.arange(256) - 127.5) / 128).astype(np.float32)[:, None], 3, axis=1)
_STRIDES, _ANCHORS = (8, 16, 32), 2
_OPEN_SIZE = (640, 640)  # of graphs that leave the input's size open, as the published one does


class Scrfd:
    """An ONNX graph [N, 3, H, W] -> for every stride scores [A, 1], distances [A, 4] and, if trained with them, points [A, 10]."""

    def __init__(self, path: Path, device: str = "cpu", threads: int = 1, score: float = SCORE) -> None:
        self._session = open_session(path, device, threads)
        self._score = score
        self.size = self._session.size or _OPEN_SIZE
        if len(self._session.outputs) != 3 * len(_STRIDES):
            raise UserError(f"{path.name} is no SCRFD with five points: it has {len(self._session.outputs)} outputs, expected 9")

    def __call__(self, frames: Frames) -> list[Faces]:
        """Faces of every frame [N, H, W, 3] RGB of any size; coordinates are those of the frame."""
        canvas, scale = letterbox(frames, self.size, 0)
        outputs = self._session.run(planes(canvas, _NORMALISED))  # scores of every stride, then distances, then points
        scores, distances, points = (np.concatenate(outputs[i : i + 3], axis=1) for i in (0, 3, 6))
        return [self._faces(*raw, scale) for raw in zip(scores[..., 0], distances, points, strict=True)]

    @cached_property
    def _cells(self) -> tuple[Floats, Floats]:
        """Corner (x, y) [A, 2] px of the canvas and stride [A, 1] of every anchor."""
        corners, strides = [], []
        for stride in _STRIDES:
            y, x = np.mgrid[: self.size[0] // stride, : self.size[1] // stride] * stride
            corners.append(np.repeat(np.stack([x, y], axis=-1).reshape(-1, 2), _ANCHORS, axis=0))
            strides.append(np.full((x.size * _ANCHORS, 1), stride))
        return np.concatenate(corners).astype(np.float32), np.concatenate(strides).astype(np.float32)

    def _faces(self, scores: Floats, distances: Floats, points: Floats, scale: float) -> Faces:
        found = np.flatnonzero(scores >= self._score)
        corners, strides = (values[found] for values in self._cells)
        reach = distances[found] * strides  # left, top, right, bottom
        boxes = np.concatenate([corners - reach[:, :2], corners + reach[:, 2:]], axis=1) / np.float32(scale)
        five = (corners[:, None] + (points[found] * strides).reshape(-1, 5, 2)) / np.float32(scale)
        keep = nms(boxes, scores[found], NMS_IOU)
        return Faces(boxes[keep], scores[found][keep], five[keep])


def load_scrfd(path: Path, device: str, threads: int) -> Callable[[Frames], list[Faces]]:
    """The detector of a file."""
    return Scrfd(path, device, threads)
