"""Body joints for AKD and MKR: the first OpenPose network (Cao et al. 2017, VGG-19, six stages) as pose-evaluation runs it.

Published code: heat maps of several sizes and of the mirrored frame are averaged at the frame's own size; every local
maximum over 0.1 is a joint. Its grouping of joints into people (thresholds 0.05 and 0.5) never reaches the numbers: it
writes all joints in the order of decoding into one row per type, so it is not computed here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.clip import Frames
from pipelines.extractors.pretrained_folder import fill, load_state
from pipelines.weights import digest_of, find_weights

# J = 18 joints: 0 nose, 1 neck, 2-4 right arm, 5-7 left arm, 8-10 right leg, 11-13 left leg, 14 15 eyes, 16 17 ears (right first)
Features = npt.NDArray[np.float32]
Maps = npt.NDArray[np.float64]

ROLE = "akd_pose"
JOINTS, FIELDS = 18, 38  # a heat map per joint and one of the background; 19 limbs of two coordinates
BASE = 368  # px of the shorter side at scale 1
STRIDE = 8
PEAK, WINDOW = 0.1, 2  # smallest value of a maximum; px to each side in which it may move to a higher one
MIRRORED = (0, 1, 5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10, 15, 14, 17, 16)

_VGG = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, 256, "pool", 512, 512, 256, 128)


@dataclass(frozen=True, kw_only=True, slots=True)
class RtposeVgg:
    """uint8 [N, H, W, 3] RGB -> float32 [N, 18 * 3]: x px, y px, present (0 or 1); a missing joint is (-1, -1, 0).

    A frame in which nothing is found is a row of missing joints, not of NaN: MKR counts it. With several people the joint
    found last (the lowest in the frame) overwrites. MissingWeightsError without the file of role `akd_pose`.
    """

    name: str
    scales: tuple[float, ...]  # of BASE, ascending
    path: Path | None = None  # None = where pipelines.weights finds it
    version: int = 1

    def weights_digest(self) -> str:
        """sha256 of the checkpoint."""
        return digest_of(find_weights(ROLE, self.path))

    def load(self, device: str) -> Callable[[Frames], Features]:
        """Open the network; frames go through it one by one. Raises UserError where a tensor is missing, unknown or misshapen."""
        import torch

        network = load_network(find_weights(ROLE, self.path)).to(device)

        def heat(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
            with torch.inference_mode():
                return np.asarray(forward(network, torch.from_numpy(images).to(device)).permute(0, 2, 3, 1).cpu().numpy())

        def features(frames: Frames) -> Features:
            return np.stack([joint_row(heat_maps(heat, frame, self.scales)) for frame in frames])

        return features


def heat_maps(heat: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]], frame: Frames, scales: Sequence[float]) -> Maps:
    """Mean heat maps [H, W, 18] of a frame [H, W, 3] and its mirror image.

    heat: images [S, 3, h, w] (BGR, -0.5 to 0.5) -> maps [S, h / 8, w / 8, 19 or more].
    """
    bgr = frame[..., ::-1]
    straight = _one_side(heat, np.ascontiguousarray(bgr), scales)
    mirrored = _one_side(heat, np.ascontiguousarray(bgr[:, ::-1]), scales)
    return (straight + mirrored[:, ::-1][..., MIRRORED]) / 2


def _one_side(heat: Callable[..., npt.NDArray[np.float32]], bgr: Frames, scales: Sequence[float]) -> Maps:
    """Mean over the scales, at the frame's size. Smaller scales share the largest one's canvas, as in the published batch."""
    inputs = [network_input(bgr, scale) for scale in scales]
    canvas = np.zeros((len(scales), 3, *inputs[-1][0].shape[1:]), np.float32)
    for place, (image, _) in zip(canvas, inputs, strict=True):
        place[:, : image.shape[1], : image.shape[2]] = image
    mean = np.zeros((*bgr.shape[:2], JOINTS))
    for maps, (image, inside) in zip(heat(canvas), inputs, strict=True):
        cells = maps[: image.shape[1] // STRIDE, : image.shape[2] // STRIDE, :JOINTS]
        mean += _at_frame(cells, inside, bgr.shape[:2]) / len(scales)
    return mean


def network_input(bgr: Frames, scale: float) -> tuple[npt.NDArray[np.float32], tuple[int, int]]:
    """The frame with shorter side `scale` * BASE, black to multiples of 8 at the right and bottom, as x / 256 - 0.5 [3, h, w].

    Also the height and width of the frame in it.
    """
    import cv2

    factor = scale * BASE / min(bgr.shape[:2])
    resized = cv2.resize(bgr, None, fx=factor, fy=factor)
    height, width = resized.shape[:2]
    padded = np.zeros((-(-height // STRIDE) * STRIDE, -(-width // STRIDE) * STRIDE, 3), np.float32)
    padded[:height, :width] = resized
    return (padded / np.float32(256) - np.float32(0.5)).transpose(2, 0, 1), (height, width)


def _at_frame(cells: npt.NDArray[np.float32], inside: tuple[int, int], size: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Maps of cells enlarged by 8, without the padding, at the frame's size: bicubic twice, as published."""
    import cv2

    enlarged = cv2.resize(np.ascontiguousarray(cells), None, fx=STRIDE, fy=STRIDE, interpolation=cv2.INTER_CUBIC)
    cut = np.ascontiguousarray(enlarged[: inside[0], : inside[1]])
    return np.asarray(cv2.resize(cut, (size[1], size[0]), interpolation=cv2.INTER_CUBIC), np.float32)


