"""Inception features for FID, exactly as clean-fid makes them (Parmar, Zhang and Zhu 2022, mode "clean").

NVIDIA's TorchScript export of the 2015 TensorFlow network, 2048 features after the last pooling. Every channel is resized
alone by clean-fid's own resizer (Pillow bicubic, antialiased, float) to 299x299, then (x - 128) / 128.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipelines.clip import Frames
from pipelines.extractors.torchscript import load_torchscript
from pipelines.weights import digest_of, find_weights

ROLE = "fid_inception_clean_fid"
SIZE, TINY_SIZE = 299, 128  # px of the published network's input and of the demo's
_BATCH = 16


def clean_resize(frames: Frames, size: int) -> npt.NDArray[np.float32]:
    """[N, H, W, 3] uint8 -> [N, size, size, 3] float32 in 0..255, by clean-fid's resizer."""
    from cleanfid.resize import make_resizer

    resize = make_resizer("PIL", False, "bicubic", (size, size))
    return np.asarray(np.stack([resize(frame) for frame in frames]), dtype=np.float32)


@dataclass(frozen=True, kw_only=True, slots=True)
class Inception:
    """uint8 [N, H, W, 3] RGB -> float32 [N, D], D = 2048 as published. MissingWeightsError without the file of `role`."""

    path: Path | None = None  # None = where pipelines.weights finds it
    name: str = "inception"
    role: str = ROLE
    size: int = SIZE  # px of the network's input
    version: int = 1

    def weights_digest(self) -> str:
        """sha256 of the TorchScript file."""
        return digest_of(find_weights(self.role, self.path))

    def load(self, device: str) -> Callable[[Frames], npt.NDArray[np.float32]]:
        """Open the network; the callable keeps no state."""
        import torch

        layers = load_torchscript(find_weights(self.role, self.path), device).float().layers  # shipped weights are stored in half precision

        def features(frames: Frames) -> npt.NDArray[np.float32]:
            parts = []
            for start in range(0, len(frames), _BATCH):
                x = torch.from_numpy(clean_resize(frames[start : start + _BATCH], self.size)).permute(0, 3, 1, 2).to(device)
                with torch.inference_mode():
                    parts.append(layers.forward((x - 128) / 128).flatten(1).cpu().numpy())
            return np.asarray(np.concatenate(parts), dtype=np.float32)

        return features


INCEPTION_TINY = Inception(name="inception_tiny", role="inception_tiny", size=TINY_SIZE)  # knows performers only
