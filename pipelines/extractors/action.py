"""Action tokens: C3D (Tran et al. 2015), conv5b after its ReLU, pooled to 256 tokens of 512 channels (HFCA 4.2).

Weights are OpenMMLab's (mmaction names, RGB, mean 104 117 128). 16 frames, resized to 128x171, middle 112x112.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.clip import Clip, Frames
from pipelines.extractors.pretrained_folder import fill, half_on_cuda, load_state
from pipelines.masks import pack_array
from pipelines.weights import digest_of, find_weights

Rows = dict[str, list[dict[str, Any]]]

WINDOW, STRIDE = 16, 8  # frames
TOKENS = (4, 8, 8)  # time, height, width
RESIZED, CROP = (171, 128), 112  # (width, height); side
MEAN = (104.0, 117.0, 128.0)  # of R, G, B in mmaction's configuration (order and values as published)
Layers = tuple[tuple[str, int, int], ...]
"""Name, channels in and channels out of each convolution of C3D."""

LAYERS: Layers = (("conv1a", 3, 64), ("conv2a", 64, 128), ("conv3a", 128, 256), ("conv3b", 256, 256),
                  ("conv4a", 256, 512), ("conv4b", 512, 512), ("conv5a", 512, 512), ("conv5b", 512, 512))  # fmt: skip
TINY_LAYERS: Layers = (("conv1a", 3, 8), ("conv2a", 8, 16), ("conv3a", 16, 24), ("conv3b", 24, 32),
                       ("conv4a", 32, 48), ("conv4b", 48, 64), ("conv5a", 64, 64), ("conv5b", 64, 64))  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Action:
    """Tokens [256, C] (C = 512 as published) of the 16 frames from 0, 8, 16 ... on; a clip shorter than 16 frames repeats its last one.

    The last window ends inside the clip, so up to 7 frames at its end are in no window. action_class is null: the class comes with a data set.
    """

    name: str = "action"
    role: str = "action"
    layers: Layers = LAYERS
    batch_frames: int = 64  # 16 per window; one window at least
    version = 1
    tables = ("actions",)

    def weights_digest(self) -> str:
        """sha256 of the checkpoint."""
        return digest_of(find_weights(self.role))

    def load(self, device: str) -> Callable[[Clip, Frames], Rows]:
        """From a clip and its frames to rows."""
        network = load_c3d(find_weights(self.role), self.layers).to(device)

        def extract(clip: Clip, frames: Frames) -> Rows:
            starts = window_starts(len(frames))
            step = max(self.batch_frames // WINDOW, 1)
            rows: list[dict[str, Any]] = []
            for k in range(0, len(starts), step):
                rows += _rows_of(network, frames, starts[k : k + step], device)
            return {"actions": rows}

        return extract


def window_starts(num_frames: int) -> list[int]:
    """First frames of the windows; [0] for a clip shorter than one."""
    return list(range(0, max(num_frames - WINDOW, 0) + 1, STRIDE))


def window(frames: Frames, start: int) -> Any:
    """float32 [3, 16, 112, 112], mean subtracted, of the frames [T, H, W, 3] from `start` on, the last one repeated."""
    import cv2

    picked = frames[np.minimum(np.arange(start, start + WINDOW), len(frames) - 1)]
    resized = np.stack([cv2.resize(frame, RESIZED, interpolation=cv2.INTER_LINEAR) for frame in picked])
    left, top = (RESIZED[0] - CROP) // 2, (RESIZED[1] - CROP) // 2
    part = resized[:, top : top + CROP, left : left + CROP].astype(np.float32) - np.array(MEAN, np.float32)
    return part.transpose(3, 0, 1, 2)


def load_c3d(path: Path, layers: Layers = LAYERS) -> Any:
    """conv1a to conv5b of a checkpoint of mmaction, strictly by name; its layers fc6, fc7 and its classifier stay unread."""
    state = {name.removeprefix("backbone."): value for name, value in load_state(path).items()}
    return fill(c3d(layers), {name: value for name, value in state.items() if name.split(".")[0] not in ("fc6", "fc7", "cls_head")}, path)


def c3d(layers: Layers = LAYERS) -> Any:
    """C3D up to conv5b's ReLU, [N, 3, 16, 112, 112] -> [N, C, 2, 7, 7], with mmaction's parameter names (conv1a.conv.weight)."""
    from torch import nn

    class C3D(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, before, after in layers:
                self.add_module(name, nn.Sequential())
                self.get_submodule(name).add_module("conv", nn.Conv3d(before, after, 3, padding=1))

        def forward(self, x: Any) -> Any:
            for name, _, _ in layers:
                x = self.get_submodule(name)(x).relu()
                if name in ("conv1a", "conv2a", "conv3b", "conv4b"):
                    size = (1, 2, 2) if name == "conv1a" else (2, 2, 2)
                    x = nn.functional.max_pool3d(x, size, size)
            return x

    return C3D()


def _rows_of(network: Any, frames: Frames, starts: list[int], device: str) -> Iterator[dict[str, Any]]:
    import torch

    batch = torch.from_numpy(np.stack([window(frames, start) for start in starts])).to(device)
    with torch.inference_mode(), half_on_cuda(device):
        pooled = torch.nn.functional.adaptive_avg_pool3d(network(batch).float(), TOKENS)
    tokens = pooled.flatten(2).transpose(1, 2).half().cpu().numpy()
    for start, one in zip(starts, tokens, strict=True):
        packed, shape, dtype = pack_array(one)
        yield {"frame": start, "tokens": packed, "shape": shape, "dtype": dtype, "action_class": None}
