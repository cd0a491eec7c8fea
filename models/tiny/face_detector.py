"""The tiny face detector: SCRFD's outputs (Guo et al. 2021) from a network without anchors' sizes, 256 x 256.

Faces of whole bodies are 12 to 16 px high in the demo's frames; the letterbox doubles them, so that a cell of stride 8 is 4 px of the frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.tiny.degradation import degraded, moved, rng_of, similarity
from models.tiny.job import TinyJob
from models.tiny.onnx_export import export_onnx
from models.tiny.people import TRAINING_IDENTITIES, UNSEEN_IDENTITIES, People, cast, draw
from models.training_loop import LoopConfig, LossAt
from pipelines.boxes import iou
from pipelines.extractors.scrfd import Scrfd

Floats = npt.NDArray[np.float32]

SIZE, STRIDES, ANCHORS = 256, (8, 16, 32), 2
_REACH = ((0, 48), (32, 96), (72, 10_000))  # px of a face's longer side that each stride answers for
_TRUTH = ("scores", "face_box", "face_points")
_BATCH = 16
_SEEN, _UNSEEN = 0.5, 0.2  # share of the inner landmarks that are visible: a face above, none below, not asked about in between
_INNER = slice(23 + 17, 133 - 42)  # of 133 keypoints: the face without the jaw


class Residual(nn.Module):
    """Two 3x3 convolutions around which the input goes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(functional.silu(self.first(functional.silu(x))))


class FaceDetectorNetwork(nn.Module):
    """[N, 3, 256, 256] -> scores [N, A, 1] of three strides, then distances [N, A, 4], then points [N, A, 10], in strides."""

    def __init__(self, widths: tuple[int, int, int] = (32, 48, 48)) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 6, stride=4, padding=1)
        befores = (16, *widths[:2])
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in zip(befores, widths, strict=True))
        self.refine = nn.ModuleList(nn.Sequential(*(Residual(b) for _ in range(n))) for b, n in zip(widths, (2, 1, 0), strict=True))
        self.norm = nn.ModuleList(nn.GroupNorm(8, b) for b in widths)
        self.lateral = nn.ModuleList(nn.Conv2d(b, 32, 1) for b in widths)
        self.head = nn.Conv2d(32, 32, 3, padding=1)
        self.answer = nn.Conv2d(32, ANCHORS * 15, 1)
        start = torch.zeros(ANCHORS * 15)
        start[:ANCHORS] = -4.0  # nearly every anchor shows no face
        self.answer.bias = nn.Parameter(start)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        levels, x = [], functional.silu(self.stem(x))
        for down, norm, refine, lateral in zip(self.down, self.norm, self.refine, self.lateral, strict=True):
            x = refine(norm(down(functional.silu(x))))
            levels.append(lateral(functional.silu(x)))
        for fine in (1, 0):
            levels[fine] = levels[fine] + functional.interpolate(levels[fine + 1], scale_factor=2.0, mode="nearest")
        answers = [self.answer(functional.silu(self.head(functional.silu(level)))).permute(0, 2, 3, 1).flatten(1, 2) for level in levels]
        scores = [a[..., :ANCHORS].flatten(1).unsqueeze(2).sigmoid() for a in answers]
        distances = [functional.softplus(a[..., ANCHORS : ANCHORS * 5]).unflatten(2, (ANCHORS, 4)).flatten(1, 2) for a in answers]
        points = [a[..., ANCHORS * 5 :].unflatten(2, (ANCHORS, 10)).flatten(1, 2) for a in answers]
        return (*scores, *distances, *points)


