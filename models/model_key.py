"""Which model: method, variant and seed."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.errors import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelKey:
    """Which model: method, variant and seed; written method:variant:seed."""

    method: str
    variant: str
    seed: int

    @classmethod
    def parse(cls, text: str) -> ModelKey:
        """From `animate_anyone:demo:0`; the variant and seed may be left out. Raises UserError."""
        method, _, rest = text.partition(":")
        variant, _, seed = rest.partition(":")
        if seed and not seed.isdecimal():
            raise UserError(f"model {text!r}: the seed must be a number; write method:variant:seed, as in animate_anyone:demo:0")
        return cls(method=method, variant=variant or _default_variant(method), seed=int(seed or 0))

    def __str__(self) -> str:
        return f"{self.method}:{self.variant}:{self.seed}"


def _default_variant(method: str) -> str:
    from models.methods import method_named  # loads torch

    return method_named(method).default_variant
