"""The tiny I3D (in the place of Carreira and Zisserman 2017): logits of what 16 frames show, as a TorchScript file called like the published one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from models.tiny.damage import WINDOW_DAMAGES
from models.tiny.damaged_windows import OUTPUTS, learnt_from, measured_on, resized, window_batch, window_loss, window_scores
from models.tiny.degradation import rng_of
from models.tiny.footage import Scenes
from models.tiny.headed_pool import HeadedPool
from models.tiny.job import TinyJob
from models.tiny.labels import labels_of, write_classes
from models.tiny.torchscript_export import save_script
from models.training_loop import LoopConfig, LossAt
from pipelines.extractors.i3d import I3D_TINY

_BATCH = 8
_GROUPS = 8  # of channels, of the normalisation
_CHANNELS = (3, 16, 32, 48, 64, 80)
_STRIDES = ((1, 2, 2), (2, 2, 2), (1, 1, 1), (2, 2, 2), (1, 1, 1))
_SMALLEST_CORNER = 0.02  # weight of the last layer at the start


class I3DNetwork(nn.Module):
    """[N, 3, S, size, size] in -1..1 -> [N, OUTPUTS]; the arguments are the published file's, and what they ask for must not happen here."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number, (before, after, stride) in enumerate(zip(_CHANNELS[:-1], _CHANNELS[1:], _STRIDES, strict=True)):
            convolution = nn.Conv3d(before, after, 3, stride, 1)
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            # none after the first: how bright and coloured a picture is shall reach the features
            layers += [convolution, *([nn.GroupNorm(_GROUPS, after)] if number else []), nn.ReLU()]
        self.layers = nn.Sequential(*layers, HeadedPool(_CHANNELS[-1]))
        self.output = nn.Linear(_CHANNELS[-1], OUTPUTS)
        nn.init.normal_(self.output.weight, std=_SMALLEST_CORNER)

    def forward(self, x: Tensor, rescale: bool = False, resize: bool = False, return_features: bool = True) -> Tensor:
        if rescale or resize or not return_features:
            raise ValueError("the tiny I3D takes windows in -1..1 at their own size and gives logits")
        logits: Tensor = self.output(self.layers(x))
        return logits


def loss_of(network: nn.Module, scenes: Scenes) -> LossAt:
    """Windows of random clips: their classes and damages."""
    labels, device = labels_of(scenes), next(network.parameters()).device

    def loss_at(step: int, generator: torch.Generator) -> Tensor:
        batch = window_batch(scenes, _BATCH, rng_of(generator))
        x = resized(batch.windows.to(device), I3D_TINY.size) / 127.5 - 1
        return window_loss(network(x.contiguous(memory_format=torch.channels_last_3d)), batch, labels)

    return loss_at


def export(network: nn.Module, folder: Path) -> None:
    """model.torchscript, weights in half precision (the adapter widens them), and what each logit stands for."""
    save_script(network, folder / "model.torchscript")
    write_classes(folder, WINDOW_DAMAGES)


def measure(folder: Path, cache: Path) -> Mapping[str, float]:
    """Through the adapter, on people never seen."""
    return scores(folder, measured_on(cache))


def scores(folder: Path, scenes: Scenes) -> dict[str, float]:
    """Accuracies by kind, and the share of rightly ordered damages."""
    return window_scores(replace(I3D_TINY, path=folder / "model.torchscript").load("cpu"), lambda logits: logits, scenes)


JOB = TinyJob(
    name="i3d",
    title="I3D of the demo",
    purpose="Logits of what 16 frames show (style, clothing, place, damage), called as the TorchScript I3D is, for FVD under the protocol demo.",
    loop=LoopConfig(steps=2600, learning_rate=2e-3, warmup_steps=40, decay="cosine", pictures=0),
    draw=learnt_from,
    build=I3DNetwork,
    loss_of=loss_of,
    export=export,
    measure=measure,
)
