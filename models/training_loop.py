"""The one training loop: warm-up, accumulation over micro-batches and workers, mixed precision, clipping, EMA, probes, samples, metrics,
the loss by noise level, and resume to the identical next loss.

Everything random in a step comes from (seed, step), so a resumed run sees the batches that it would have seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from models.distributed_training import Workers, add_up_step, all_finished, begin_together, workers_at_hand
from models.loop_config import LoopConfig, probe_steps, rate_at, sample_steps
from models.noise_levels import NoiseLevels
from models.precision import mixed
from models.tensorboard_log import open_log, tensorboard_folder
from models.training_state import StepRecord, TrainingState
from models.whole_folder import replace_folder, settle_folder
from pipelines.progress import Progress

__all__ = [
    "LoopConfig",
    "LossAt",
    "StepRecord",
    "TrainingState",
    "flushed_denormals",
    "generator_for",
    "loss_fall",
    "rate_at",
    "replace_folder",
    "settle_folder",
    "settle_threads",
    "train",
]

LossAt = Callable[[int, torch.Generator], Tensor]
"""(micro-step, generator) -> scalar loss of that micro-step's batch."""


def generator_for(seed: int, step: int) -> torch.Generator:
    """The generator of one micro-step."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step * 7_919 + 12_345) % 2**63)


def settle_threads() -> None:
    """Ask for the number of threads that there are: unasked, the libraries below torch choose for themselves, and results differ in the last bits."""
    torch.set_num_threads(torch.get_num_threads())


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Losses near zero produce denormals, which slow a CPU many times. Only inside: the arithmetic of whatever runs next keeps them."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Watch:
    """What is looked at while the weights change."""

    probe: Callable[[], Tensor]
    picture: Callable[[int], None] | None
    metric: Callable[[int], Mapping[str, float]] | None
    on_record: Callable[[StepRecord], None] | None


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
    metric: Callable[[int], Mapping[str, float]] | None = None,
    on_record: Callable[[StepRecord], None] | None = None,
    levels: NoiseLevels | None = None,
    held: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> list[StepRecord]:
    """Run (or continue) `config.steps` steps and leave the averaged weights in the network; returns the whole log.

    metric, picture: called with the step, one after the other, on the leader alone, a few times over the run (`config.pictures`).
    levels: to which `loss_at` adds the losses of its samples; the probe must not.
    held: stays open around the forward and the backward pass of each micro-batch: `ReferenceBank.held` with gradient checkpointing.
    """
    workers = workers_at_hand()
    state = TrainingState(parameters, config, levels)
    begin_together(state, state_folder, workers)
    run = _Run(state, workers, _Watch(probe=probe, picture=picture, metric=metric, on_record=on_record), state_folder)
    with closing(Progress(config.steps - state.step, "steps", label, shown=workers.leader)) as bar, closing(run):
        run.begin()
        while state.step < config.steps:
            run.note(add_up_step(_accumulate(loss_at, state, seed, workers, held), state, workers))
            bar.update(1)
    run.finish()
    return state.records


def _accumulate(
    loss_at: LossAt, state: TrainingState, seed: int, workers: Workers, held: Callable[[], AbstractContextManager[object]]
) -> float:
    """Backward passes of this worker's share of a step's micro-batches; returns their sum of losses over the step's number of micro-batches."""
    each, total = state.config.accumulation, 0.0
    for micro in workers.share(range(state.step * each, (state.step + 1) * each)):
        with held():
            with mixed(state.config.precision, state.device):
                loss = loss_at(micro, generator_for(seed, micro)) / each
            state.scaler.scale(loss).backward()
        total += loss.item()
    return total


class _Run:
    """The log of a run as it grows, in memory and where people look."""

    def __init__(self, state: TrainingState, workers: Workers, watch: _Watch, state_folder: Path) -> None:
        config = state.config
        self.state, self.workers, self.watch, self.state_folder = state, workers, watch, state_folder
        self.probed, self.sampled = probe_steps(config), sample_steps(config)
        self.started = self.saved = time.monotonic()
        self.past = state.records[-1].seconds if state.records else 0.0
        wanted = config.tensorboard and workers.leader and state.step < config.steps
        self.board = open_log(tensorboard_folder(state_folder)) if wanted else None

    def begin(self) -> None:
        """The probe before the first step."""
        if self.state.step == 0 and not self.state.records and 0 in self.probed:
            self._append(StepRecord(0, None, self._probe(), 0.0, None, 0.0))

    def note(self, loss: float) -> None:
        """Take the step whose gradients are there, look at it, and save what is needed to go on from it."""
        state, watch = self.state, self.watch
        rate, norm = state.take_step(loss)
        step, seconds = state.step, self.past + time.monotonic() - self.started
        probed = self._probe() if step in self.probed else None
        noted = state.levels.take() if state.levels is not None and (step in self.probed or step == state.config.steps) else None
        measured = dict(watch.metric(step)) if watch.metric and step in self.sampled and self.workers.leader else None
        self._append(StepRecord(step, loss, probed, rate, norm, seconds, noted, measured))
        if not self.workers.leader:
            return
        if watch.on_record is not None:
            watch.on_record(state.records[-1])
        if watch.picture is not None and step in self.sampled:
            watch.picture(step)
        self._save_sometimes()

    def finish(self) -> None:
        """Save the end, and put the averaged weights into the network."""
        if self.workers.leader:
            self.state.save(self.state_folder)
        all_finished(self.workers)
        self.state.finish()

    def close(self) -> None:
        """Close what is open."""
        if self.board is not None:
            self.board.close()

    def _append(self, record: StepRecord) -> None:
        self.state.records.append(record)
        if self.board is not None:
            self.board.add(record)

    def _probe(self) -> float:
        with torch.no_grad(), mixed(self.state.config.precision, self.state.device):
            return float(self.watch.probe())

    def _save_sometimes(self) -> None:
        config = self.state.config
        if time.monotonic() - self.saved > config.save_every_s and self.state.step < config.steps:
            self.state.save(self.state_folder)
            self.saved = time.monotonic()


def loss_fall(records: list[StepRecord]) -> float | None:
    """Mean probe loss of the last fifth over that of the first fifth; None with fewer than five probes."""
    probes = [record.probe_loss for record in records if record.probe_loss is not None]
    fifth = len(probes) // 5
    if fifth == 0:
        return None
    return (sum(probes[-fifth:]) / fifth) / (sum(probes[:fifth]) / fifth)
