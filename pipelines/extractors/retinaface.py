"""RetinaFace's pre- and post-processing (Deng et al. 2020): the face detector without insightface's terms.

As in the public PyTorch version: BGR minus (104, 117, 123) at full resolution, two square anchors per cell of strides
8, 16, 32, variances 0.1 and 0.2, suppression at 0.4 counting the last pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np

from pipelines.boxes import Floats, nms
from pipelines.clip import Frames
from pipelines.extractors.faces import Faces
from pipelines.extractors.retinaface_network import forward, load_network

NMS_IOU = 0.4
_MEAN_BGR = np.array([104, 117, 123], np.float32)
_SIDES = {8: (16, 32), 16: (64, 128), 32: (256, 512)}  # px of the two anchors of each stride
_VARIANCES = (0.1, 0.2)  # of centres and points; of sizes


class RetinaFace:
    """Frames [N, H, W, 3] RGB -> faces, found at the frames' own resolution; half precision on CUDA."""

    def __init__(self, path: Path, device: str = "cpu", score: float = 0.97) -> None:
        import torch

        self._device, self._score = device, score
        self._dtype = torch.float16 if device.startswith("cuda") else torch.float32
        self._network = load_network(path).to(device, self._dtype)

    def __call__(self, frames: Frames) -> list[Faces]:
        """Faces of every frame; coordinates are those of the frame."""
        import torch

        images = torch.from_numpy(np.ascontiguousarray((frames[..., ::-1] - _MEAN_BGR).transpose(0, 3, 1, 2)))
        with torch.inference_mode():
            outputs = forward(self._network, images.to(self._device, self._dtype))
        offsets, scores, points = (output.float().cpu().numpy() for output in outputs)
        anchors = anchors_of(*frames.shape[1:3])
        return [self._faces(*raw, anchors) for raw in zip(offsets, scores, points, strict=True)]

    def _faces(self, offsets: Floats, scores: Floats, points: Floats, anchors: Floats) -> Faces:
        found = np.flatnonzero(scores > self._score)
        boxes, five = decode(offsets[found], points[found], anchors[found])
        keep = nms(boxes, scores[found], NMS_IOU)
        return Faces(boxes[keep], scores[found][keep], five[keep])


@lru_cache(maxsize=4)
def anchors_of(height: int, width: int) -> Floats:
    """Anchors [A, 4] = centre x, y and width, height in px, row by row, stride 8 first; borders count as whole cells."""
    parts = []
    for stride, sides in _SIDES.items():
        y, x = (np.mgrid[: -(-height // stride), : -(-width // stride)] + 0.5) * stride
        centres = np.repeat(np.stack([x, y], axis=-1).reshape(-1, 2), len(sides), axis=0)
        sizes = np.tile(np.repeat(np.array(sides)[:, None], 2, axis=1), (x.size, 1))
        parts.append(np.concatenate([centres, sizes], axis=1))
    anchors: Floats = np.concatenate(parts).astype(np.float32)
    return anchors


def decode(offsets: Floats, points: Floats, anchors: Floats) -> tuple[Floats, Floats]:
    """Offsets [n, 4] and points [n, 10] of anchors [n, 4] -> boxes [n, 4], points [n, 5, 2] in px."""
    centres, sizes = anchors[:, :2], anchors[:, 2:]
    middle = centres + offsets[:, :2] * np.float32(_VARIANCES[0]) * sizes
    extent = sizes * np.exp(offsets[:, 2:] * np.float32(_VARIANCES[1]))
    five = centres[:, None] + points.reshape(-1, 5, 2) * np.float32(_VARIANCES[0]) * sizes[:, None]
    return np.concatenate([middle - extent / 2, middle + extent / 2], axis=1), five


def load_retinaface(path: Path, device: str, threads: int) -> Callable[[Frames], list[Faces]]:
    """The detector of a file; faces over 0.97, as the users of the ResNet-50 fallback set it."""
    return RetinaFace(path, device)


def load_retinaface_small(path: Path, device: str, threads: int) -> Callable[[Frames], list[Faces]]:
    """The same for MobileNet 0.25, which is less sure of small faces: over 0.8."""
    return RetinaFace(path, device, score=0.8)
