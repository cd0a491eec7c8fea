"""Networks of the tiny family as TorchScript files, with weights in half precision; adapters widen them, what is computed is float32."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import nn


def save_script(network: nn.Module, path: Path) -> None:
    """Write a scripted network; itself it stays as it is."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.*")  # torch 2.15 announces torch.export; the published files are TorchScript
        scripted = torch.jit.script(network.eval().to(memory_format=torch.contiguous_format))
        scripted.half().save(str(path))
    network.float()
