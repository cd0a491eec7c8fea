"""Stand-in feature networks of the demo: small convolutions with seeded random orthogonal weights, shipped in pipelines/tiny.

They take the places of Inception and I3D so that FID and FVD run as real arithmetic without a download. Random features
rank coarse damage (blur, noise, frozen motion) but know nothing of people: their numbers compare with nothing outside.
Only protocols that say so in their name use them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipelines.clip import Frames
from pipelines.extractors.inception import clean_resize
from pipelines.weights import digest_of

if TYPE_CHECKING:
    from torch import nn

Resized = npt.NDArray[np.float32]
"""[S, size, size, 3] in 0..255."""

TINY = Path(__file__).parents[1] / "tiny"
OUTPUT_SCALE = 16.0  # brings distances to a readable size; the same for everything measured


@dataclass(frozen=True, kw_only=True, slots=True)
class Standin:
    """Convolution, ReLU, ..., mean over positions. uint8 frames [N, H, W, 3] or windows [N, S, H, W, 3] -> float32 [N, D]."""

    name: str
    dimensions: int  # 2: frames, 3: windows
    channels: tuple[int, ...]  # of the input and of each convolution; the last is D
    strides: tuple[int | tuple[int, ...], ...]
    size: int  # frames are resized to size x size by clean-fid's resizer
    seed: int  # of the shipped weights
    version: int = 1

    @property
    def path(self) -> Path:
        """The shipped weights."""
        return TINY / self.name / "weights.safetensors"

    def weights_digest(self) -> str:
        """sha256 of the shipped file."""
        return digest_of(self.path)

    def build(self) -> nn.Sequential:
        """The network with weights drawn from `seed`."""
        return convolutions(self.dimensions, self.channels, self.strides, self.seed)

    def load(self, device: str) -> Callable[[Frames], npt.NDArray[np.float32]]:
        """Open the shipped weights strictly."""
        features = self.load_resized(device)
        return lambda batch: features(clean_resize(item.reshape(-1, *item.shape[-3:]), self.size) for item in batch)

    def load_resized(self, device: str) -> Callable[[Iterable[Resized]], npt.NDArray[np.float32]]:
        """The same for frames [1, size, size, 3] or windows [S, size, size, 3] that clean-fid's resizer has made, so that networks can share them."""
        import torch

        network = load_strictly(self.build(), self.path).to(device)

        def features(items: Iterable[Resized]) -> npt.NDArray[np.float32]:
            # One item at a time: a feature does not depend on what else is in the batch, to the last bit.
            with torch.inference_mode(), one_thread():
                pooled = [network(self._input(item).to(device)).flatten(2).mean(2).cpu().numpy() * OUTPUT_SCALE for item in items]
            return np.asarray(np.concatenate(pooled), dtype=np.float32)

        return features

    def _input(self, item: Resized) -> Any:
        """[1, 3, size, size] of a frame, [1, 3, S, size, size] of a window; values in [-1, 1)."""
        import torch

        x = (torch.from_numpy(item) - 128) / 128
        return x.permute(3, 0, 1, 2)[None] if self.dimensions == 3 else x.permute(0, 3, 1, 2)


@contextmanager
def one_thread() -> Iterator[None]:
    """Run on one CPU thread: ten times faster for networks this small, and the same bits on any number of cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def convolutions(dimensions: int, channels: tuple[int, ...], strides: tuple[int | tuple[int, ...], ...], seed: int) -> nn.Sequential:
    """3-wide convolutions without bias, each followed by ReLU, with orthogonal weights of gain sqrt(2) (Saxe et al. 2014)."""
    import torch
    from torch import nn

    generator = torch.Generator().manual_seed(seed)
    convolution = nn.Conv3d if dimensions == 3 else nn.Conv2d
    layers: list[nn.Module] = []
    for inputs, outputs, stride in zip(channels[:-1], channels[1:], strides, strict=True):
        layer = convolution(inputs, outputs, 3, stride=stride, padding=1, bias=False)  # type: ignore[arg-type]  # tuple length follows `dimensions`
        nn.init.orthogonal_(layer.weight, gain=2**0.5, generator=generator)
        layers += [layer, nn.ReLU(inplace=True)]
    return nn.Sequential(*layers).eval().requires_grad_(False)


def load_strictly(network: nn.Sequential, path: Path) -> nn.Sequential:
    """Load a safetensors file; every tensor must be there, none more."""
    from safetensors.torch import load_file

    network.load_state_dict(load_file(path), strict=True)
    return network


STANDIN_FRAMES = Standin(name="standin_frames", dimensions=2, channels=(3, 16, 32, 64), strides=(2, 2, 2), size=64, seed=20)
STANDIN_WINDOWS = Standin(name="standin_windows", dimensions=3, channels=(3, 8, 16, 32), strides=((1, 2, 2), 2, 2), size=64, seed=30)
