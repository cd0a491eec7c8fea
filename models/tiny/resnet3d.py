"""The tiny 3D-ResNet (Hara et al. 2018) with narrow layers, learnt by telling apart what performers do, wear and stand in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.tiny.damage import WINDOW_DAMAGES
from models.tiny.damaged_windows import OUTPUTS, learnt_from, measured_on, resized, window_batch, window_loss, window_scores
from models.tiny.degradation import rng_of
from models.tiny.footage import Scenes
from models.tiny.job import TinyJob
from models.tiny.labels import labels_of, write_classes
from models.training_loop import LoopConfig, LossAt
from pipelines.extractors.resnet3d import MEAN, RESNET3D_TINY, TINY_WIDTHS, Widths, build_network, forward

_BATCH = 8
_SPREAD = 60.0  # of the input's values: a mean is taken off and nothing divided, so the first layer starts smaller
_LATE = 0.3  # scale of each residual branch at the start


def build(widths: Widths = TINY_WIDTHS) -> nn.Module:
    """Untrained. The layout has batch norms: in evaluation mode throughout, a scale and a shift whose statistics stay 0 and 1."""
    network = build_network(widths)
    if widths.classes != OUTPUTS:
        raise ValueError(f"the classifier has {widths.classes} classes, {OUTPUTS} are learnt")
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear" if "downsample" in name else "relu")
        if name.endswith("bn3"):
            nn.init.constant_(module.get_parameter("weight"), _LATE)
    with torch.no_grad():
        network.get_parameter("conv1.weight").div_(_SPREAD)
        network.get_parameter("fc.weight").div_(4)
    return network


def loss_of(network: Any, scenes: Scenes) -> LossAt:
    """Windows of random clips: their classes and damages."""
    labels, device = labels_of(scenes), network.fc.weight.device
    mean = torch.tensor(MEAN, device=device).view(3, 1, 1, 1)

    def loss_at(step: int, generator: torch.Generator) -> Tensor:
        batch = window_batch(scenes, _BATCH, rng_of(generator))
        x = resized(batch.windows.to(device), RESNET3D_TINY.size) - mean
        return window_loss(network.fc(forward(network, x.contiguous(memory_format=torch.channels_last_3d))), batch, labels)

    return loss_at


def export(network: nn.Module, folder: Path) -> None:
    """model.safetensors (float16), names as in the published checkpoint, and what each class is."""
    state = {f"module.{name}": value for name, value in network.state_dict().items()}
    halved = {name: (value.half() if value.is_floating_point() else value).contiguous() for name, value in state.items()}
    save_file(halved, folder / "model.safetensors")
    write_classes(folder, WINDOW_DAMAGES)


def measure(folder: Path, cache: Path) -> Mapping[str, float]:
    """Through the adapter, on people never seen."""
    return scores(folder, measured_on(cache))


def scores(folder: Path, scenes: Scenes) -> dict[str, float]:
    """Accuracies of the classifier on the adapter's features, by kind, and the share of rightly ordered damages."""
    path = folder / "model.safetensors"
    weight, bias = (load_file(path)[f"module.fc.{name}"].float().numpy() for name in ("weight", "bias"))
    return window_scores(replace(RESNET3D_TINY, path=path).load("cpu"), partial(_logits, weight=weight, bias=bias), scenes)


def _logits(features: Any, *, weight: Any, bias: Any) -> Any:
    return np.asarray(features @ weight.T + bias, np.float32)


JOB = TinyJob(
    name="resnet3d",
    title="3D-ResNet of the demo",
    purpose="Features of what 16 frames show, in the layout of the 3D-ResNet-50 with narrow layers, for FID-VID under the protocol demo.",
    loop=LoopConfig(steps=1600, learning_rate=2e-3, warmup_steps=40, decay="cosine", pictures=0),
    draw=learnt_from,
    build=build,
    loss_of=loss_of,
    export=export,
    measure=measure,
)
