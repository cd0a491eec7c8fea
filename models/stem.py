"""Adding features to a UNet's stem: where pose guiders and hints meet the noisy latents."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


class StemAddition:
    """Adds features [N, C, h, w] to the output of `conv_in`, through a forward hook (conv_in is in no checkpointed block)."""

    def __init__(self, conv_in: nn.Module) -> None:
        self._features: Tensor | None = None
        conv_in.register_forward_hook(self._add)

    @contextmanager
    def adding(self, features: Tensor | None) -> Iterator[None]:
        """Add `features` to every pass inside; None adds nothing."""
        self._features = features
        try:
            yield
        finally:
            self._features = None

    def _add(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return output if self._features is None else output + self._features
