"""Gradient checkpointing (Chen et al. 2016): blocks keep their inputs alone and compute the rest again in the backward pass.

What a block reads beside its inputs, such as a reference bank, must still be there when it is computed again. So a stage
gives the loop `held=bank.held`, which stays open around the forward and the backward pass of a micro-batch.
"""

from __future__ import annotations

from diffusers import ModelMixin
from torch import nn


def checkpoint_gradients(*networks: nn.Module) -> int:
    """Switch it on in every network of diffusers among `networks` and inside them; returns how many blocks recompute.

    diffusers uses the variant that is not re-entrant: gradients also flow through what a block leaves elsewhere (the bank).
    Raises ValueError where nothing in `networks` can do it.
    """
    for network in networks:
        for module in network.modules():
            if isinstance(module, ModelMixin) and module._supports_gradient_checkpointing:
                module.enable_gradient_checkpointing()
    blocks = sum(bool(getattr(module, "gradient_checkpointing", False)) for network in networks for module in network.modules())
    if not blocks:
        raise ValueError(f"no block of {[type(network).__name__ for network in networks]} supports gradient checkpointing; switch it off")
    return blocks
