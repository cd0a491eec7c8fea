"""I3D features for FVD: the TorchScript network of StyleGAN-V (Skorokhodov et al. 2022), 400 logits, its own batch-norm epsilon.

Frames are resized to 224x224 by clean-fid's resizer (antialiased; aspect is not kept, as in the literature) and scaled to
[-1, 1] here, so the file's own resizing, which aliases, is switched off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipelines.clip import Frames
from pipelines.extractors.inception import clean_resize
from pipelines.extractors.torchscript import load_torchscript
from pipelines.weights import digest_of, find_weights

ROLE = "i3d_torchscript"
SIZE = 224


@dataclass(frozen=True, kw_only=True, slots=True)
class I3D:
    """uint8 windows [N, S, H, W, 3] RGB, S >= 10 -> float32 [N, 400]. MissingWeightsError without the file of role `i3d_torchscript`."""

    path: Path | None = None  # None = where pipelines.weights finds it
    name: str = "i3d"
    version: int = 1

    def weights_digest(self) -> str:
        """sha256 of the TorchScript file."""
        return digest_of(find_weights(ROLE, self.path))

    def load(self, device: str) -> Callable[[Frames], npt.NDArray[np.float32]]:
        """Open the network; windows go through it one by one."""
        import torch

        network = load_torchscript(find_weights(ROLE, self.path), device)

        def features(windows: Frames) -> npt.NDArray[np.float32]:
            parts = []
            for window in windows:
                x = torch.from_numpy(clean_resize(window, SIZE)).permute(3, 0, 1, 2)[None].to(device)  # [1, 3, S, 224, 224]
                with torch.inference_mode():
                    parts.append(network(x / 127.5 - 1, rescale=False, resize=False, return_features=True).cpu().numpy())
            return np.asarray(np.concatenate(parts), dtype=np.float32)

        return features
