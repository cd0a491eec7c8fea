"""RAFT over a run of frames, there and back: torchvision's networks, with each frame encoded once and only the last update brought to full size.

torchvision's `RAFT.forward` encodes both frames of a pair, so that for flows there and back an inner frame of a clip passes the feature encoder
four times and the context encoder twice; and it upsamples the flow after every update, which only training looks at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoded:
    """What RAFT knows of frames before it compares them: features [N, C, h / 8, w / 8] and context [N, D, h / 8, w / 8]."""

    features: Tensor
    context: Tensor
    size: tuple[int, int]  # height, width of the frames as they came

    def at(self, frames: slice) -> Encoded:
        """Those of some frames."""
        return Encoded(features=self.features[frames], context=self.context[frames], size=self.size)


def encoded(raft: Any, images: Tensor) -> Encoded:
    """Of images [N, 3, H, W] in -1..1, sides multiples of 8 and at least 128; a network that sees pictures at another size says so by `seen`."""
    seen = raft.seen(images) if hasattr(raft, "seen") else images
    return Encoded(features=raft.feature_encoder(seen), context=raft.context_encoder(seen), size=(images.shape[-2], images.shape[-1]))


def flow_between(raft: Any, first: Encoded, second: Encoded, updates: int) -> Tensor:
    """[N, 2, H, W] px (x, y) from the first frames to the second, after so many updates (Teed and Deng 2020, Sec. 3)."""
    import torch
    from torchvision.models.optical_flow.raft import make_coords_grid, upsample_flow

    raft.corr_block.build_pyramid(first.features, second.features)
    kept = raft.update_block.hidden_state_size
    hidden, context = torch.tanh(first.context[:, :kept]), torch.relu(first.context[:, kept:])
    start = make_coords_grid(len(hidden), *hidden.shape[-2:]).to(hidden.device)
    there = start
    for _ in range(updates):
        matches = raft.corr_block.index_pyramid(centroids_coords=there)
        hidden, step = raft.update_block(hidden, context, matches, there - start)
        there = there + step
    flow: Tensor = upsample_flow(flow=there - start, up_mask=None if raft.mask_predictor is None else raft.mask_predictor(hidden))
    return raft.felt(flow, first.size) if hasattr(raft, "felt") else flow
