"""ONNX networks in torch: ONNX Runtime's numbers, and gradients that those numbers obey."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from models.onnx_in_torch import OnnxInTorch
from models.tiny.onnx_export import export_onnx
from models.torch_recognisers import torch_recogniser
from pipelines.errors import UserError
from pipelines.extractors.face_embedding import RECOGNISERS, FaceEmbedder, similarity_warp
from pipelines.weights import find_weights

FACE = np.array([[30, 40], [66, 40], [48, 60], [33, 80], [63, 80]], np.float32)


def _runtime(path: Path, images: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: images.numpy()})[0])


class _Everything(nn.Module):
    """The layers of ArcFace's networks."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.PReLU(8), nn.Conv2d(8, 8, 3, padding=1, groups=4))
        self.norm = nn.GroupNorm(2, 8)
        self.last = nn.Sequential(nn.Flatten(), nn.Linear(8 * 16, 5), nn.BatchNorm1d(5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        out: Tensor = self.last(nn.functional.silu(self.norm(x)) + x)
        return out


@pytest.fixture
def network(tmp_path: Path) -> Path:
    made = _Everything().eval()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_()  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    export_onnx(made, torch.zeros(1, 3, 8, 8), tmp_path / "model.onnx", ["embeddings"])
    return tmp_path / "model.onnx"


def test_the_numbers_are_those_of_onnx_runtime(network: Path) -> None:
    images = torch.randn(3, 3, 8, 8)
    torch.testing.assert_close(OnnxInTorch(network)(images), _runtime(network, images), rtol=1e-5, atol=1e-5)


def test_gradients_are_those_of_finite_differences(network: Path) -> None:
    """The derivative along a direction, from ONNX Runtime's own numbers."""
    mine, images, direction = OnnxInTorch(network), torch.randn(1, 3, 8, 8, requires_grad=True), torch.randn(1, 3, 8, 8)
    mine(images)[0, 2].backward()
    assert images.grad is not None
    step = 1e-2
    with torch.no_grad():
        ends = [_runtime(network, images + sign * step * direction)[0, 2] for sign in (1, -1)]
    assert float((images.grad * direction).sum()) == pytest.approx(float((ends[0] - ends[1]) / (2 * step)), rel=2e-2, abs=1e-3)
    assert not list(mine.parameters())  # nothing of it trains


def test_an_operator_that_is_not_known_is_named(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.erf(x)

    export_onnx(Odd(), torch.zeros(1, 3, 4, 4), tmp_path / "odd.onnx", ["out"])
    with pytest.raises(UserError, match="Erf"):
        OnnxInTorch(tmp_path / "odd.onnx")


def test_the_shipped_recogniser_is_the_extractors() -> None:
    """The embedding that a loss sees is the one that the extractor stores."""
    frame = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    warp = similarity_warp(FACE)
    embedder = FaceEmbedder(find_weights("face_recogniser_tiny"), RECOGNISERS["face_recogniser_tiny"])
    stored = torch.from_numpy(embedder([frame], [warp]))
    from models.face_warp import aligned_faces

    image = torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 127.5 - 1
    seen = torch_recogniser("face_recogniser_tiny")(aligned_faces(image, torch.from_numpy(warp)[None]))
    assert float(torch.cosine_similarity(seen, stored)) > 0.999


def test_the_small_recogniser_of_photographs_runs_as_well(weights_dir: Path) -> None:
    path, images = weights_dir / "mobilefacenet.onnx", torch.randn(2, 3, 112, 112)
    one_by_one = torch.cat([_runtime(path, image[None]) for image in images])  # its graph takes one picture
    torch.testing.assert_close(OnnxInTorch(path)(images), one_by_one, rtol=1e-3, atol=1e-3)
