"""Appearance of the whole frame for AED on bodies: the network of Person_reID_baseline_pytorch as pose-evaluation runs it.

ResNet-50 trained to tell the 751 people of Market-1501 apart, everything after its average pooling removed. Two faults of
the published code are kept, because the numbers of MRAA and its followers depend on them; both are marked below.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.clip import Frames
from pipelines.extractors.pretrained_folder import fill, load_state
from pipelines.weights import digest_of, find_weights

Features = npt.NDArray[np.float32]

ROLE = "person_reid"
HEIGHT, WIDTH = 288, 144
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet


@dataclass(frozen=True, kw_only=True, slots=True)
class PersonReid:
    """uint8 [N, H, W, 3] RGB -> float32 [N, 2048]. MissingWeightsError without the file of role `person_reid`."""

    path: Path | None = None  # None = where pipelines.weights finds it
    name: str = "reid_resnet50"
    version: int = 1

    def weights_digest(self) -> str:
        """sha256 of the checkpoint."""
        return digest_of(find_weights(ROLE, self.path))

    def load(self, device: str) -> Callable[[Frames], Features]:
        """Open the network; frames go through it one by one. Raises UserError where a tensor is missing, unknown or misshapen."""
        import torch

        network = with_frame_statistics(load_trunk(find_weights(ROLE, self.path))).to(device)

        def features(frames: Frames) -> Features:
            with torch.inference_mode():
                parts = [network(prepare(frame)[None].to(device)).cpu().numpy() for frame in frames]
            return np.asarray(np.concatenate(parts), dtype=np.float32)

        return features


def prepare(frame: Frames) -> Any:
    """[H, W, 3] uint8 -> float32 [3, 288, 144]: Pillow bicubic, aspect not kept, normalised."""
    import torch
    from PIL import Image

    resized = np.array(Image.fromarray(frame).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
    x = torch.from_numpy(resized).permute(2, 0, 1).float() / 255
    x = x / 255  # fault of the published code, kept: values are in 0..1 already, so the picture has a 255th of its contrast
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (_MEAN, _STD))
    return (x - mean) / std


def load_trunk(path: Path) -> Any:
    """ResNet-50 without its last layer, [N, 3, H, W] -> [N, 2048], from a checkpoint of ft_net: its `model.*`, strictly by name.

    The bottleneck (model.fc.*) and the classifier (classifier.*) stay unread.
    """
    from torch import nn
    from torchvision.models import resnet50

    state = {name: tensor for name, tensor in load_state(path).items() if not name.startswith(("model.fc.", "classifier."))}
    network = resnet50(weights=None)
    network.fc = nn.Identity()
    return fill(network, {name.removeprefix("model."): tensor for name, tensor in state.items()}, path)


def with_frame_statistics(network: Any) -> Any:
    """The network with batch norm by mean and variance of the frame itself, those of training forgotten.

    Fault of the published code, kept: it never leaves the training mode and feeds one frame at a time. It also undoes the
    second division by 255 above nearly everywhere but at the borders, where the zeros of the padding are not rescaled.
    """
    from torch import nn

    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = module.running_var = None
    return network