def _corners() -> tuple[Floats, Floats, Floats]:
    """Corner (x, y) [A, 2] px, stride [A] and the range of faces [A, 2] px of every anchor, in the order of Scrfd."""
    corners, strides, ranges = [], [], []
    for stride, reach in zip(STRIDES, _REACH, strict=True):
        y, x = np.mgrid[: SIZE // stride, : SIZE // stride] * stride
        corners.append(np.repeat(np.stack([x, y], axis=-1).reshape(-1, 2), ANCHORS, axis=0))
        strides.append(np.full(x.size * ANCHORS, stride))
        ranges.append(np.tile(reach, (x.size * ANCHORS, 1)))
    return (
        np.concatenate(corners).astype(np.float32),
        np.concatenate(strides).astype(np.float32),
        np.concatenate(ranges).astype(np.float32),
    )


def seen_share(scores: npt.NDArray[np.float32]) -> Floats:
    """[N] share of the inner face's landmarks that are visible, from the truth's scores [N, 133]."""
    return np.asarray((scores[:, _INNER] == 1).mean(axis=1), np.float32)


def _example(people: People, i: int, rng: np.random.Generator) -> tuple[npt.NDArray[np.uint8], Floats, Floats]:
    """A canvas [256, 256, 3], the face's box [4] and five points [5, 2] in its px."""
    frame, box, points = people.frames[i], people.truth["face_box"][i], people.truth["face_points"][i]
    side = frame.shape[0]
    away = rng.random() < 0.5  # half of the pictures are looked at closer, about the face
    centre = box.reshape(2, 2).mean(axis=0) if away else np.full(2, side / 2, np.float32)
    zoom = (0.8, 3.2) if away else (0.85, 1.2)
    matrix = similarity(
        rng, SIZE, centre=centre, zoom=(zoom[0] * SIZE / side, zoom[1] * SIZE / side), turn=0.2, shift=0.3 if away else 0.06
    )
    canvas = cv2.warpAffine(degraded(frame, rng), matrix, (SIZE, SIZE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    corners = moved(box[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2), matrix)
    grown = np.abs(matrix[0, :2]).sum() / np.linalg.norm(matrix[0, :2])  # a turned box reaches further than the face
    middle, half = corners.mean(axis=0), np.ptp(corners, axis=0) / 2 / grown
    box, points = np.concatenate([middle - half, middle + half]), moved(points, matrix)
    if rng.random() < 0.5:
        canvas = np.ascontiguousarray(canvas[:, ::-1])
        box = np.stack([SIZE - 1 - box[2], box[1], SIZE - 1 - box[0], box[3]])
        points = points[[1, 0, 2, 4, 3]] * np.array([-1, 1], np.float32) + np.array([SIZE - 1, 0], np.float32)
    return canvas, box.astype(np.float32), points.astype(np.float32)


def _targets(box: Floats, anchors: tuple[Floats, Floats, Floats]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """(anchors [A] that answer for this face, anchors that are not asked because they are close to it)."""
    corners, strides, ranges = anchors
    size = float((box[2:] - box[:2]).max())
    far = np.abs(corners - box.reshape(2, 2).mean(axis=0)).max(axis=1) / strides
    fits = (ranges[:, 0] <= size) & (size < ranges[:, 1])
    return fits & (far < 0.8), far < 1.6


def detection_loss(outputs: tuple[Tensor, ...], boxes: Tensor, points: Tensor, good: Tensor, close: Tensor) -> Tensor:
    """Focal cross-entropy of the scores, and the errors of box and points in sizes of the face at its anchors.

    boxes [N, 4] px, points [N, 5, 2] px; good, close: [N, A] from `_targets`.
    """
    scores, distances, five = (torch.cat(outputs[i : i + 3], dim=1) for i in (0, 3, 6))
    corners, strides = (torch.from_numpy(values).to(scores) for values in _corners()[:2])
    entropy = functional.binary_cross_entropy(scores[..., 0], good.float(), reduction="none")
    hard = torch.where(good, 1 - scores[..., 0], scores[..., 0]).square()
    count = good.sum().clamp(min=1)
    found = (entropy * hard * (good | ~close)).sum() / count
    image, anchor = good.nonzero(as_tuple=True)
    reach = distances[image, anchor] * strides[anchor, None]
    box = torch.cat([corners[anchor] - reach[:, :2], corners[anchor] + reach[:, 2:]], dim=1)
    at = corners[anchor][:, None] + (five[image, anchor] * strides[anchor, None]).unflatten(1, (5, 2))
    size = (boxes[:, 2:] - boxes[:, :2]).amax(dim=1)[image]
    box_error = ((box - boxes[image]).abs().mean(dim=1) / size).sum() / count
    point_error = ((at - points[image]).abs().mean(dim=(1, 2)) / size).sum() / count
    return found + 3 * box_error + 6 * point_error


def loss_of(network: nn.Module, people: People) -> LossAt:
    """Frames with a face that can be seen, and those that show none; others are not used."""
    shares = seen_share(np.asarray(people.truth["scores"]))
    used = np.flatnonzero((shares >= _SEEN) | (shares < _UNSEEN))
    anchors = _corners()
    device = next(network.parameters()).device
    network.to(memory_format=torch.channels_last)  # a fifth faster on a CPU

    def loss_at(step: int, generator: torch.Generator) -> Tensor:
        rng = rng_of(generator)
        picked = rng.choice(used, _BATCH)
        canvases, boxes, points = (np.stack(values) for values in zip(*(_example(people, int(i), rng) for i in picked), strict=True))
        targets = [_targets(box, anchors) for box in boxes]
        good, close = (np.stack(values) & (shares[picked] >= _SEEN)[:, None] for values in zip(*targets, strict=True))
        images = ((torch.from_numpy(canvases).permute(0, 3, 1, 2).to(device).float() - 127.5) / 128).contiguous(
            memory_format=torch.channels_last
        )
        rest = (torch.from_numpy(values).to(device) for values in (boxes, points, good, close))
        return detection_loss(network(images), *rest)

    return loss_at


def export(network: nn.Module, folder: Path) -> None:
    """model.onnx with SCRFD's nine outputs."""
    names = [f"{what}_{stride}" for what in ("scores", "distances", "points") for stride in STRIDES]
    export_onnx(network, torch.zeros(1, 3, SIZE, SIZE), folder / "model.onnx", names)


def scores(detector: Scrfd, people: People) -> dict[str, float]:
    """Recall at IoU 0.5 over visible faces, false faces per frame, and the mean five-point error in % of the face's longer side."""
    shares, boxes = seen_share(np.asarray(people.truth["scores"])), np.asarray(people.truth["face_box"])
    found, errors, extra = [], [], 0
    for start in range(0, len(people.frames), 32):
        for i, faces in enumerate(detector(np.asarray(people.frames[start : start + 32])), start=start):
            overlap = iou(faces.boxes, boxes[i : i + 1])[:, 0] if len(faces.boxes) else np.zeros(0)
            extra += int((overlap < 0.3).sum())
            if shares[i] < _SEEN:
                continue
            found.append(overlap.max(initial=0) >= 0.5)
            if found[-1]:
                error = np.linalg.norm(faces.points[overlap.argmax()] - people.truth["face_points"][i], axis=1).mean()
                errors.append(error / (boxes[i, 2:] - boxes[i, :2]).max())
    return {
        "recall_at_iou_50": float(np.mean(found)),
        "false_faces_per_frame": extra / len(people.frames),
        "five_point_error_percent_of_face": 100 * float(np.mean(errors)) if errors else 100.0,
    }


def measure(folder: Path, cache: Path) -> Mapping[str, float]:
    """On unseen people, through the detector of the extractors."""
    return scores(Scrfd(folder / "model.onnx"), draw(cast(UNSEEN_IDENTITIES, clips=3, truth=_TRUTH), cache))


JOB = TinyJob(
    name="face_detector",
    title="Tiny face detector",
    purpose="Finds faces and their five points in Rotoscope's demo, with the outputs of SCRFD.",
    loop=LoopConfig(steps=2900, learning_rate=3e-3, warmup_steps=60, decay="cosine", weight_decay=1e-4, clip_norm=2.0),
    draw=lambda cache: draw(cast(TRAINING_IDENTITIES, clips=3, truth=_TRUTH), cache),
    build=FaceDetectorNetwork,
    loss_of=loss_of,
    export=export,
    measure=measure,
)
