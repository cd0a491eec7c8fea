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
from torch.nn.utils import parametrize

from models.tiny.degradation import rng_of
from models.tiny.footage import Scenes, Shooting, shoot, styles
from models.tiny.job import TinyJob
from models.tiny.people import TRAINING_IDENTITIES, UNSEEN_IDENTITIES
from models.training_loop import LoopConfig, LossAt
from pipelines.clip import Frames
from pipelines.extractors.action import CROP, TINY_LAYERS, WINDOW, Layers, c3d, load_c3d, window

_BATCH = 8
_SMALL, _SMALL_STEPS = 64, 1000  # px of the pictures of the first steps, which cost a third; the others see what the extractor shows
_GAIN = 1.71  # of a standardised layer: keeps the variance through a ReLU, sqrt(2 / (1 - 1 / pi)) (Brock et al. 2021)
_FIRST_GAIN = _GAIN / 10  # mmaction's mean is taken off and nothing divided, and neighbouring frames differ by about ten
_COLOUR = 0.3  # of the first layer's filters at the start, next to what the three channels have in common
_DARK = 0.05  # added to a change before its logarithm


class Standardised(nn.Module):
    """A convolution's weight with mean 0 and norm `gain` per output channel (Brock et al. 2021): normalisation that knows no batch.

    Without it 8 layers of positive numbers make the features of all clips alike. What is exported is the plain weight.
    """

    def __init__(self, channels: int, gain: float) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.full((channels, 1, 1, 1, 1), gain))

    def forward(self, weight: Tensor) -> Tensor:
        centred = weight - weight.mean(dim=(1, 2, 3, 4), keepdim=True)
        return centred * torch.rsqrt(centred.square().sum(dim=(1, 2, 3, 4), keepdim=True) + 1e-8) * self.gain


