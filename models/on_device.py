"""Moving records of tensors (batches, conditions, signals) to where a network is."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor, nn

Record = TypeVar("Record")


def device_of(network: nn.Module) -> torch.device:
    """Where its parameters are; the CPU for a network without any."""
    parameter = next(network.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def device_at_hand() -> torch.device:
    """The GPU where torch sees one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def on_device(record: Record, device: torch.device) -> Record:
    """A dataclass with every tensor in it, also those of records inside, on `device`; the same object where nothing has to move."""
    changed = {}
    for field in fields(record) if is_dataclass(record) else ():
        value = getattr(record, field.name)
        moved = value.to(device) if isinstance(value, Tensor) else on_device(value, device)
        if moved is not value:
            changed[field.name] = moved
    return replace(record, **changed) if changed else record  # type: ignore[type-var]
