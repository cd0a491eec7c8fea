"""Pooling over positions by what is there: a person covers a seventh of a frame, and a plain mean is mostly background."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class HeadedPool(nn.Module):
    """[N, C, ...] -> [N, C]: each head weighs the positions by its own softmax for its share of the channels; a plain mean at the start."""

    def __init__(self, channels: int, heads: int = 8) -> None:
        super().__init__()
        self.heads = heads
        self.score = nn.Linear(channels, heads)
        nn.init.zeros_(self.score.weight)
        nn.init.zeros_(self.score.bias)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(2)  # [N, C, P]
        weight = torch.softmax(self.score(flat.transpose(1, 2)), dim=1).transpose(1, 2)  # [N, heads, P]
        parts = flat.unflatten(1, (self.heads, -1))  # [N, heads, C / heads, P]
        return (parts * weight.unsqueeze(2)).sum(dim=3).flatten(1)