class ActionNetwork(nn.Module):
    """C3D and, for training only, a classifier of its last layer and a guess of how much each region moves.

    [N, 3, 16, S, S] -> logits [N, classes], log change [N, 2, 2, S / 16, S / 16].
    """

    def __init__(self, classes: tuple[str, ...], layers: Layers = TINY_LAYERS) -> None:
        super().__init__()
        self.classes = classes
        self.backbone: Any = c3d(layers)
        for name, _, after in layers:
            convolution = self.backbone.get_submodule(name)[0]
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            nn.init.zeros_(convolution.bias)
            first = name == layers[0][0]
            if first:
                _see_change(convolution.weight)
            parametrize.register_parametrization(convolution, "weight", Standardised(after, _FIRST_GAIN if first else _GAIN))
        self.fc_cls = nn.Linear(2 * layers[-1][2], len(classes))
        self.change = nn.Conv3d(layers[-1][2], 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.backbone(x)
        return self.fc_cls(summary(features)), self.change(features)


@torch.no_grad()
def _see_change(weight: Tensor) -> None:
    """Filters [C, 3, 3, 3, 3] that start blind to what stands still, and at a clip's ends, where zeros follow, to even areas."""
    weight.sub_(weight.mean(dim=(3, 4), keepdim=True)).sub_(weight.mean(dim=2, keepdim=True))
    weight.copy_(_COLOUR * weight + weight.mean(dim=1, keepdim=True))


def summary(features: Tensor) -> Tensor:
    """[N, C, T, H, W] -> [N, 2 C], the mean and the maximum of each channel: what the classifier reads."""
    return torch.cat([features.mean(dim=(2, 3, 4)), features.amax(dim=(2, 3, 4))], dim=1)


def change_of(x: Tensor, grid: tuple[int, int]) -> Tensor:
    """Logarithms [N, 2, 2, *grid] of mean and deviation of |frame - the one before| in each region, of both halves of clips [N, 3, 16, S, S]."""
    steps = functional.pad(x.diff(dim=2).abs().mean(dim=1, keepdim=True), (0, 0, 0, 0, 1, 0), mode="replicate")
    regions = functional.adaptive_avg_pool3d(steps, (WINDOW, *grid)).reshape(len(x), 2, WINDOW // 2, *grid)
    return (torch.stack([regions.mean(dim=2), regions.std(dim=2)], dim=1) + _DARK).log()


def degraded_clip(frames: Frames, rng: np.random.Generator) -> Frames:
    """[T, S, S, 3] moved, mirrored, recoloured, blurred and noised as a whole: a clip has one camera."""
    side = frames.shape[1]
    scale, shift = rng.uniform(0.85, 1.2), rng.uniform(-0.08, 0.08, 2) * side
    matrix = np.array([[scale, 0, (1 - scale) * side / 2 + shift[0]], [0, scale, (1 - scale) * side / 2 + shift[1]]], np.float32)
    gain, offset = (rng.uniform(0.8, 1.2) * rng.uniform(0.92, 1.08, 3)).astype(np.float32), np.float32(rng.uniform(-20, 20))
    blur, noise = rng.uniform(0.3, 1.1) if rng.random() < 0.3 else 0.0, rng.uniform(0, 4) if rng.random() < 0.4 else 0.0
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
    """Windows of 16 frames, prepared as the extractor does, small ones first: their classes, and where and how much they move."""
    device = next(network.parameters()).device
    labels = np.array([network.classes.index(action) for action in scenes.action])
    network.to(memory_format=torch.channels_last_3d)

    def loss_at(step: int, generator: torch.Generator) -> Tensor:
        rng = rng_of(generator)
        picked = rng.integers(len(labels), size=_BATCH)
        starts = rng.integers(scenes.frames.shape[1] - WINDOW + 1, size=_BATCH)
        clips = [degraded_clip(scenes.frames[c, s : s + WINDOW], rng) for c, s in zip(picked, starts, strict=True)]
        batch = batch_of(clips, _SMALL if 0 <= step < _SMALL_STEPS else CROP).to(device)
        logits, change = network(batch)
        of_class = functional.cross_entropy(logits, torch.from_numpy(labels[picked]).to(device), label_smoothing=0.05)
        return of_class + functional.smooth_l1_loss(change, change_of(batch, change.shape[3:]))

    return loss_at


def batch_of(clips: list[Frames], side: int) -> Tensor:
    """The extractor's windows of clips of 16 frames, [N, 3, 16, side, side], channels last in memory."""
    frames = torch.from_numpy(np.stack([window(clip, 0).transpose(1, 2, 3, 0) for clip in clips])).flatten(0, 1).permute(0, 3, 1, 2)
    small = frames if side == CROP else functional.interpolate(frames, size=(side, side), mode="area")
    return small.permute(0, 2, 3, 1).unflatten(0, (len(clips), WINDOW)).permute(0, 4, 1, 2, 3)


def export(network: Any, folder: Path) -> None:
    """model.safetensors (float16) with mmaction's names; the classifier comes along as theirs does, and classes.txt says what it tells apart."""
    convolutions = {name: network.backbone.get_submodule(name)[0] for name, _, _ in TINY_LAYERS}
    state = {f"backbone.{name}.conv.{part}": getattr(layer, part) for name, layer in convolutions.items() for part in ("weight", "bias")}
    state |= {f"cls_head.fc_cls.{name}": value for name, value in network.fc_cls.state_dict().items()}
    save_file({name: value.detach().half().contiguous() for name, value in state.items()}, folder / "model.safetensors")
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
            features = summary(network(torch.from_numpy(window(frames, 0))[None]))
        right.append(classes[int((features @ weight.T + bias).argmax())] == action)
    styled = np.isin(scenes.action, ["dance", "talk", "fashion"])
    marks: npt.NDArray[np.bool_] = np.array(right)
    of_styles = {"style_accuracy": float(marks[styled].mean())} if styled.any() else {}  # a few people may show none
    return {"action_accuracy": float(marks.mean()), **of_styles, "classes": float(len(classes))}


def action_shooting(identities: range, clips: int, frames: int) -> Shooting:
    """Clips of every style and action."""
    return Shooting(identities=(identities.start, identities.stop), styles=styles(), clips=clips, frames=frames)


JOB = TinyJob(
    name="action",
    title="Tiny action network",
    purpose="Tokens of what somebody does in 16 frames, in C3D's layout with narrow layers, for Rotoscope's demo.",
    loop=LoopConfig(steps=1300, learning_rate=2e-3, warmup_steps=20, decay="cosine", weight_decay=1e-2, clip_norm=1.0),
    draw=lambda cache: shoot(action_shooting(TRAINING_IDENTITIES, 7, 24), cache),
    build=lambda: ActionNetwork(styles()),
    loss_of=loss_of,
    export=export,
    packed=True,
    measure=lambda folder, cache: scores(folder, shoot(action_shooting(UNSEEN_IDENTITIES, 14, 16), cache)),
)
