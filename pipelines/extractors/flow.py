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

TINY_UPDATES = 6  # of the tiny network, in training too
_MULTIPLE, _SMALLEST = 8, 128  # px; below 128 the network's coarsest correlation vanishes


def _raft_large() -> Any:
    from torchvision.models.optical_flow import raft_large

    return raft_large(weights=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Flow:
    """float16 [2, H, W], px (x, y) from each frame to the next one; null at the last."""

    name: str = "flow"
    role: str = "flow"
    build: Callable[[], Any] = _raft_large  # an untrained network
    updates: int = 12
    batch_frames: int = 4
    version = 1
    tables = ("flow",)

    def weights_digest(self) -> str:
        """sha256 of the checkpoint."""
        return digest_of(find_weights(self.role))

    def load(self, device: str) -> Callable[[Clip, Frames], Rows]:
        """From a clip and its frames to rows."""
        path = find_weights(self.role)
        network = fill(self.build(), load_state(path), path).to(device)

        def extract(clip: Clip, frames: Frames) -> Rows:
            rows: list[dict[str, Any]] = []
            for start in range(0, len(frames) - 1, self.batch_frames):
                rows += _rows_of(network, frames[start : start + self.batch_frames + 1], device, self.updates)
            return {"flow": [*rows, {"flow": None, "shape": None, "dtype": None}]}

        return extract


def padding(height: int, width: int) -> tuple[int, int, int, int]:
    """left, right, top, bottom px to multiples of 8 and at least 128, on both sides as evenly as can be."""
    missing = [max(-(-side // _MULTIPLE) * _MULTIPLE, _SMALLEST) - side for side in (width, height)]
    return missing[0] // 2, missing[0] - missing[0] // 2, missing[1] // 2, missing[1] - missing[1] // 2


def _rows_of(network: Any, frames: Frames, device: str, updates: int) -> Iterator[dict[str, Any]]:
    """Rows of all frames but the last."""
    for flow in flows(network, frames[:-1], frames[1:], device, updates):
        packed, shape, dtype = pack_array(flow)
        yield {"flow": packed, "shape": shape, "dtype": dtype}


def flows(network: Any, first: Frames, second: Frames, device: str, updates: int) -> Any:
    """float16 [N, 2, H, W], px (x, y) from frames [N, H, W, 3] to as many others."""
    import torch

    _, height, width, _ = first.shape
    left, right, top, bottom = padding(height, width)

    def prepared(frames: Frames) -> Any:
        x = torch.from_numpy(frames).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
        return torch.nn.functional.pad(x, (left, right, top, bottom), mode="replicate")

    with torch.inference_mode(), half_on_cuda(device):
        flow = network(prepared(first), prepared(second), updates)[-1]
    return flow[:, :, top : top + height, left : left + width].half().cpu().numpy()


def raft_tiny() -> Any:
    """RAFT from torchvision's own parts with few channels: for drawn people at the demo's size."""
    from torch import nn
    from torchvision.models.optical_flow import raft

    hidden, levels, radius = 32, 4, 3
    matches = levels * (2 * radius + 1) ** 2
    block = raft.ResidualBlock
    encoder = raft.FeatureEncoder(block=block, layers=(16, 16, 24, 32, 48), norm_layer=nn.InstanceNorm2d)
    context = raft.FeatureEncoder(block=block, layers=(16, 16, 24, 32, 2 * hidden), norm_layer=nn.InstanceNorm2d)
    motion = raft.MotionEncoder(in_channels_corr=matches, corr_layers=(48,), flow_layers=(32, 16), out_channels=40)
    recurrent = raft.RecurrentBlock(input_size=40 + hidden, hidden_size=hidden, kernel_size=((3, 3),), padding=((1, 1),))
    return raft.RAFT(
        feature_encoder=encoder,
        context_encoder=context,
        corr_block=raft.CorrBlock(num_levels=levels, radius=radius),
        update_block=raft.UpdateBlock(
            motion_encoder=motion, recurrent_block=recurrent, flow_head=raft.FlowHead(in_channels=hidden, hidden_size=64)
        ),
        mask_predictor=raft.MaskPredictor(in_channels=hidden, hidden_size=64),
    )
