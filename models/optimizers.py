"""Optimisers, and their moments as tensors that a file can hold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from models.loop_config import LoopConfig
from pipelines.errors import UserError

_NAME_IN_FILE = {"exp_avg": "first", "exp_avg_sq": "second"}
_NAME_IN_STATE = {name: key for key, name in _NAME_IN_FILE.items()}


def make_optimizer(parameters: Iterable[nn.Parameter], config: LoopConfig) -> torch.optim.Optimizer:
    """AdamW, Adam (Kingma & Ba 2015: no decay), or AdamW with moments of 8 bits. Raises UserError where the last one is not installed."""
    chosen, rate = list(parameters), config.learning_rate
    if config.optimizer == "adam":
        return torch.optim.Adam(chosen, lr=rate)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(chosen, lr=rate, weight_decay=config.weight_decay)
    try:
        eight_bit = import_module("bitsandbytes.optim")
    except ImportError:
        raise UserError(
            "optimizer=adamw_8bit needs the package bitsandbytes, which is not installed; "
            'run: pip install "rotoscope[eight-bit]", or choose optimizer=adamw'
        ) from None
    # Blocks of 256 values share a scale; tensors under 4096 values keep moments of 32 bits (the package's default).
    return eight_bit.AdamW8bit(chosen, lr=rate, weight_decay=config.weight_decay)


def moments_of(optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """What the optimiser remembers of each parameter, as `<parameter>.<what>`; nothing of one that never had a gradient."""
    moments: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensor = torch.as_tensor(value).contiguous()
            shared = key.startswith("qmap")  # one table of code values for all parameters; safetensors wants one each
            moments[f"{name}.{_NAME_IN_FILE.get(key, key)}"] = tensor.clone() if shared else tensor
    return moments


def put_moments(optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], moments: Mapping[str, Tensor]) -> None:
    """Give the optimiser what `moments_of` took."""
    found = defaultdict[str, dict[str, Tensor]](dict)
    for path, value in moments.items():
        name, what = path.rsplit(".", 1)
        found[name][_NAME_IN_STATE.get(what, what)] = value
    for name, parameter in parameters.items():
        if name in found:
            optimizer.state[parameter] = {key: _placed(key, value, parameter) for key, value in found[name].items()}


def _placed(key: str, value: Tensor, parameter: nn.Parameter) -> Any:
    if key == "step":  # torch counts in a float tensor, bitsandbytes in an int
        return value if value.is_floating_point() else int(value)
    if value.shape == parameter.shape:  # like the parameter: on its device, in its memory layout
        return torch.empty_like(parameter, dtype=value.dtype).copy_(value).detach()
    return value.to(parameter.device)
