"""Loss by noise level: which timesteps are learnt and which are not, as sums and counts per bin.

The mean over all noise levels hides that its high levels are easy and few; the bins show them apart.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

ByNoise = Mapping[str, Sequence[float]]
"""(sum of losses, number of samples) of each bin that saw a sample, by the bin's name."""


class NoiseLevels:
    """Sums and counts of losses per bin of the noise level, since they were last taken.

    edges: [bins - 1] rising inner edges; a level on an edge belongs to the bin above, and levels beyond the ends to the outer bins.
    names: [bins].
    """

    def __init__(self, edges: Sequence[float], names: Sequence[str]) -> None:
        if len(names) != len(edges) + 1:
            raise ValueError(f"{len(edges)} inner edges make {len(edges) + 1} bins, but there are {len(names)} names")
        self.edges, self.names = torch.tensor(edges, dtype=torch.float64), tuple(names)
        self.totals = torch.zeros(2, len(names), dtype=torch.float64)  # sums, counts
        self._pending: list[tuple[Tensor, Tensor]] = []

    def add(self, levels: Tensor, losses: Tensor) -> None:
        """Note samples of the step that is being computed: levels [N] (timesteps or log sigmas), their losses [N]."""
        if levels.ndim != 1 or levels.shape != losses.shape:
            raise ValueError(f"levels {list(levels.shape)} and losses {list(losses.shape)} must be [N] both")
        self._pending.append((levels.detach(), losses.detach()))

    def reset(self) -> None:
        """Forget everything, also what was noted in a step that was cut off and will be computed again."""
        self.totals.zero_()
        self._pending.clear()

    def pending(self) -> Tensor:
        """[2, bins] float64 sums and counts of what was noted since the last call, on the losses' device."""
        noted, self._pending = self._pending, []
        if not noted:
            return torch.zeros_like(self.totals)
        levels = torch.cat([level.double() for level, _ in noted])
        losses = torch.cat([loss.double() for _, loss in noted])
        bins = torch.bucketize(levels.to(losses.device), self.edges.to(losses.device), right=True)
        inside = bins == torch.arange(len(self.names), device=losses.device)[:, None]  # [bins, N]; a scatter would add in any order
        return torch.stack([(inside * losses).sum(1), inside.double().sum(1)])

    def take(self) -> dict[str, list[float]]:
        """Sum and count of each bin that saw a sample, and begin again."""
        sums, counts = self.totals.tolist()
        self.totals.zero_()
        return {name: [total, int(count)] for name, total, count in zip(self.names, sums, counts, strict=True) if count}


def timestep_levels(train_steps: int = 1000, bins: int = 10) -> NoiseLevels:
    """Equal bins of the timesteps 0..train_steps - 1, named "0-99", "100-199" and so on."""
    starts = [round(i * train_steps / bins) for i in range(bins + 1)]
    return NoiseLevels(starts[1:-1], [f"{low}-{high - 1}" for low, high in itertools.pairwise(starts)])


def log_sigma_levels(low: float, high: float, bins: int = 10) -> NoiseLevels:
    """Equal bins of log sigma from `low` to `high` (the outer ones open), for networks in the sense of Karras et al. 2022."""
    edges = [low + i * (high - low) / bins for i in range(bins + 1)]
    return NoiseLevels(edges[1:-1], [f"{a:.2f}..{b:.2f}" for a, b in itertools.pairwise(edges)])


def losses_of_rows(prediction: Tensor, target: Tensor, weight: Tensor, rows: int) -> Tensor:
    """[rows] weighted mean squared error of each of `rows` equal parts of the leading axes; its mean is `noise.diffusion_loss`."""
    with torch.no_grad():
        return (weight * (prediction - target).square()).reshape(rows, -1).float().mean(1)


def mean_by_noise(records: Sequence[Any]) -> dict[str, tuple[float, int]]:
    """(mean loss, samples) of each bin over training records, lowest bin first; sums and counts are added, then divided once."""
    totals: dict[str, list[float]] = {}
    for record in records:
        for name, (total, count) in (record.by_noise or {}).items():
            kept = totals.setdefault(name, [0.0, 0.0])
            kept[0], kept[1] = kept[0] + total, kept[1] + count
    return {name: (totals[name][0] / totals[name][1], int(totals[name][1])) for name in sorted(totals, key=_start)}


def _start(name: str) -> float:
    return float(name.split("..")[0]) if ".." in name else float(name.split("-")[0])
