"""I3D features for FVD: the TorchScript network of StyleGAN-V (Skorokhodov et al. 2022), 400 logits, its own batch-norm epsilon.

Two networks from one file. `i3d`: frames are resized to 224x224 by clean-fid's resizer (antialiased; aspect is not kept).
`i3d_center_crop`: as MCVD and common_metrics do it, the shorter side to 224 bilinearly without antialiasing, then the
central square. Both scale to [-1, 1] here, so the file's own resizing, which aliases, is switched off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipelines.clip import Frames
from pipelines.extractors.inception import clean_resize
from pipelines.extractors.torchscript import load_torchscript
from pipelines.weights import digest_of, find_weights

if TYPE_CHECKING:
    from torch import Tensor

ROLE = "i3d_torchscript"
SIZE, TINY_SIZE = 224, 64  # px of the published network's input and of the demo's


def whole_frames(window: Frames, size: int = SIZE) -> Tensor:
    """uint8 [S, H, W, 3] -> [3, S, size, size] in -1..1; clean-fid's resizer."""
    import torch

    return torch.from_numpy(clean_resize(window, size)).permute(3, 0, 1, 2) / 127.5 - 1


def central_squares(window: Frames, size: int = SIZE) -> Tensor:
    """uint8 [S, H, W, 3] -> [3, S, size, size] in -1..1; bilinear without antialiasing, then a crop."""
    import torch
    from torch.nn.functional import interpolate

    x = torch.from_numpy(np.ascontiguousarray(window.transpose(3, 0, 1, 2))).float() / 255
    height, width = x.shape[2:]
    scale = size / min(height, width)
    # Rounded up as there, so a square whose side times `scale` comes out just over 224 becomes 225 high and loses a row.
    whole = (size, ceil(width * scale)) if height < width else (ceil(height * scale), size)
    x = interpolate(x, size=whole, mode="bilinear", align_corners=False, antialias=False)
    top, left = (whole[0] - size) // 2, (whole[1] - size) // 2
    return (x[:, :, top : top + size, left : left + size] - 0.5) * 2


@dataclass(frozen=True, kw_only=True, slots=True)
class I3D:
    """uint8 windows [N, S, H, W, 3] RGB, S >= 10 -> float32 [N, D], D = 400 as published. MissingWeightsError without the file of `role`."""

    path: Path | None = None  # None = where pipelines.weights finds it
    name: str = "i3d"
    role: str = ROLE
    size: int = SIZE  # px of the network's input
    version: int = 1
    prepare: Callable[[Frames, int], Tensor] = whole_frames  # a window and the size to the network's input

    def weights_digest(self) -> str:
        """sha256 of the TorchScript file."""
        return digest_of(find_weights(self.role, self.path))

    def load(self, device: str) -> Callable[[Frames], npt.NDArray[np.float32]]:
        """Open the network; windows go through it one by one."""
        import torch

        network = load_torchscript(find_weights(self.role, self.path), device).float()  # shipped weights are stored in half precision

        def features(windows: Frames) -> npt.NDArray[np.float32]:
            parts = []
            for window in windows:
                x = self.prepare(window, self.size)[None].to(device)
                with torch.inference_mode():
                    parts.append(network(x, rescale=False, resize=False, return_features=True).cpu().numpy())
            return np.asarray(np.concatenate(parts), dtype=np.float32)

        return features


I3D_CENTER_CROP = I3D(name="i3d_center_crop", prepare=central_squares)
I3D_TINY = I3D(name="i3d_tiny", role="i3d_tiny", size=TINY_SIZE)  # knows performers only
