"""A network small enough to train in milliseconds, whose loss depends on noise levels as a diffusion's does; also run as a worker process."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.noise_levels import NoiseLevels, losses_of_rows, timestep_levels
from models.training_loop import LoopConfig, LossAt, StepRecord, train

SHARED = LoopConfig(steps=8, learning_rate=0.05, save_every_s=0.0, probes=5, pictures=2, accumulation=4)


class Toy(nn.Module):
    """Predicts the sum of four noisy numbers. `idle` never gets a gradient, `level` is a scalar."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
        self.idle = nn.Parameter(torch.full((3,), 2.0))
        self.level = nn.Parameter(torch.tensor(0.5))

    def forward(self, inputs: Tensor, timesteps: Tensor) -> Tensor:
        return self.body(inputs) + self.level * timesteps[:, None] / 1000


def toy_loss(network: nn.Module, levels: NoiseLevels | None = None, rows: int = 16) -> LossAt:
    """Everything random comes from the generator."""

    def loss_at(micro: int, generator: torch.Generator) -> Tensor:
        clean = torch.randn(rows, 4, generator=generator)
        timesteps = torch.randint(0, 1000, (rows,), generator=generator)
        noisy = clean + torch.randn(rows, 4, generator=generator) * timesteps[:, None] / 1000
        prediction, target = network(noisy, timesteps), clean.sum(1, keepdim=True)
        if levels is not None:
            levels.add(timesteps, losses_of_rows(prediction, target, torch.ones(()), rows))
        return (prediction - target).square().mean()

    return loss_at


def run_toy(
    folder: Path,
    config: LoopConfig = SHARED,
    *,
    seed: int = 0,
    at: Callable[[int], None] = lambda micro: None,
    with_levels: bool = True,
    **watch: Any,
) -> tuple[list[StepRecord], Toy]:
    """Train into folder/state. seed: of the network's start.  at: called with every micro-step before its loss."""
    network = Toy(seed)
    levels = timestep_levels() if with_levels else None
    loss, still = toy_loss(network, levels), toy_loss(network)

    def loss_at(micro: int, generator: torch.Generator) -> Tensor:
        at(micro)
        return loss(micro, generator)

    records = train(
        dict(network.named_parameters()),
        loss_at,
        config,
        seed=3,
        state_folder=folder / "state",
        label="toy",
        probe=lambda: still(0, torch.Generator().manual_seed(1)),
        levels=levels,
        **watch,
    )
    return records, network


def without_time(records: list[StepRecord]) -> list[dict[str, Any]]:
    """Rows of the log but for what a clock said."""
    return [asdict(replace(record, seconds=0.0)) for record in records]


def norm_of_level(network: Toy) -> Callable[[int], Mapping[str, float]]:
    """A metric that follows the weights."""
    return lambda step: {"level": network.level.item(), "step": float(step)}


def work(rank: int, count: int, meeting: str, out: str) -> None:
    """One of `count` processes that train together; leaves its log and its weights in `out`."""
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=count)
    folder = Path(out)
    # every worker begins with other weights: the leader's must win
    records, network = run_toy(folder, replace(SHARED, workers=count), seed=rank, metric=lambda step: {"half": step / 2})
    (folder / f"records-{rank}.json").write_text(json.dumps(without_time(records)))
    save_file({name: p.detach() for name, p in network.named_parameters()}, folder / f"weights-{rank}.safetensors")
    dist.destroy_process_group()


if __name__ == "__main__":
    work(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
