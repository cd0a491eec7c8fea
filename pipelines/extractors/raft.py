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
from pipelines.extractors.raft_things import load_published
from pipelines.weights import digest_of, find_weights

if TYPE_CHECKING:
    from torch import Tensor

Array = npt.NDArray[np.float32]
Network = Callable[["Tensor", "Tensor"], "Tensor"]
"""Two images [N, 3, H, W] in -1..1, sides multiples of 8 and at least 128 -> flow [N, 2, H, W]."""

_BATCH = 4  # pairs
_LARGEST_TOO_SMALL = 120  # px; from 121 on, the padding to multiples of 8 reaches the 128 that RAFT needs


class PairFlow:
    """Flow of uint8 frame pairs [N, H, W, 3], a few at a time."""

    def __init__(self, network: Network, sight: Sight, device: str) -> None:
        self._network, self._sight, self._device = network, sight, device

    def __call__(self, first: Frames, second: Frames) -> Array:
        """[N, 2, h, w] float32, px (x, y) of `images`, from the first frames to the second."""
        import torch

        parts = []
        for start in range(0, len(first), _BATCH):
            with torch.inference_mode():
                pair = [_pixels(frames[start : start + _BATCH]).to(self._device) for frames in (first, second)]
                parts.append(self._sight.between(self._network, *pair).cpu().numpy())
        return np.asarray(np.concatenate(parts), dtype=np.float32)

    def images(self, frames: Frames) -> Array:
        """[N, H, W, 3] uint8 -> [N, 3, h, w] float32 in 0..1: what the flow moves."""
        return np.asarray(self._sight.images(_pixels(frames)).numpy())


@dataclass(frozen=True, kw_only=True, slots=True)
class Sight:
    """How a network sees frames; tensors of frames are [N, 3, H, W] in 0..255."""

    images: Callable[[Tensor], Tensor]  # to [N, 3, h, w] in 0..1
    between: Callable[[Network, Tensor, Tensor], Tensor]  # two of them to [N, 2, h, w]


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
        raft = self.read(self.build(), find_weights(self.role, self.path)).to(device)

        def network(first: Tensor, second: Tensor) -> Tensor:
            last: Tensor = raft(first, second, self.updates)[-1]
            return last

        return PairFlow(network, self.sight, device)


def whole(network: Network, first: Tensor, second: Tensor) -> Tensor:
    """Flow of frames as they are, padded for the network and cut again."""
    height, width = first.shape[2:]
    sides = padding(height, width)
    left, _, top, _ = sides
    flow = network(_padded(first / 127.5 - 1, sides), _padded(second / 127.5 - 1, sides))
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


def as_evalcrafter(network: Network, first: Tensor, second: Tensor) -> Tensor:
    """Flow of halved frames, in their px."""
    # EvalCrafter's fault, kept: 0..1 is scaled as if it were 0..255.
    return network(2 * (halved(first) / 255) - 1, 2 * (halved(second) / 255) - 1)


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


_WHOLE = Sight(images=lambda frames: frames / 255, between=whole)
_EVALCRAFTER = Sight(images=halved, between=as_evalcrafter)
RAFT_LARGE = Raft(name="raft_large", role="flow", updates=12, read=_read_torchvision, sight=_WHOLE)
RAFT_THINGS = Raft(name="raft_things", role="flow_things", updates=20, read=load_published, sight=_WHOLE)
RAFT_EVALCRAFTER = Raft(name="raft_evalcrafter", role="flow_things", updates=20, read=load_published, sight=_EVALCRAFTER)
RAFT_TINY = Raft(  # knows performers only
    name="raft_tiny", role="flow_tiny", updates=TINY_UPDATES, read=_read_torchvision, sight=_WHOLE, build=raft_tiny
)
