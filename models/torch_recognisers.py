"""Face recognisers that gradients go through: the same weights as the extractors', by role."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from models.iresnet import IResNet, load_recogniser
from models.onnx_in_torch import OnnxInTorch
from pipelines.extractors.face_embedding import RECOGNISERS, Recogniser
from pipelines.weights import find_weights


class NormalisedRecogniser(nn.Module):
    """[N, 3, 112, 112] aligned faces, RGB in [-1, 1] -> raw embeddings [N, D], of weights that want another range."""

    def __init__(self, network: nn.Module, recogniser: Recogniser) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(recogniser.mean)[:, None, None])
        self.register_buffer("std", torch.tensor(recogniser.std)[:, None, None])

    def forward(self, faces: Tensor) -> Tensor:
        assert isinstance(self.mean, Tensor)
        assert isinstance(self.std, Tensor)
        return self.network(((faces + 1) / 2 - self.mean) / self.std)


def torch_recogniser(role: str | None) -> nn.Module:
    """The frozen recogniser of a role of pipelines/weights.py: an ONNX file, or insightface's arcface_torch backbone; None = `stand_in_recogniser`.

    Raises MissingWeightsError.
    """
    if role is None:
        return stand_in_recogniser()
    path = find_weights(role)
    network: nn.Module = OnnxInTorch(path) if path.suffix == ".onnx" else load_recogniser(path)
    return NormalisedRecogniser(network, RECOGNISERS[role]) if role in RECOGNISERS else network


def recogniser_file(role: str) -> Path:
    """The file behind a role. Raises MissingWeightsError."""
    return find_weights(role)


def stand_in_recogniser(seed: int = 0) -> IResNet:
    """A small IResNet with fixed random weights, for variants without pretrained networks. It tells colours and layouts apart, not people."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return IResNet((1, 1, 1, 1), (8, 8, 16, 16, 16), size=32)
