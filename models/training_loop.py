"""The one training loop: AdamW, warm-up, gradient clipping, EMA, probes, pictures, and resume to the identical next loss.

Everything random in a step comes from (seed, step), so a resumed run sees the batches that it would have seen.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipelines.progress import Progress


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopConfig:
    """How long and how fast. AdamW with betas .9/.999, eps 1e-8 (documented default: the paper names no optimiser)."""

    steps: int
    learning_rate: float
    warmup_steps: int = 1
    weight_decay: float = 1e-2
    clip_norm: float = 1.0
    decay: Literal["constant", "cosine"] = "constant"  # cosine: to a twentieth of the rate, for short runs
    ema_decay: float | None = 0.99  # of the weights that are saved; None = the last ones
    accumulation: int = 1  # micro-batches per step
    probes: int = 20  # evaluations of the probe loss over the run, the first before any step
    pictures: int = 4  # periodic samples over the run
    save_every_s: float = 20.0  # resume state

    def __post_init__(self) -> None:
        if self.steps < 1 or self.accumulation < 1:
            raise ValueError(f"steps={self.steps} and accumulation={self.accumulation} must be at least 1")


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One row of the training log. probe_loss: the loss at fixed noise and timesteps, on some steps only."""

    step: int
    loss: float | None
    probe_loss: float | None
    learning_rate: float
    gradient_norm: float | None
    seconds: float


LossAt = Callable[[int, torch.Generator], Tensor]
"""(micro-step, generator) -> scalar loss of that micro-step's batch."""