def joint_row(maps: Maps) -> Features:
    """Heat maps [H, W, 18] -> [18 * 3]: x, y, present of the last joint of each type."""
    rows = np.tile(np.array([-1, -1, 0], np.float32), (JOINTS, 1))
    for joint in range(JOINTS):
        y, x = peaks(maps[..., joint])
        if len(y):
            rows[joint] = (*_refined(maps[..., joint], int(y[-1]), int(x[-1])), 1)
    return rows.ravel()


def peaks(heat: Maps) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Rows and columns of the values of [H, W] over 0.1 that none of their four neighbours exceeds, row by row."""
    padded = np.pad(heat, 1, constant_values=-np.inf)
    around = np.maximum.reduce([padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]])
    y, x = np.nonzero((heat >= around) & (heat > PEAK))
    return y, x


def _refined(heat: Maps, y: int, x: int) -> tuple[int, int]:
    """x, y of the highest value within 2 px. The published code refines in an enlarged patch, but its factor is 1 here."""
    top, left = max(y - WINDOW, 0), max(x - WINDOW, 0)
    patch = heat[top : y + WINDOW + 1, left : x + WINDOW + 1]
    down, right = np.unravel_index(patch.argmax(), patch.shape)
    return left + int(right), top + int(down)


def build_network() -> Any:
    """The layers by the checkpoint's names: model0 (VGG-19), then model<stage>_1 (limb fields) and model<stage>_2 (heat maps)."""
    from torch import nn

    layers: list[nn.Module] = []
    channels = 3
    for width in _VGG:
        if isinstance(width, int):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
            channels = width
        else:
            layers.append(nn.MaxPool2d(2, 2))
    network = nn.ModuleDict({"model0": nn.Sequential(*layers)})
    for stage in range(1, 7):
        for branch, outputs in ((1, FIELDS), (2, JOINTS + 1)):
            network[f"model{stage}_{branch}"] = _stage(stage, channels, outputs)
    return network


def _stage(stage: int, features: int, outputs: int) -> Any:
    """Stage 1: three 3-wide layers, one of 512, the maps. Later ones see the maps before: five 7-wide layers, one, the maps."""
    from torch import nn

    if stage == 1:
        plan = [(features, 128, 3), (128, 128, 3), (128, 128, 3), (128, 512, 1), (512, outputs, 1)]
    else:
        plan = [(features + FIELDS + JOINTS + 1, 128, 7), *[(128, 128, 7)] * 4, (128, 128, 1), (128, outputs, 1)]
    layers: list[nn.Module] = []
    for before, after, width in plan:
        layers += [nn.Conv2d(before, after, width, padding=width // 2), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers[:-1])


def forward(network: Any, images: Any) -> Any:
    """Images [S, 3, h, w] -> heat maps [S, 19, h / 8, w / 8] of the last stage; the fields of limbs serve the stages between."""
    import torch

    features = seen = network["model0"](images)
    for stage in range(1, 7):
        fields, heat = network[f"model{stage}_1"](seen), network[f"model{stage}_2"](seen)
        seen = torch.cat([fields, heat, features], dim=1)
    return heat


def load_network(path: Path) -> Any:
    """The network of a checkpoint, strictly by name. Raises UserError for other files."""
    return fill(build_network(), load_state(path), path)


RTPOSE_VGG = RtposeVgg(name="rtpose_vgg", scales=(0.5, 1, 1.5, 2, 2.5))
# pose-evaluation pins a commit of May 2019 ("Change scale search to only 1.") that sees one size; numbers since then come from this one.
RTPOSE_VGG_SINGLE = RtposeVgg(name="rtpose_vgg_single", scales=(1,))
