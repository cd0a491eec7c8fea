"""Optical flow between pairs of frames for metrics: RAFT (Teed and Deng 2020) in torchvision's form, in float32.

Three networks. `raft_large`: torchvision's own weights, 12 updates. `raft_things`: the authors' weights, 20 updates.
`raft_evalcrafter`: the same weights as EvalCrafter's warping error uses them, on frames of half the size, and with its
fault: the network scales 0..255 to -1..1, but is given 0..1, so that its input is nearly constant and its flow means little.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipelines.clip import Frames
from pipelines.errors import UserError
from pipelines.extractors.flow import TINY_UPDATES, padding, raft_tiny
from pipelines.extractors.pretrained_folder import fill, load_state
from pipelines.extractors.raft_both_ways import Encoded, encoded, flow_between
from pipelines.extractors.raft_things import load_published
from pipelines.weights import digest_of, find_weights

if TYPE_CHECKING:
    from torch import Tensor

Array = npt.NDArray[np.float32]
_BATCH = 4  # frames that are encoded, or pairs that are compared, at a time
_LARGEST_TOO_SMALL = 120  # px; from 121 on, the padding to multiples of 8 reaches the 128 that RAFT needs


class PairFlow:
    """Flow between neighbours of a run of uint8 frames [N, H, W, 3], a few at a time."""

    def __init__(self, raft: Any, updates: int, sight: Sight, device: str) -> None:
        self._raft, self._updates, self._sight, self._device = raft, updates, sight, device

    def both_ways(self, frames: Frames) -> tuple[Array, Array]:
        """[N - 1, 2, h, w] float32 twice, px (x, y) of `images`: from each of N >= 2 frames to the next, and from the next back."""
        import torch

        forward, backward = list[Array](), list[Array]()
        with torch.inference_mode():
            known = self._encoded(frames)
            for start in range(0, len(frames) - 1, _BATCH):
                stop = min(start + _BATCH, len(frames) - 1)
                first, second = known.at(slice(start, stop)), known.at(slice(start + 1, stop + 1))
                forward.append(self._between(first, second, frames))
                backward.append(self._between(second, first, frames))
        return np.concatenate(forward), np.concatenate(backward)

    def _encoded(self, frames: Frames) -> Encoded:
        import torch

        parts = [
            encoded(self._raft, self._sight.prepared(_pixels(frames[start : start + _BATCH]).to(self._device)))
            for start in range(0, len(frames), _BATCH)
        ]
        return Encoded(
            features=torch.cat([part.features for part in parts]), context=torch.cat([part.context for part in parts]), size=parts[0].size
        )

    def _between(self, first: Encoded, second: Encoded, frames: Frames) -> Array:
        flow = self._sight.cut(flow_between(self._raft, first, second, self._updates), (frames.shape[1], frames.shape[2]))
        return np.asarray(flow.cpu().numpy(), dtype=np.float32)

    def images(self, frames: Frames) -> Array:
        """[N, H, W, 3] uint8 -> [N, 3, h, w] float32 in 0..1: what the flow moves."""
        return np.asarray(self._sight.images(_pixels(frames)).numpy())


@dataclass(frozen=True, kw_only=True, slots=True)
class Sight:
    """How a network sees frames; tensors of frames are [N, 3, H, W] in 0..255."""

    images: Callable[[Tensor], Tensor]  # to [N, 3, h, w] in 0..1
    prepared: Callable[[Tensor], Tensor]  # to what RAFT takes: sides multiples of 8 and at least 128
    cut: Callable[[Tensor, tuple[int, int]], Tensor]  # the flow of that, and the frames' height and width, to the flow of `images`


def _raft_large() -> Any:
    from torchvision.models.optical_flow import raft_large

    return raft_large(weights=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Raft:
    """One file of weights, and how it is used. MissingWeightsError without the file of `role`."""

    name: str
    role: str
    updates: int
    read: Callable[[Any, Path], Any]  # fills torchvision's network from a file
    sight: Sight
    build: Callable[[], Any] = _raft_large  # an untrained network
    path: Path | None = None  # None = where pipelines.weights finds it
    version: int = 1

    def weights_digest(self) -> str:
        """sha256 of the checkpoint."""
        return digest_of(find_weights(self.role, self.path))

    def load(self, device: str) -> PairFlow:
        """Open the network. Raises UserError where a tensor is missing, unknown or misshapen."""
        return PairFlow(self.read(self.build(), find_weights(self.role, self.path)).to(device), self.updates, self.sight, device)


def whole(frames: Tensor) -> Tensor:
    """Frames as they are, padded for the network."""
    return _padded(frames / 127.5 - 1, padding(frames.shape[2], frames.shape[3]))


def cut_whole(flow: Tensor, size: tuple[int, int]) -> Tensor:
    """The flow without that padding."""
    (left, _, top, _), (height, width) = padding(*size), size
    return flow[:, :, top : top + height, left : left + width]


def halved(frames: Tensor) -> Tensor:
    """Half the size (bilinear, no antialiasing), edges repeated to multiples of 8; EvalCrafter never cuts them off again.

    Raises UserError where RAFT's coarsest correlation would have one row or column, whose coordinates divide by zero.
    """
    from torch.nn.functional import interpolate

    half = interpolate(frames / 255, scale_factor=0.5, mode="bilinear", align_corners=False)
    height, width = half.shape[2:]
    if min(height, width) <= _LARGEST_TOO_SMALL:
        raise UserError(
            f"EvalCrafter's warping error halves frames, and RAFT needs more than {_LARGEST_TOO_SMALL} px then; "
            f"these frames are {frames.shape[3]}x{frames.shape[2]}: use frames of {2 * _LARGEST_TOO_SMALL + 2} px or more, "
            "or a protocol with the network raft_things"
        )
    return _padded(half, padding(height, width))


def as_evalcrafter(frames: Tensor) -> Tensor:
    """Halved frames; the flow is in their px."""
    # EvalCrafter's fault, kept: 0..1 is scaled as if it were 0..255.
    return 2 * (halved(frames) / 255) - 1


def _read_torchvision(network: Any, path: Path) -> Any:
    return fill(network, load_state(path), path)


def _pixels(frames: Frames) -> Tensor:
    """[N, H, W, 3] uint8 -> [N, 3, H, W] float32, 0..255."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2))).float()


def _padded(images: Tensor, sides: tuple[int, int, int, int]) -> Tensor:
    """Edges repeated; sides: left, right, top, bottom px."""
    from torch.nn.functional import pad

    return pad(images, sides, mode="replicate")


_WHOLE = Sight(images=lambda frames: frames / 255, prepared=whole, cut=cut_whole)
_EVALCRAFTER = Sight(images=halved, prepared=as_evalcrafter, cut=lambda flow, _: flow)
RAFT_LARGE = Raft(name="raft_large", role="flow", updates=12, read=_read_torchvision, sight=_WHOLE)
RAFT_THINGS = Raft(name="raft_things", role="flow_things", updates=20, read=load_published, sight=_WHOLE)
RAFT_EVALCRAFTER = Raft(name="raft_evalcrafter", role="flow_things", updates=20, read=load_published, sight=_EVALCRAFTER)
RAFT_TINY = Raft(  # knows performers only
    name="raft_tiny", role="flow_tiny", updates=TINY_UPDATES, read=_read_torchvision, sight=_WHOLE, build=raft_tiny
)
