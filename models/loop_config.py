"""What shapes a training run, and at which of its steps something is looked at."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

Optimizer = Literal["adamw", "adamw_8bit", "adam"]
Precision = Literal["float32", "bfloat16", "float16"]
Device = Literal["cpu", "cuda"]

_NOT_SHAPING = ("probes", "pictures", "save_every_s", "device", "workers", "tensorboard")


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopConfig:
    """How long and how fast. Betas .9/.999, eps 1e-8 (documented default: the papers name no others)."""

    steps: int
    learning_rate: float
    warmup_steps: int = 1
    weight_decay: float = 1e-2  # decoupled (Loshchilov & Hutter 2019); "adam" has none
    clip_norm: float = 1.0
    decay: Literal["constant", "cosine"] = "constant"  # cosine: to a twentieth of the rate, for short runs
    ema_decay: float | None = 0.99  # of the weights that are saved; None = the last ones
    accumulation: int = 1  # micro-batches per step, over all workers
    probes: int = 20  # evaluations of the probe loss over the run, the first before any step; the loss by noise level is noted with them
    pictures: int = 4  # periodic samples over the run, each a picture and its measures
    save_every_s: float = 20.0  # resume state
    optimizer: Optimizer = "adamw"  # adamw_8bit: moments in 8 bits per value (Dettmers et al. 2022), needs bitsandbytes
    device: Device = "cpu"  # where a stage puts its networks; the loop itself works where the parameters lie
    precision: Precision = "float32"  # of the arithmetic; weights, moments and averages stay float32
    gradient_checkpointing: bool = (
        False  # forget activations and compute them again in the backward pass: less memory, about a third slower
    )
    workers: int = 1  # processes that share the micro-batches of every step
    tensorboard: bool = False  # event files beside the checkpoint

    def __post_init__(self) -> None:
        if self.steps < 1 or self.accumulation < 1:
            raise ValueError(f"steps={self.steps} and accumulation={self.accumulation} must be at least 1")
        if not 1 <= self.workers <= self.accumulation:
            raise ValueError(
                f"workers={self.workers} must be at least 1 and at most accumulation={self.accumulation}: "
                "they share the micro-batches of a step, and each needs one"
            )

    def shaping(self) -> dict[str, Any]:
        """The fields that decide what is learnt; left out: where it is computed and how often it is looked at."""
        return {name: value for name, value in asdict(self).items() if name not in _NOT_SHAPING}


def on_gpu(loop: LoopConfig) -> LoopConfig:
    """The loop as networks of the papers' sizes need it: a GPU, bfloat16, and activations that are computed twice instead of kept."""
    return replace(loop, device="cuda", precision="bfloat16", gradient_checkpointing=True)


def paper_loop(steps: int, accumulation: int = 1, optimizer: Optimizer = "adamw") -> LoopConfig:
    """How the papers' networks are fine-tuned unless a paper says otherwise: on a GPU at 1e-5 (AnimateAnyone), keeping the last weights."""
    return on_gpu(LoopConfig(steps=steps, learning_rate=1e-5, optimizer=optimizer, accumulation=accumulation, ema_decay=None))


def rate_at(config: LoopConfig, step: int) -> float:
    """Learning rate of a step: linear warm-up, then constant or a cosine."""
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    fall = 1.0 if config.decay == "constant" else 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / config.steps))
    return config.learning_rate * warm * fall


def probe_steps(config: LoopConfig) -> set[int]:
    """Steps after which the probe loss is taken, evenly spread; 0 is before the first step."""
    if config.probes <= 1:
        return {config.steps}
    return {round(i * config.steps / (config.probes - 1)) for i in range(config.probes)}


def sample_steps(config: LoopConfig) -> set[int]:
    """Steps after which samples are made and measured: `pictures` of them, evenly spread, the last one among them."""
    return {max(1, round((i + 1) * config.steps / config.pictures)) for i in range(config.pictures)}
