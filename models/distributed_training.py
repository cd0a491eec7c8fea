"""Data parallel training: W workers share the micro-batches of every step, and their gradients are summed.

    g = (1 / A) sum_i g_i  over the A micro-batches of a step;  worker r computes those with i mod W = r

Micro-batches are drawn from (seed, i) alone, so W workers compute what one would, and only the order of the sum differs. Every
worker applies the same g to the same weights; they stay equal without being sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import nn

from models.loop_config import LoopConfig
from models.whole_folder import settle_folder
from pipelines.errors import UserError

if TYPE_CHECKING:
    from models.training_state import TrainingState

_BUCKET = 2**24  # values that are summed at once: 64 MiB, where all gradients of a paper's networks would be gigabytes


@dataclass(frozen=True, slots=True)
class Workers:
    """This process among those that train together. The first one leads: it writes files, shows progress and makes pictures."""

    rank: int = 0
    count: int = 1

    @property
    def leader(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def share(self, micro_steps: Sequence[int]) -> list[int]:
        """The micro-steps that this worker computes."""
        return [micro for micro in micro_steps if micro % self.count == self.rank]


def workers_at_hand() -> Workers:
    """The process group of torch.distributed that this process is in, or this process alone."""
    if not (dist.is_available() and dist.is_initialized()):
        return Workers()
    return Workers(dist.get_rank(), dist.get_world_size())


def run_on_workers(function: Callable[..., Any], config: LoopConfig, *, storage: Path, arguments: Mapping[str, Any]) -> Any:
    """`function(**arguments)`, in each of `config.workers` processes of Ray Train; returns what the leader's call returned.

    One worker, or a process that is one of several already: called here. A lost worker: all of them start again, and the loop goes on from
    its state folder. storage: a folder that every worker reaches, for Ray Train's own files. Raises UserError.
    """
    if config.workers == 1 or workers_at_hand().count > 1:
        return function(**arguments)
    from pipelines.engine_train import train_on_ray

    return train_on_ray(function, arguments, workers=config.workers, gpus=config.device == "cuda", storage=storage)


def begin_together(state: TrainingState, folder: Path, workers: Workers) -> None:
    """Load the state folder, if there is one, in every worker; all have the leader's weights afterwards. Raises UserError where some cannot see it."""
    if workers.count == 1:
        state.load(folder)
        return
    if workers.leader:
        settle_folder(folder)
    dist.barrier()
    state.load(folder)
    steps: list[int | None] = [None] * workers.count
    dist.all_gather_object(steps, state.step)
    if len(set(steps)) > 1:
        raise UserError(f"workers begin at different steps ({steps}): {folder} must be a folder that all of them share")
    with torch.no_grad():
        for tensor in (*state.parameters.values(), *state.average.values()):
            sent = tensor.detach().contiguous()
            dist.broadcast(sent, src=0)
            tensor.copy_(sent)


def add_up_step(loss: float, state: TrainingState, workers: Workers) -> float:
    """Sum losses, gradients and losses by noise level over the workers; returns the step's loss.

    A parameter without a gradient in every worker keeps none, so that the optimiser leaves it alone as it does with one worker.
    """
    parameters = list(state.parameters.values())
    levels = None if state.levels is None else state.levels.pending()
    if workers.count > 1:
        facts = torch.tensor([loss, *(float(p.grad is not None) for p in parameters)], dtype=torch.float64, device=state.device)
        small = facts if levels is None else torch.cat([levels.to(state.device).flatten(), facts])
        dist.all_reduce(small)
        levels = None if levels is None else small[: levels.numel()].view_as(levels)
        loss, *graded = small[-facts.numel() :].tolist()
        _add_up_gradients([p for p, count in zip(parameters, graded, strict=True) if count])
    if state.levels is not None and levels is not None:
        state.levels.totals += levels.cpu()
    return loss


def _add_up_gradients(parameters: Sequence[nn.Parameter]) -> None:
    for bucket in _buckets(parameters):
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in bucket]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        for parameter, gradient, total in zip(bucket, gradients, flat.split([p.numel() for p in bucket]), strict=True):
            parameter.grad = gradient.copy_(total.view_as(gradient))


def _buckets(parameters: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    bucket, size = list[nn.Parameter](), 0
    for parameter in parameters:
        if bucket and size + parameter.numel() > _BUCKET:
            yield bucket
            bucket, size = [], 0
        bucket.append(parameter)
        size += parameter.numel()
    if bucket:
        yield bucket


def all_finished(workers: Workers) -> None:
    """Wait for one another: what the leader writes is there when any worker goes on."""
    if workers.count > 1:
        dist.barrier()
