"""Mixed precision: matrix products in 16 bits, weights in 32 (Micikevicius et al. 2018)."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from models.loop_config import Device, Precision
from pipelines.errors import UserError


def training_device(device: Device) -> torch.device:
    """Where the networks of a stage go. Raises UserError where there is no such device."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda, but torch sees no GPU here; choose device=cpu, or install a torch with CUDA and a driver")
    return torch.device(device)


def mixed(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Autocast for the forward pass; the backward pass takes the types of the forward pass by itself."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16 if precision == "bfloat16" else torch.float16)


def make_scaler(precision: Precision, device: torch.device) -> torch.amp.GradScaler:
    """Multiplies losses so that gradients in float16 do not vanish; changes nothing for the other precisions, whose range is that of float32."""
    return torch.amp.GradScaler(device.type, enabled=precision == "float16")
