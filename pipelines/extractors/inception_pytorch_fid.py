"""Inception features for FID as pytorch-fid makes them, which is how most papers' FID was computed.

The 2015 TensorFlow network with the weights that pytorch-fid publishes. Its structure is torchvision's, but for two
things (the published weights want both): average pooling leaves the padding out of its mean, and the last block pools
by maximum. Frames in 0..1 are resized to 299x299 bilinearly without antialiasing, then 2x - 1; frames larger than that alias.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipelines.clip import Frames
from pipelines.extractors.pretrained_folder import fill, load_state
from pipelines.weights import digest_of, find_weights

if TYPE_CHECKING:
    from torch import Tensor

ROLE = "fid_inception_pytorch_fid"
SIZE = 299
_CLASSES = 1008  # of the classifier in the file, which no feature uses
_BATCH = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class InceptionPytorchFid:
    """uint8 [N, H, W, 3] RGB -> float32 [N, 2048]. MissingWeightsError without the file of role `fid_inception_pytorch_fid`."""

    path: Path | None = None  # None = where pipelines.weights finds it
    name: str = "inception_pytorch_fid"
    version: int = 1

    def weights_digest(self) -> str:
        """sha256 of the state dict."""
        return digest_of(find_weights(ROLE, self.path))

    def load(self, device: str) -> Callable[[Frames], npt.NDArray[np.float32]]:
        """Open the network. Raises UserError where a tensor is missing, unknown or misshapen."""
        import torch

        network = load_network(find_weights(ROLE, self.path)).to(device)

        def features(frames: Frames) -> npt.NDArray[np.float32]:
            parts = []
            for start in range(0, len(frames), _BATCH):
                with torch.inference_mode():
                    x = network_input(frames[start : start + _BATCH], device)
                    parts.append(forward(network, x).cpu().numpy())
            return np.asarray(np.concatenate(parts), dtype=np.float32)

        return features


def load_network(path: Path) -> Any:
    """torchvision's Inception with the tensors of a pytorch-fid state dict, in evaluation mode."""
    from torchvision.models.inception import Inception3

    return fill(Inception3(num_classes=_CLASSES, aux_logits=False, init_weights=False), load_state(path), path)


def network_input(frames: Frames, device: str) -> Tensor:
    """[N, H, W, 3] uint8 -> [N, 3, 299, 299] float32 in -1..1."""
    import torch

    x = (torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2))).float() / 255).to(device)
    return 2 * torch.nn.functional.interpolate(x, size=(SIZE, SIZE), mode="bilinear", align_corners=False, antialias=False) - 1


def forward(network: Any, x: Tensor) -> Tensor:
    """[N, 3, 299, 299] -> [N, 2048] after the last pooling; `network` gives the layers, their order and pooling are ours."""
    from torch.nn.functional import avg_pool2d, max_pool2d

    average = partial(avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False)
    x = network.maxpool1(network.Conv2d_2b_3x3(network.Conv2d_2a_3x3(network.Conv2d_1a_3x3(x))))
    x = network.maxpool2(network.Conv2d_4a_3x3(network.Conv2d_3b_1x1(x)))
    for block in (network.Mixed_5b, network.Mixed_5c, network.Mixed_5d):
        x = _join(block, x, average, ("branch5x5_1", "branch5x5_2"), _numbered("branch3x3dbl", 3))
    x = network.Mixed_6a(x)
    for block in (network.Mixed_6b, network.Mixed_6c, network.Mixed_6d, network.Mixed_6e):
        x = _join(block, x, average, _numbered("branch7x7", 3), _numbered("branch7x7dbl", 5))
    x = _join_split(network.Mixed_7b, network.Mixed_7a(x), average)
    # Inception pools by average here; the TensorFlow network of 2015 does not, and its weights are used.
    x = _join_split(network.Mixed_7c, x, partial(max_pool2d, kernel_size=3, stride=1, padding=1))
    pooled: Tensor = network.avgpool(x)
    return pooled.flatten(1)


def _numbered(name: str, count: int) -> tuple[str, ...]:
    return tuple(f"{name}_{index}" for index in range(1, count + 1))


def _join(block: Any, x: Tensor, pool: Callable[[Tensor], Tensor], *chains: tuple[str, ...]) -> Tensor:
    """Branches side by side: 1x1, each chain of convolutions, pooling."""
    import torch

    branches = [block.branch1x1(x)]
    for chain in chains:
        y = x
        for name in chain:
            y = getattr(block, name)(y)
        branches.append(y)
    return torch.cat([*branches, block.branch_pool(pool(x))], 1)


def _join_split(block: Any, x: Tensor, pool: Callable[[Tensor], Tensor]) -> Tensor:
    """The same for the last two blocks, whose 3x3 branches end in a 1x3 and a 3x1 convolution side by side."""
    import torch

    short = block.branch3x3_1(x)
    long = block.branch3x3dbl_2(block.branch3x3dbl_1(x))
    ends = [block.branch3x3_2a(short), block.branch3x3_2b(short), block.branch3x3dbl_3a(long), block.branch3x3dbl_3b(long)]
    return torch.cat([block.branch1x1(x), *ends, block.branch_pool(pool(x))], 1)
