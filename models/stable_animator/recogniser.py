"""The recogniser that faces are optimised by: in torch, so that gradients reach the picture."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from torch import nn

from models.checkpoint import load_strictly
from models.tiny.face_recogniser import FaceRecogniserNetwork
from models.torch_recognisers import torch_recogniser
from pipelines.weights import find_weights

TINY = "face_recogniser_tiny"
TINY_FILE = "model.safetensors"  # beside the extractor's model.onnx: the same weights, for whom the package onnx is not at hand


def load_differentiable(role: str | None) -> nn.Module:
    """[N, 3, 112, 112] RGB in [-1, 1] -> raw embeddings [N, D]; frozen, in evaluation mode. None = a small one of fixed random weights.

    The tiny family's comes from `model.safetensors` where it lies beside the ONNX file, every other one as torch_recognisers.py reads it.
    Raises MissingWeightsError, UserError.
    """
    beside = find_weights(TINY).with_name(TINY_FILE) if role == TINY else None
    network = load_tiny(beside) if beside is not None and beside.is_file() else torch_recogniser(role)
    return network.requires_grad_(False).eval()


@lru_cache(maxsize=2)
def judge_of(role: str | None) -> nn.Module:
    """The recogniser of a role, read once."""
    return load_differentiable(role)


def load_tiny(path: Path) -> FaceRecogniserNetwork:
    """A tiny face recogniser of a .safetensors file, strictly by name but for `people`, which only training needs. Raises UserError."""
    from safetensors.torch import load_file

    weights = load_file(path)
    widths, size = (32, 64, 80), 128
    if {"down.0.weight", "down.1.weight", "down.2.weight", "embed.weight"} <= set(weights):
        first, second, third = (weights[f"down.{level}.weight"].shape[0] for level in range(3))
        widths, size = (first, second, third), weights["embed.weight"].shape[0]
    network = FaceRecogniserNetwork(widths, size, people=1)
    load_strictly(network, {name: value.float() for name, value in weights.items()}, source=str(path), may_be_missing=["people"])
    return network
