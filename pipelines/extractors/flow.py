"""Optical flow to the next frame: RAFT (Teed and Deng 2020), torchvision's raft_large, 12 updates, input in -1..1."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pipelines.clip import Clip, Frames
from pipelines.extractors.pretrained_folder import fill, half_on_cuda, load_state
from pipelines.masks import pack_array
from pipelines.weights import digest_of, find_weights

Rows = dict[str, list[dict[str, Any]]]

_MULTIPLE, _SMALLEST = 8, 128  # px; below 128 the network's coarsest correlation vanishes


@dataclass(frozen=True, kw_only=True, slots=True)
class Flow:
    """float16 [2, H, W], px (x, y) from each frame to the next one; null at the last."""

    name: str = "flow"
    role: str = "flow"
    batch_frames: int = 4
    version = 1
    tables = ("flow",)

    def weights_digest(self) -> str:
        """sha256 of the checkpoint."""
        return digest_of(find_weights(self.role))

    def load(self, device: str) -> Callable[[Clip, Frames], Rows]:
        """From a clip and its frames to rows."""
        from torchvision.models.optical_flow import raft_large

        path = find_weights(self.role)
        network = fill(raft_large(weights=None), load_state(path), path).to(device)

        def extract(clip: Clip, frames: Frames) -> Rows:
            rows: list[dict[str, Any]] = []
            for start in range(0, len(frames) - 1, self.batch_frames):
                rows += _rows_of(network, frames[start : start + self.batch_frames + 1], device)
            return {"flow": [*rows, {"flow": None, "shape": None, "dtype": None}]}

        return extract


def padding(height: int, width: int) -> tuple[int, int, int, int]:
    """left, right, top, bottom px to multiples of 8 and at least 128, on both sides as evenly as can be."""
    missing = [max(-(-side // _MULTIPLE) * _MULTIPLE, _SMALLEST) - side for side in (width, height)]
    return missing[0] // 2, missing[0] - missing[0] // 2, missing[1] // 2, missing[1] - missing[1] // 2


def _rows_of(network: Any, frames: Frames, device: str) -> Iterator[dict[str, Any]]:
    """Rows of all frames but the last."""
    import torch

    _, height, width, _ = frames.shape
    left, right, top, bottom = padding(height, width)
    x = torch.from_numpy(frames).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
    x = torch.nn.functional.pad(x, (left, right, top, bottom), mode="replicate")
    with torch.inference_mode(), half_on_cuda(device):
        flows = network(x[:-1], x[1:])[-1][:, :, top : top + height, left : left + width].half().cpu().numpy()
    for flow in flows:
        packed, shape, dtype = pack_array(flow)
        yield {"flow": packed, "shape": shape, "dtype": dtype}
