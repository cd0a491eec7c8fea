"""What the metric networks tell apart in performers: clothing, place, and style or action, as one row of logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from models.tiny.footage import Scenes, styles
from pipelines.extractors.clothing import NAMES

# N = pictures or windows
Numbers = dict[str, npt.NDArray[np.int64]]

PLACES = ("studio", "room", "stage", "street", "park")
CLASSES: Mapping[str, tuple[str, ...]] = {"style": styles(), "clothing": NAMES, "place": PLACES}
COUNT = sum(len(names) for names in CLASSES.values())


def labels_of(scenes: Scenes) -> Numbers:
    """Class numbers [C] of every clip, by kind; the place is the caption's last word."""
    words = {"style": scenes.action, "clothing": scenes.clothing, "place": [caption.split()[-1] for caption in scenes.caption]}
    return {kind: np.array([CLASSES[kind].index(word) for word in words[kind]]) for kind in CLASSES}


def parts(logits: Tensor) -> dict[str, Tensor]:
    """Logits [N, >= COUNT] by kind; what follows the classes is left out."""
    return dict(zip(CLASSES, logits[:, :COUNT].split([len(names) for names in CLASSES.values()], dim=1), strict=True))


def class_loss(logits: Tensor, labels: Numbers, rows: npt.NDArray[np.int64]) -> Tensor:
    """Cross-entropies of the kinds, added; rows [N]: clips that the logits are of."""
    by_kind = parts(logits)
    losses = [
        functional.cross_entropy(by_kind[kind], torch.from_numpy(labels[kind][rows]).to(logits.device), label_smoothing=0.05)
        for kind in CLASSES
    ]
    return torch.stack(losses).sum()


def accuracies(logits: npt.NDArray[np.float32], labels: Numbers) -> dict[str, float]:
    """Share of rightly named rows, by kind."""
    guessed = {kind: values.argmax(dim=1).numpy() for kind, values in parts(torch.from_numpy(logits)).items()}
    return {f"{kind}_accuracy": float((guessed[kind] == labels[kind]).mean()) for kind in CLASSES}


def write_classes(folder: Path, after: Sequence[str]) -> None:
    """classes.txt: what each logit stands for, one a line; `after` follows the classes."""
    lines = [f"{kind}: {name}" for kind, names in CLASSES.items() for name in names] + [f"damage: {name}" for name in after]
    (folder / "classes.txt").write_text("\n".join(lines) + "\n")
