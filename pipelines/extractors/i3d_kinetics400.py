"""I3D features for FVD from the Kinetics-400 weights that VideoGPT and TATS converted: 400 logits of a window of frames.

Two networks from one file. DisCo's code, which most papers on human animation use, adds 1e-3 to the variance in batch
norm; the code that the file comes from adds 1e-5. The features differ, and so does the FVD.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipelines.clip import Frames
from pipelines.extractors.bicubic import bicubic_windows
from pipelines.extractors.i3d_network import forward, load_network
from pipelines.weights import digest_of, find_weights

ROLE = "i3d_kinetics400"
SIZE = 224


@dataclass(frozen=True, kw_only=True, slots=True)
class I3DKinetics400:
    """uint8 windows [N, S, H, W, 3] RGB -> float32 [N, 400]. MissingWeightsError without the file of role `i3d_kinetics400`."""

    name: str
    batch_norm_eps: float
    path: Path | None = None  # None = where pipelines.weights finds it
    version: int = 1

    def weights_digest(self) -> str:
        """sha256 of the state dict."""
        return digest_of(find_weights(ROLE, self.path))

    def load(self, device: str) -> Callable[[Frames], npt.NDArray[np.float32]]:
        """Open the network; windows go through it one by one. Raises UserError where a tensor is missing, unknown or misshapen."""
        import torch

        network = load_network(find_weights(ROLE, self.path), self.batch_norm_eps).to(device)

        def features(windows: Frames) -> npt.NDArray[np.float32]:
            parts = []
            for window in bicubic_windows(windows, SIZE):
                x = torch.from_numpy(window).permute(3, 0, 1, 2)[None].contiguous().to(device)  # [1, 3, S, 224, 224]
                with torch.inference_mode():
                    parts.append(forward(network, x / 127.5 - 1).cpu().numpy())
            return np.asarray(np.concatenate(parts), dtype=np.float32)

        return features


I3D_400 = I3DKinetics400(name="i3d_400", batch_norm_eps=1e-3)
I3D_400_EPS5 = I3DKinetics400(name="i3d_400_eps5", batch_norm_eps=1e-5)