def generator_for(seed: int, step: int) -> torch.Generator:
    """The generator of one micro-step."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step * 7_919 + 12_345) % 2**63)


class TrainingState:
    """Weights in training, their running average, the optimiser's moments and the log, as files that appear whole."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], config: LoopConfig) -> None:
        self.parameters, self.config = dict(parameters), config
        self.optimizer = torch.optim.AdamW(list(parameters.values()), lr=config.learning_rate, weight_decay=config.weight_decay)
        self.average = {name: p.detach().clone() for name, p in parameters.items()}
        self.step, self.records = 0, list[StepRecord]()

    def save(self, folder: Path) -> None:
        """Write to `folder`, replacing what was there in one rename."""
        partial = folder.with_name(f".{folder.name}.{os.getpid()}.part")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_file({name: p.detach().contiguous() for name, p in self.parameters.items()}, partial / "weights.safetensors")
        save_file({name: p.contiguous() for name, p in self.average.items()}, partial / "average.safetensors")
        save_file(self._moments(), partial / "moments.safetensors")
        (partial / "state.json").write_text(json.dumps({"step": self.step, "records": [asdict(r) for r in self.records]}))
        replace_folder(partial, folder)

    def load(self, folder: Path) -> bool:
        """Continue from `folder`; False where there is nothing to continue from."""
        settle_folder(folder)
        if not (folder / "state.json").is_file():
            return False
        facts = json.loads((folder / "state.json").read_text())
        self.step, self.records = facts["step"], [StepRecord(**record) for record in facts["records"]]
        weights, average, moments = (load_file(folder / f"{name}.safetensors") for name in ("weights", "average", "moments"))
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(weights[name])
                self.average[name].copy_(average[name])
        for name, parameter in self.parameters.items():
            if f"{name}.first" in moments:
                self.optimizer.state[parameter] = {
                    "step": moments[f"{name}.step"],
                    # like the parameter: on its device, in its memory layout
                    "exp_avg": torch.empty_like(parameter).copy_(moments[f"{name}.first"]),
                    "exp_avg_sq": torch.empty_like(parameter).copy_(moments[f"{name}.second"]),
                }
        return True

    def _moments(self) -> dict[str, Tensor]:
        moments: dict[str, Tensor] = {}
        for name, parameter in self.parameters.items():
            state: dict[str, Any] = self.optimizer.state.get(parameter, {})
            if state:
                held = {"step": state["step"], "first": state["exp_avg"], "second": state["exp_avg_sq"]}
                moments |= {f"{name}.{what}": value.contiguous() for what, value in held.items()}
        return moments

    def take_step(self, loss: float) -> tuple[float, float]:
        """Clip, step, average; returns (learning rate, gradient norm)."""
        rate = rate_at(self.config, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        norm = float(nn.utils.clip_grad_norm_(self.parameters.values(), self.config.clip_norm))
        if not torch.isfinite(torch.tensor([loss, norm])).all():
            raise FloatingPointError(f"loss {loss} and gradient norm {norm} at step {self.step}; lower the learning rate")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self._update_average()
        return rate, norm

    def _update_average(self) -> None:
        decay = self.config.ema_decay
        keep = 0.0 if decay is None else min(decay, (1 + self.step) / (10 + self.step))  # short memory at first
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                self.average[name].lerp_(parameter, 1 - keep)

    def finish(self) -> None:
        """Put the running average into the network."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(self.average[name])


def settle_threads() -> None:
    """Ask for the number of threads that there are: unasked, the libraries below torch choose for themselves, and results differ in the last bits."""
    torch.set_num_threads(torch.get_num_threads())


def rate_at(config: LoopConfig, step: int) -> float:
    """Learning rate of a step: linear warm-up, then constant or a cosine."""
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    fall = 1.0 if config.decay == "constant" else 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / config.steps))
    return config.learning_rate * warm * fall


def replace_folder(new: Path, folder: Path) -> None:
    """Put `new` where `folder` is; a kill in between leaves one of the two, which `settle_folder` finds."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def settle_folder(folder: Path) -> None:
    """Undo a replacement that was cut off between its two renames."""
    old = folder.with_name(f".{folder.name}.old")
    if old.exists() and not folder.exists():
        old.rename(folder)


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Losses near zero produce denormals, which slow a CPU many times. Only inside: the arithmetic of whatever runs next keeps them."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@flushed_denormals()
def train(
    parameters: Mapping[str, nn.Parameter],
    loss_at: LossAt,
    config: LoopConfig,
    *,
    seed: int,
    state_folder: Path,
    label: str,
    probe: Callable[[], Tensor],
    picture: Callable[[int], None] | None = None,
    on_record: Callable[[StepRecord], None] | None = None,
) -> list[StepRecord]:
    """Run (or continue) `config.steps` steps and leave the averaged weights in the network; returns the whole log."""
    state = TrainingState(parameters, config)
    state.load(state_folder)
    started, saved = time.monotonic(), time.monotonic()
    past = state.records[-1].seconds if state.records else 0.0
    probe_steps = {round(i * config.steps / (config.probes - 1)) for i in range(config.probes)} if config.probes > 1 else {config.steps}
    picture_steps = {round((i + 1) * config.steps / config.pictures) for i in range(config.pictures)} if config.pictures else set()
    if state.step == 0 and not state.records and 0 in probe_steps:
        state.records.append(StepRecord(0, None, _value(probe), 0.0, None, 0.0))
    with closing(Progress(config.steps - state.step, "steps", label)) as bar:
        while state.step < config.steps:
            loss = _accumulate(loss_at, config, seed, state.step)
            rate, norm = state.take_step(loss)
            probed = _value(probe) if state.step in probe_steps else None
            state.records.append(StepRecord(state.step, loss, probed, rate, norm, past + time.monotonic() - started))
            if on_record is not None:
                on_record(state.records[-1])
            if picture is not None and state.step in picture_steps:
                picture(state.step)
            if time.monotonic() - saved > config.save_every_s and state.step < config.steps:
                state.save(state_folder)
                saved = time.monotonic()
            bar.update(1)
    state.save(state_folder)
    state.finish()
    return state.records


def _accumulate(loss_at: LossAt, config: LoopConfig, seed: int, step: int) -> float:
    """Backward passes of one step's micro-batches; returns their mean loss."""
    total = 0.0
    for micro in range(step * config.accumulation, (step + 1) * config.accumulation):
        loss = loss_at(micro, generator_for(seed, micro)) / config.accumulation
        loss.backward()
        total += loss.item()
    return total


def _value(probe: Callable[[], Tensor]) -> float:
    with torch.no_grad():
        return float(probe())


def loss_fall(records: list[StepRecord]) -> float | None:
    """Mean probe loss of the last fifth over that of the first fifth; None with fewer than five probes."""
    probes = [record.probe_loss for record in records if record.probe_loss is not None]
    fifth = len(probes) // 5
    if fifth == 0:
        return None
    return (sum(probes[-fifth:]) / fifth) / (sum(probes[:fifth]) / fifth)
