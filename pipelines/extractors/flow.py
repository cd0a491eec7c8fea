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

TINY_UPDATES = 4  # of the tiny network, in training too
_LEAK = 0.1  # of the tiny network's update block
_DOUBLED_UP_TO = 256  # px, side of a square of the area up to which the tiny network doubles a picture
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
    """RAFT from torchvision's own parts with few channels, without the learnt upsampling: for drawn people at the demo's size."""
    from torch import nn
    from torchvision.models.optical_flow import raft

    hidden, levels, radius, motion = 32, 3, 3, 32
    matches = levels * (2 * radius + 1) ** 2
    channels, strides = (12, 16, 28, 28), (2, 2, 2, 1)  # most blocks work on the smallest map
    features = raft.FeatureEncoder(layers=(*channels, 64), strides=strides, norm_layer=nn.InstanceNorm2d)
    context = raft.FeatureEncoder(layers=(8, 16, 24, 24, 2 * hidden), strides=strides, norm_layer=nn.InstanceNorm2d)
    update = raft.UpdateBlock(
        motion_encoder=raft.MotionEncoder(in_channels_corr=matches, corr_layers=(48,), flow_layers=(32, 16), out_channels=motion),
        recurrent_block=raft.RecurrentBlock(input_size=motion + hidden, hidden_size=hidden, kernel_size=((3, 3),), padding=((1, 1),)),
        flow_head=raft.FlowHead(in_channels=hidden, hidden_size=48),
    )
    # Theirs are ReLUs. Where most of a picture stands still, learning first silences the head, and a silent ReLU stays so.
    for part in list(update.modules()):
        for name, _ in [child for child in part.named_children() if isinstance(child[1], nn.ReLU)]:
            setattr(part, name, nn.LeakyReLU(_LEAK))
    corr = raft.CorrBlock(num_levels=levels, radius=radius)
    return _seen_larger()(feature_encoder=features, context_encoder=context, corr_block=corr, update_block=update)


def _seen_larger() -> Any:
    """torchvision's RAFT class that looks at small pictures at twice their size: limbs there are narrower than its cells of 8 px."""
    from torch.nn.functional import avg_pool2d, interpolate
    from torchvision.models.optical_flow.raft import RAFT

    class Larger(RAFT):  # type: ignore[misc]  # torchvision has no types
        def seen(self, images: Any) -> Any:
            """Images [N, 3, H, W] at the size at which they are looked at."""
            small = images.shape[-1] * images.shape[-2] <= _DOUBLED_UP_TO**2
            return interpolate(images, scale_factor=2, mode="bilinear") if small else images

        def felt(self, flow: Any, size: tuple[int, int]) -> Any:
            """The flow of pictures of this size (height, width), in their px, from that of the pictures as they were seen."""
            return flow if flow.shape[-2:] == size else avg_pool2d(flow, 2) / 2

        def forward(self, image1: Any, image2: Any, num_flow_updates: int = TINY_UPDATES) -> list[Any]:
            """[N, 3, H, W] twice, in -1..1 -> the flow [N, 2, H, W] in px after each update."""
            size = tuple(image1.shape[-2:])
            return [self.felt(flow, size) for flow in super().forward(self.seen(image1), self.seen(image2), num_flow_updates)]

    return Larger
