"""The tiny Inception (in the place of Szegedy et al. 2015): 128 features of a frame, as a TorchScript file called like the published one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.tiny.clip import words_shooting
from models.tiny.damage import PICTURE_DAMAGES, damaged, ordered_share
from models.tiny.damaged_windows import moved
from models.tiny.degradation import rng_of
from models.tiny.face_crops import MANY_IDENTITIES
from models.tiny.footage import Scenes, shoot
from models.tiny.headed_pool import HeadedPool
from models.tiny.job import TinyJob
from models.tiny.labels import COUNT, accuracies, class_loss, labels_of, write_classes
from models.tiny.people import UNSEEN_IDENTITIES
from models.tiny.torchscript_export import save_script
from models.training_loop import LoopConfig, LossAt
from pipelines.clip import Frames
from pipelines.extractors.inception import INCEPTION_TINY
from pipelines.extractors.torchscript import load_torchscript

# N = frames, S = side in px, D = features (128)
FEATURES = 128
_BATCH = 24
_GROUPS = 8  # of channels, of the normalisation
_CHANNELS, _STRIDES = (3, 16, 32, 48, 64, 80, 96, FEATURES), (2, 1, 2, 1, 2, 1, 2)
_DAMAGED_SHARE, _DAMAGE_WEIGHT, _IDENTITY_WEIGHT = 0.4, 4.0, 0.3


class InceptionNetwork(nn.Module):
    """`layers`: [N, 3, S, S] in -1..1 -> [N, 128]; the whole: 0..255 -> logits of the classes, then strengths of the damages."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number, (before, after, stride) in enumerate(zip(_CHANNELS[:-1], _CHANNELS[1:], _STRIDES, strict=True)):
            convolution = nn.Conv2d(before, after, 3, stride, 1)
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            # none after the first: how bright and coloured a picture is shall reach the features
            layers += [convolution, *([nn.GroupNorm(_GROUPS, after)] if number else []), nn.ReLU()]
        self.layers = nn.Sequential(*layers, HeadedPool(FEATURES))
        self.output = nn.Linear(FEATURES, COUNT + len(PICTURE_DAMAGES))

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.output(self.layers((images - 128) / 128).flatten(1))
        return outputs


class Learner(nn.Module):
    """The network, and who each training person is, for training only."""

    def __init__(self, people: int = len(MANY_IDENTITIES)) -> None:
        super().__init__()
        self.network = InceptionNetwork()
        self.identity = nn.Linear(FEATURES, people)


def learnt_from(cache: Path) -> Scenes:
    """Frames of many people; CLIP's own."""
    return shoot(words_shooting(MANY_IDENTITIES, 6), cache)


def measured_on(cache: Path) -> Scenes:
    """Frames of people whom no job learns from."""
    return shoot(words_shooting(UNSEEN_IDENTITIES, 14), cache)


def picture_batch(scenes: Scenes, count: int, rng: np.random.Generator) -> tuple[Tensor, npt.NDArray[np.int64], Tensor]:
    """Frames [N, 3, S, S] in 0..255, the clips that they are of, and the damages' strengths [N, kinds]."""
    clips, moments = rng.integers(len(scenes.frames), size=count), rng.integers(scenes.frames.shape[1], size=count)
    pictures, strengths = [], np.zeros((count, len(PICTURE_DAMAGES)), np.float32)
    for row, (clip, moment) in enumerate(zip(clips, moments, strict=True)):
        picture = moved(scenes.frames[clip, moment][None], rng)
        if rng.random() < _DAMAGED_SHARE:
            kind, strength = int(rng.integers(len(PICTURE_DAMAGES))), rng.uniform(0.1, 1)
            strengths[row, kind] = strength
            picture = damaged(picture, PICTURE_DAMAGES[kind], strength, rng)
        pictures.append(picture[0])
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float(), clips, torch.from_numpy(strengths)


def loss_of(learner: Any, scenes: Scenes) -> LossAt:
    """Frames: their classes, who it is, and how damaged they are."""
    labels, device = labels_of(scenes), learner.identity.weight.device
    people = torch.from_numpy(np.unique(scenes.identity, return_inverse=True)[1])

    def loss_at(step: int, generator: torch.Generator) -> Tensor:
        pictures, clips, strengths = picture_batch(scenes, _BATCH, rng_of(generator))
        x = ((pictures.to(device) - 128) / 128).contiguous(memory_format=torch.channels_last)
        features = learner.network.layers(x).flatten(1)
        outputs = learner.network.output(features)
        damage = functional.smooth_l1_loss(outputs[:, COUNT:], strengths.to(device), beta=0.2)
        who = functional.cross_entropy(learner.identity(features), people[torch.from_numpy(clips)].to(device))
        return class_loss(outputs, labels, clips) + _DAMAGE_WEIGHT * damage + _IDENTITY_WEIGHT * who

    return loss_at


def export(learner: Any, folder: Path) -> None:
    """model.torchscript, weights in half precision (the adapter widens them), and what each logit of its output stands for."""
    save_script(learner.network, folder / "model.torchscript")
    write_classes(folder, PICTURE_DAMAGES)


def measure(folder: Path, cache: Path) -> Mapping[str, float]:
    """Through the adapter, on people never seen."""
    return scores(folder, measured_on(cache))


def scores(folder: Path, scenes: Scenes) -> dict[str, float]:
    """Accuracies of the output on the adapter's features, by kind, and the share of rightly ordered damages."""
    path = folder / "model.torchscript"
    features, output = replace(INCEPTION_TINY, path=path).load("cpu"), load_torchscript(path, "cpu").float().output
    weight, bias = (getattr(output, name).detach().numpy() for name in ("weight", "bias"))
    logits = features(np.array(scenes.frames[:, 0])) @ weight.T + bias

    def of_pictures(windows: Frames) -> npt.NDArray[np.float32]:
        return features(windows[:, 0])

    share = ordered_share(of_pictures, scenes.frames[:, :1], np.asarray(scenes.identity), PICTURE_DAMAGES)
    return {**accuracies(logits, labels_of(scenes)), "ordered_damage_share": share}


JOB = TinyJob(
    name="inception",
    title="Inception of the demo",
    purpose="128 features of a frame that know clothing, place, style and damage, called as the TorchScript Inception is, for FID under the protocol demo.",
    loop=LoopConfig(steps=2300, learning_rate=2e-3, warmup_steps=40, decay="cosine", pictures=0),
    draw=learnt_from,
    build=Learner,
    loss_of=loss_of,
    export=export,
    measure=measure,
    trained_on=f"performers {MANY_IDENTITIES.start}..{MANY_IDENTITIES.stop - 1}",
)
