"""The tiny action network: C3D (Tran et al. 2015) with narrow layers, learnt by telling the performers' styles and actions apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from models.tiny.degradation import rng_of
from models.tiny.footage import Scenes, Shooting, shoot, styles
from models.tiny.job import TinyJob
from models.tiny.people import TRAINING_IDENTITIES, UNSEEN_IDENTITIES
from models.training_loop import LoopConfig, LossAt
from pipelines.clip import Frames
from pipelines.extractors.action import TINY_LAYERS, WINDOW, Layers, c3d, load_c3d, window

_BATCH = 8
_DROPOUT = 0.3
_SPREAD = 60.0  # of the input's values: mmaction's mean is taken off and nothing divided, so the first layer starts smaller


class ActionNetwork(nn.Module):
    """C3D and, for training only, a classifier over the mean of its last layer: [N, 3, 16, 112, 112] -> [N, classes]."""

    def __init__(self, classes: tuple[str, ...], layers: Layers = TINY_LAYERS) -> None:
        super().__init__()
        self.classes = classes
        self.backbone: Any = c3d(layers)
        for name, _, _ in layers:
            convolution = self.backbone.get_submodule(name)[0]
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            nn.init.zeros_(convolution.bias)
        with torch.no_grad():
            self.backbone.get_submodule(layers[0][0])[0].weight.div_(_SPREAD)
        self.fc_cls = nn.Linear(layers[-1][2], len(classes))

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """keep: [N, C] of 0 and 1 / share, the dropout of a training step."""
        features = self.backbone(x).mean(dim=(2, 3, 4))
        return self.fc_cls(features if keep is None else features * keep)


def degraded_clip(frames: Frames, rng: np.random.Generator) -> Frames:
    """[T, S, S, 3] moved, mirrored, recoloured, blurred and noised as a whole: a clip has one camera."""
    side = frames.shape[1]
    scale, shift = rng.uniform(0.85, 1.2), rng.uniform(-0.08, 0.08, 2) * side
    matrix = np.array([[scale, 0, (1 - scale) * side / 2 + shift[0]], [0, scale, (1 - scale) * side / 2 + shift[1]]], np.float32)
    gain, offset = (rng.uniform(0.8, 1.2) * rng.uniform(0.92, 1.08, 3)).astype(np.float32), np.float32(rng.uniform(-20, 20))
    blur, noise = rng.uniform(0.3, 1.1) if rng.random() < 0.3 else 0.0, rng.uniform(0, 8) if rng.random() < 0.4 else 0.0
    out = np.stack([cv2.warpAffine(frame, matrix, (side, side), borderMode=cv2.BORDER_REPLICATE) for frame in frames])
    out = out[:, :, ::-1] if rng.random() < 0.5 else out
    if blur:
        out = np.stack([cv2.GaussianBlur(frame, (0, 0), blur) for frame in out])
    values = out * gain + offset
    if noise:
        values += rng.standard_normal(values.shape, np.float32) * np.float32(noise)
    pixels: Frames = np.clip(values, 0, 255).astype(np.uint8)
    return pixels


def loss_of(network: Any, scenes: Scenes) -> LossAt:
    """Windows of 16 frames, prepared as the extractor does."""
    device = next(network.parameters()).device
    labels = np.array([network.classes.index(action) for action in scenes.action])
    network.to(memory_format=torch.channels_last_3d)

    def loss_at(step: int, generator: torch.Generator) -> Tensor:
        rng = rng_of(generator)
        picked = rng.integers(len(labels), size=_BATCH)
        starts = rng.integers(scenes.frames.shape[1] - WINDOW + 1, size=_BATCH)
        clips = [degraded_clip(scenes.frames[c, s : s + WINDOW], rng) for c, s in zip(picked, starts, strict=True)]
        batch = torch.from_numpy(np.stack([window(clip, 0) for clip in clips])).to(device)
        keep = torch.from_numpy((rng.random((_BATCH, TINY_LAYERS[-1][2])) >= _DROPOUT).astype(np.float32) / (1 - _DROPOUT)).to(device)
        logits = network(batch.contiguous(memory_format=torch.channels_last_3d), keep)
        return functional.cross_entropy(logits, torch.from_numpy(labels[picked]).to(device), label_smoothing=0.05)

    return loss_at


def export(network: Any, folder: Path) -> None:
    """model.safetensors (float16) with mmaction's names; the classifier comes along as theirs does, and classes.txt says what it tells apart."""
    state = {f"backbone.{name}": value for name, value in network.backbone.state_dict().items()}
    state |= {f"cls_head.fc_cls.{name}": value for name, value in network.fc_cls.state_dict().items()}
    save_file({name: value.half().contiguous() for name, value in state.items()}, folder / "model.safetensors")
    (folder / "classes.txt").write_text("\n".join(network.classes) + "\n")


def scores(folder: Path, scenes: Scenes) -> dict[str, float]:
    """Accuracy of the classifier on the extractor's network and windows; and of styles alone (dance, talk, fashion)."""
    from safetensors.torch import load_file

    path = folder / "model.safetensors"
    network, state = load_c3d(path, TINY_LAYERS), load_file(path)
    weight, bias = (state[f"cls_head.fc_cls.{name}"].float() for name in ("weight", "bias"))
    classes, right = (folder / "classes.txt").read_text().split(), []
    for frames, action in zip(scenes.frames, scenes.action, strict=True):
        with torch.inference_mode():
            features = network(torch.from_numpy(window(frames, 0))[None]).mean(dim=(2, 3, 4))
        right.append(classes[int((features @ weight.T + bias).argmax())] == action)
    styled = np.isin(scenes.action, ["dance", "talk", "fashion"])
    marks: npt.NDArray[np.bool_] = np.array(right)
    return {"action_accuracy": float(marks.mean()), "style_accuracy": float(marks[styled].mean()), "classes": float(len(classes))}


def action_shooting(identities: range, clips: int, frames: int) -> Shooting:
    """Clips of every style and action."""
    return Shooting(identities=(identities.start, identities.stop), styles=styles(), clips=clips, frames=frames)


JOB = TinyJob(
    name="action",
    title="Tiny action network",
    purpose="Tokens of what somebody does in 16 frames, in C3D's layout with narrow layers, for Rotoscope's demo.",
    loop=LoopConfig(steps=900, learning_rate=1.5e-3, warmup_steps=50, decay="cosine", weight_decay=1e-2, clip_norm=1.0),
    draw=lambda cache: shoot(action_shooting(TRAINING_IDENTITIES, 7, 24), cache),
    build=lambda: ActionNetwork(styles()),
    loss_of=loss_of,
    export=export,
    measure=lambda folder, cache: scores(folder, shoot(action_shooting(UNSEEN_IDENTITIES, 14, 16), cache)),
)
