"""The demo's whole-body keypoint network: opened by pipelines.extractors.dwpose as the published one is."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models.tiny.boxed_people import BoxedPeople, Variety, crops, keypoints_in, learnt_from, measured_on
from models.tiny.job import TinyJob
from models.tiny.onnx_export import export_onnx
from models.tiny.simcc_network import SimCCConfig, SimCCNetwork, keypoint_loss, normalised
from models.training_loop import LoopConfig, LossAt
from pipelines import accuracy
from pipelines.extractors.dwpose import in_batches
from pipelines.extractors.simcc import SimCC

CONFIG = SimCCConfig()
VARIETY = Variety()
BATCH = 16


def build(config: SimCCConfig = CONFIG) -> nn.Module:
    """Untrained."""
    return SimCCNetwork(config).to(memory_format=torch.channels_last)


def loss_of(network: nn.Module, data: BoxedPeople) -> LossAt:
    """Coordinates, heat and visibility of crops changed at random."""
    assert isinstance(network, SimCCNetwork)
    device = network.cells.device

    def loss_at(micro: int, generator: torch.Generator) -> Tensor:
        batch = crops(data, BATCH, network.config.size, VARIETY, generator, device)
        points, scores = (truth.to(device) for truth in keypoints_in(data, batch))
        images = normalised(batch.images).contiguous(memory_format=torch.channels_last)
        return keypoint_loss(network.find(images), points, scores)

    return loss_at


def export(network: nn.Module, folder: Path, config: SimCCConfig = CONFIG) -> None:
    """model.onnx, [N, 3, h, w] -> simcc_x [N, 133, 2 w], simcc_y [N, 133, 2 h]."""
    export_onnx(network, torch.zeros(1, 3, *config.size), folder / "model.onnx", ("simcc_x", "simcc_y"), name="input")


def measure(folder: Path, cache: Path) -> Mapping[str, float]:
    """As `scores_of` over people never seen."""
    return scores_of(SimCC(folder / "model.onnx"), measured_on(cache))


def scores_of(network: SimCC, data: BoxedPeople) -> dict[str, float]:
    """OKS of the body, PCK@0.1 by parts, errors of the points that are seen in % of the person's height in the frame, from true boxes.

    visibility_error: mean |score - true visibility|, 0..1.
    """
    frames, truth = data.people.frames, data.people.truth
    found, certain = in_batches(network, frames, range(len(frames)), data.boxes, 32)
    true, scores = truth["keypoints"], truth["scores"]
    seen, height, area = scores >= 1, data.boxes[:, 3] - data.boxes[:, 1], (truth["iuv"][..., 0] > 0).sum((1, 2))
    hands = [accuracy.pck(found[:, part], true[:, part], seen[:, part]) for part in (slice(91, 112), slice(112, 133))]
    parts = {"body": slice(0, 17), "feet": slice(17, 23), "face": accuracy.FACE, "hands": accuracy.HANDS}
    values = {
        "oks": accuracy.oks(found, true, seen, area),
        **{f"pck_{name}": accuracy.pck(found[:, parts[name]], true[:, parts[name]], seen[:, parts[name]]) for name in ("body", "face")},
        "pck_hands": np.concatenate(hands),
        "keypoint_error_percent": accuracy.keypoint_error(found, true, seen, height),
        **{f"{name}_error_percent": accuracy.keypoint_error(found[:, at], true[:, at], seen[:, at], height) for name, at in parts.items()},
        "hidden_error_percent": accuracy.keypoint_error(found, true, (scores > 0) & ~seen, height),
        "visibility_error": np.abs(certain - scores).mean(1),
    }
    return {name: float(np.nanmean(value)) for name, value in values.items()}


JOB = TinyJob(
    name="dwpose",
    title="Whole-body keypoints of the demo",
    purpose="133 keypoints of the person in a box, 128 x 96 px, as SimCC's maps, for Rotoscope's demo on performers.",
    loop=LoopConfig(steps=5200, learning_rate=2e-3, warmup_steps=20, decay="cosine", pictures=0),
    draw=learnt_from,
    build=build,
    loss_of=loss_of,
    export=partial(export),
    measure=measure,
)
