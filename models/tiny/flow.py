"""The tiny optical flow network: torchvision's RAFT (Teed and Deng 2020) with few channels, learnt from the performers' exact flow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.tiny.degradation import rng_of
from models.tiny.footage import Scenes, Shooting, shoot, styles
from models.tiny.job import TinyJob
from models.tiny.people import TRAINING_IDENTITIES, UNSEEN_IDENTITIES
from models.training_loop import LoopConfig, LossAt
from pipelines.extractors.flow import TINY_UPDATES, flows, raft_tiny
from pipelines.extractors.pretrained_folder import fill, load_state

_BATCH = 4
_CAMERA_MOVES = ((150, 1.0), (300, 0.5))  # share of the pairs before a step: where nothing stands still, no motion is no good guess
_CAMERA_MOVES_AFTER = 0.1  # the performers' own camera stands still
_GAMMA = 0.8  # weight of each update's error relative to the next one's (Eq. 7)


def sequence_loss(predictions: list[Tensor], flow: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean absolute error of every update [N, 2, S, S] against the truth, later ones counting more (Eq. 7). weight [N, 1, S, S]."""
    errors = [((p - flow).abs().sum(dim=1, keepdim=True) * weight).sum() / weight.sum().clamp(min=1) for p in predictions]
    return torch.stack([_GAMMA ** (len(errors) - 1 - i) * error for i, error in enumerate(errors)]).sum()


def _pair(scenes: Scenes, clip: int, t: int, rng: np.random.Generator, camera_moves: float) -> tuple[Any, Any, Any, Any]:
    """Two frames in 0..255, flow [S, S, 2] and weight [S, S]: mirrored, moved against each other in this share of cases."""
    first, second = scenes.frames[clip, t].astype(np.float32), scenes.frames[clip, t + 1].astype(np.float32)
    flow, valid, mask = scenes.flow[clip, t].astype(np.float32), scenes.flow_valid[clip, t], scenes.mask[clip, t]
    weight = valid * (1 + 2 * mask).astype(np.float32)  # the body is a seventh of the picture
    if rng.random() < 0.5:
        first, second, flow, weight = (values[:, ::-1] for values in (first, second, flow, weight))
        flow = flow * np.array([-1, 1], np.float32)
    if rng.random() < camera_moves:  # as if the camera had moved by whole pixels
        dx, dy = rng.integers(-4, 5, 2)
        second, flow = np.roll(second, (dy, dx), (0, 1)), flow + np.array([dx, dy], np.float32)
        y, x = np.mgrid[: len(flow), : len(flow)]
        end_x, end_y = x + flow[..., 0], y + flow[..., 1]
        weight = weight * ((end_x >= 0) & (end_x < len(flow)) & (end_y >= 0) & (end_y < len(flow)))
    gain = (rng.uniform(0.8, 1.2) * rng.uniform(0.93, 1.07, 3)).astype(np.float32)
    noise = np.float32(rng.uniform(0, 6) if rng.random() < 0.4 else 0)
    first, second = (np.clip(f * gain + noise * rng.standard_normal(f.shape, np.float32), 0, 255) for f in (first, second))
    return first, second, flow, weight


def loss_of(network: Any, scenes: Scenes) -> LossAt:
    """Neighbouring frames and the truth between them, where it is valid."""
    device = next(network.parameters()).device

    def loss_at(step: int, generator: torch.Generator) -> Tensor:
        rng = rng_of(generator)
        clips, moments = rng.integers(len(scenes.flow), size=_BATCH), rng.integers(scenes.flow.shape[1], size=_BATCH)
        moves = next((share for before, share in _CAMERA_MOVES if 0 <= step < before), _CAMERA_MOVES_AFTER)
        drawn = zip(*(_pair(scenes, int(c), int(t), rng, moves) for c, t in zip(clips, moments, strict=True)), strict=True)
        first, second, flow, weight = (torch.from_numpy(np.ascontiguousarray(np.stack(values))).to(device) for values in drawn)
        pair = [frames.permute(0, 3, 1, 2) / 127.5 - 1 for frames in (first, second)]
        return sequence_loss(network(*pair, TINY_UPDATES), flow.permute(0, 3, 1, 2), weight[:, None])

    return loss_at


def build() -> nn.Module:
    """An untrained RAFT that starts near no motion, and whose correlations start with little of what all positions share."""
    network = raft_tiny()
    last: Any = network.feature_encoder.conv
    with torch.no_grad():
        network.update_block.flow_head.conv2.weight.mul_(0.1)
        last.weight.sub_(last.weight.mean(dim=1, keepdim=True))  # what comes in is after a ReLU, so its mean is far from zero
    nn.init.zeros_(network.update_block.flow_head.conv2.bias)
    nn.init.zeros_(last.bias)
    return network


def export(network: nn.Module, folder: Path) -> None:
    """model.safetensors (float16) with torchvision's names."""
    save_file({name: value.half().contiguous() for name, value in network.state_dict().items()}, folder / "model.safetensors")


def scores(folder: Path, scenes: Scenes) -> dict[str, float]:
    """Mean end-point error in px where the truth is valid, on the body and in the background, and that of no motion at all."""
    network, total = fill(raft_tiny(), load_state(folder / "model.safetensors"), folder), np.zeros((2, 3))
    for frames, truth, valid, mask in zip(scenes.frames, scenes.flow, scenes.flow_valid, scenes.mask, strict=True):
        found = flows(network, np.array(frames[:-1]), np.array(frames[1:]), "cpu", TINY_UPDATES).astype(np.float32).transpose(0, 2, 3, 1)
        error, still = (np.linalg.norm(guess - truth.astype(np.float32), axis=-1) for guess in (found, np.float32(0)))
        for i, here in enumerate((valid & mask, valid & ~mask)):
            total[i] += error[here].sum(), still[here].sum(), here.sum()
    (body, still, _), (background, _, _) = total / total[:, 2:]
    return {"epe_body_px": float(body), "epe_background_px": float(background), "epe_body_px_of_no_motion": float(still)}


def flow_shooting(identities: range, clips: int) -> Shooting:
    """Short clips of every style with their flow."""
    return Shooting(identities=(identities.start, identities.stop), styles=styles(), clips=clips, frames=4, flow=True)


JOB = TinyJob(
    name="flow",
    title="Tiny optical flow",
    purpose="Where every pixel goes in the next frame: torchvision's RAFT with few channels, for Rotoscope's demo.",
    loop=LoopConfig(steps=720, learning_rate=1e-3, warmup_steps=20, decay="cosine", weight_decay=1e-4, clip_norm=1.0),
    draw=lambda cache: shoot(flow_shooting(TRAINING_IDENTITIES, 3), cache),
    build=build,
    loss_of=loss_of,
    export=export,
    measure=lambda folder, cache: scores(folder, shoot(flow_shooting(UNSEEN_IDENTITIES, 3), cache)),
)
