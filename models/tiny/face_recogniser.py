"""The tiny face recogniser: additive angular margin (ArcFace, Deng et al. 2019) over drawn people, 128 numbers per face."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.tiny.degradation import rng_of
from models.tiny.face_crops import CROP, MANY_IDENTITIES, Face, many_faces, training_crop, unseen_faces
from models.tiny.face_detector import Residual
from models.tiny.job import TinyJob
from models.tiny.onnx_export import export_onnx
from models.training_loop import LoopConfig, LossAt
from pipelines.extractors.face_embedding import RECOGNISERS, FaceEmbedder, similarity_warp

MARGIN, SCALE = 0.3, 20.0  # ArcFace's 0.5 and 64 are for thousands of classes and 512 numbers
_RAMP_STEPS = 300  # the margin grows to its value over these
_BATCH = 64


class FaceRecogniserNetwork(nn.Module):
    """[N, 3, 112, 112] in -1..1 -> raw embeddings [N, D]. `people` [P, D] are the classes' directions, for training only."""

    def __init__(self, widths: tuple[int, int, int] = (32, 64, 80), size: int = 128, people: int = len(MANY_IDENTITIES)) -> None:
        super().__init__()
        befores = (widths[0], *widths[:2])
        self.stem = nn.Conv2d(3, widths[0], 7, stride=4, padding=3)
        strides = (1, 2, 2)
        self.down = nn.ModuleList(
            nn.Conv2d(a, b, 1 if s == 1 else 3, stride=s, padding=s // 2) for a, b, s in zip(befores, widths, strides, strict=True)
        )
        self.norm = nn.ModuleList(nn.GroupNorm(8, b) for b in widths)
        self.refine = nn.ModuleList(Residual(b) for b in widths)
        self.whole = nn.Conv2d(widths[-1], widths[-1], CROP // 16, groups=widths[-1])  # a weight per place, as in MobileFaceNet
        self.embed = nn.Linear(widths[-1], size)
        self.people = nn.Parameter(functional.normalize(torch.randn(people, size), dim=1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for down, norm, refine in zip(self.down, self.norm, self.refine, strict=True):
            x = refine(norm(down(functional.silu(x))))
        return self.embed(self.whole(functional.silu(x)).flatten(1))


def arcface_loss(embeddings: Tensor, directions: Tensor, person: Tensor, margin: float) -> Tensor:
    """Cross-entropy of SCALE cos(angle + margin [own person]) (Eq. 3). embeddings [N, D], directions [P, D], person [N]."""
    cosine = functional.normalize(embeddings, dim=1) @ functional.normalize(directions, dim=1).T
    own = cosine.gather(1, person[:, None]).clamp(-1 + 1e-6, 1 - 1e-6)
    moved = own * math.cos(margin) - (1 - own.square()).sqrt() * math.sin(margin)
    # past pi - margin the cosine would rise again: a constant penalty takes over, as in the authors' code
    moved = torch.where(own > math.cos(math.pi - margin), moved, own - math.sin(math.pi - margin) * margin)
    return functional.cross_entropy(SCALE * cosine.scatter(1, person[:, None], moved), person)


def loss_of(network: Any, faces: Sequence[Face], salt: int = 0) -> LossAt:
    """salt: other pictures in the same steps, for another network of the kind."""
    device = next(network.parameters()).device
    network.to(memory_format=torch.channels_last)
    names = sorted({face.person for face in faces})
    number = {name: i for i, name in enumerate(names)}

    def loss_at(step: int, generator: torch.Generator) -> Tensor:
        rng = np.random.default_rng([salt, int(rng_of(generator).integers(1 << 62))])
        picked = [faces[int(i)] for i in rng.integers(len(faces), size=_BATCH)]
        crops = torch.from_numpy(np.stack([training_crop(face, rng) for face in picked])).permute(0, 3, 1, 2)
        person = torch.tensor([number[face.person] for face in picked], device=device)
        images = ((crops.to(device).float() - 127.5) / 127.5).contiguous(memory_format=torch.channels_last)
        margin = MARGIN * min(1.0, step / _RAMP_STEPS) if step >= 0 else MARGIN
        return arcface_loss(network(images), network.people, person, margin)

    return loss_at


def export(network: nn.Module, folder: Path) -> None:
    """model.onnx; the people's directions stay behind."""
    export_onnx(network, torch.zeros(1, 3, CROP, CROP), folder / "model.onnx", ["embeddings"])


def verification(embeddings: npt.NDArray[np.float32], person: npt.NDArray[np.int64], clip: npt.NDArray[np.int64]) -> dict[str, float]:
    """Of all pairs from different clips: area under the ROC, true positives at 1 % false ones, and mean cosines."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    first, second = np.triu_indices(len(unit), 1)
    apart = clip[first] != clip[second]
    first, second = first[apart], second[apart]
    cosine, same = np.einsum("ij,ij->i", unit[first], unit[second]), person[first] == person[second]
    rank = np.empty(len(cosine))
    rank[np.argsort(cosine, kind="stable")] = np.arange(1, len(cosine) + 1)
    yes, no = int(same.sum()), int((~same).sum())
    return {
        "verification_auc": float((rank[same].sum() - yes * (yes + 1) / 2) / (yes * no)),
        "true_positives_at_1_percent_false": float((cosine[same] > np.quantile(cosine[~same], 0.99)).mean()),
        "cosine_same_person": float(cosine[same].mean()),
        "cosine_different_people": float(cosine[~same].mean()),
    }


def scores(embedder: FaceEmbedder, faces: Sequence[Face]) -> dict[str, float]:
    """`verification` of faces aligned by their true points."""
    parts = [faces[start : start + 64] for start in range(0, len(faces), 64)]
    rows = [embedder([face.patch for face in part], [similarity_warp(face.points) for face in part]) for part in parts]
    person, clip = (np.array([getattr(face, name) for face in faces]) for name in ("person", "clip"))
    return verification(np.concatenate(rows), person, clip)


def measure(folder: Path, cache: Path, role: str = "face_recogniser_tiny") -> Mapping[str, float]:
    """On unseen people, through the embedder of the extractors."""
    return scores(FaceEmbedder(folder / "model.onnx", RECOGNISERS[role]), unseen_faces(cache))


TRAINED_ON = f"performers {MANY_IDENTITIES.start}..{MANY_IDENTITIES.stop - 1}"

JOB = TinyJob(
    name="face_recogniser",
    title="Tiny face recogniser",
    purpose="Tells drawn people apart by their faces in Rotoscope's demo, 128 numbers per face, trained with ArcFace's loss.",
    loop=LoopConfig(steps=2200, learning_rate=3e-3, warmup_steps=50, decay="cosine", weight_decay=5e-3, clip_norm=5.0),
    draw=many_faces,
    build=FaceRecogniserNetwork,
    loss_of=loss_of,
    export=export,
    measure=measure,
    trained_on=TRAINED_ON,
)
