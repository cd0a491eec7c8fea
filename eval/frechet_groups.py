"""Feature rows of one set, read clip by clip, in groups of clips: what a Frechet distance and its jackknife need, in constant memory.

Rows are held as they are while they are few: up to D in all, or up to a third of D in every group; or all of them, where it is known
beforehand that they are few enough (`frechet_interval.most_rows_held`). That is where the ways on rows are the better ones (`frechet.py`,
`frechet_left_out.py`). From then on a group's rows go over into its count, mean and scatter (Chan, Golub and LeVeque 1983), and nothing
grows with the number of clips. For one set of G = 20 groups, at most, in MB:

    D                                  64    400    2048
    rows waiting, float32             1.3    8.2     112      G max(D / 3, 256) D 4 bytes
    scatters, lower triangles         0.3     13     336      G D (D + 1) / 2 8 bytes

and a few matrices [D, D] while they are worked on (34 each in 2,048 dimensions).

N = samples, D = feature dimensions, G = groups
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from eval.frechet import Array, FeatureStatistics, lower_scatter, refuse_non_numbers, square_root_rows, unpacked

if TYPE_CHECKING:
    import torch

LOW_RANK = 1 / 3  # rows of a group over D up to which they are worth more than their scatter
HELD_BYTES = 112_000_000  # of one set's rows, float32
FEWEST_HELD = 256  # rows of a group that are held in any case: a scatter of few dimensions is not made again for each clip
Float32 = npt.NDArray[np.float32]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False, kw_only=True)
class Groups(ABC):
    """Statistics of a set in G groups, and of what is left without each group.

    mean: [D] of all rows;  counts: [G] rows of each group;  float32_means: [1 + G, D] of everything, then without each group, every
    sum and quotient in float32, row after row in the order of clips, as np.mean takes them; None where they are not asked for
    """

    mean: Array
    counts: Counts
    float32_means: Float32 | None = None

    @property
    def dimensions(self) -> int:
        return self.mean.size

    @property
    def n(self) -> int:
        return int(self.counts.sum())

    @property
    def counts_left(self) -> Counts:
        """[G] rows without each group."""
        return self.n - self.counts

    @cached_property
    @abstractmethod
    def sums(self) -> Array:
        """[G, D] sum of the rows of each group minus `mean`."""

    @cached_property
    @abstractmethod
    def squares(self) -> Array:
        """[G] sum of squares of the same rows."""

    @cached_property
    @abstractmethod
    def scatter(self) -> torch.Tensor:
        """[D, D] of all rows around `mean`, as `lower`."""

    @property
    def trace(self) -> float:
        """Of the covariance."""
        return float(self.squares.sum()) / (self.n - 1)

    @property
    @abstractmethod
    def centred(self) -> Array:
        """[M, D] with this scatter: the rows minus `mean`, or D others."""

    @abstractmethod
    def lost_scatter(self, group: int) -> torch.Tensor:
        """[D, D] what the scatter falls by without the group, each around its own mean; as `lower`."""

    @cached_property
    def covariance(self) -> torch.Tensor:
        """[D, D], as `lower`."""
        return self.scatter / (self.n - 1)

    def covariance_without(self, group: int) -> torch.Tensor:
        """[D, D], as `lower`."""
        return (self.scatter - self.lost_scatter(group)).div_(int(self.counts_left[group]) - 1)

    @property
    def means_left(self) -> Array:
        """[G, D] means without each group."""
        return np.asarray(self.mean - self.sums / self.counts_left[:, None])

    @property
    def traces_left(self) -> Array:
        """[G] traces of the covariances without each group."""
        lost = self.squares + np.square(self.sums).sum(axis=1) / self.counts_left
        return np.asarray((float(self.scatter.trace()) - lost) / (self.counts_left - 1))

    def shift(self, other: Groups) -> float:
        """|mu_a - mu_b|^2; in float32 where both sets have such means."""
        if self.float32_means is not None and other.float32_means is not None:
            shift = self.float32_means[0] - other.float32_means[0]
            return float(shift.dot(shift))
        return float(np.square(self.mean - other.mean).sum())

    def shifts_left(self, other: Groups) -> Array:
        """[G] the same without each group."""
        if self.float32_means is not None and other.float32_means is not None:
            return np.array([float(shift.dot(shift)) for shift in self.float32_means[1:] - other.float32_means[1:]])
        return np.asarray(np.square(self.means_left - other.means_left).sum(axis=1))


@dataclass(frozen=True, eq=False, kw_only=True)
class GroupedRows(Groups):
    """rows: [N, D] minus `mean`, group after group."""

    rows: Array

    @classmethod
    def of(cls, groups: Sequence[Sequence[npt.ArrayLike]], float32_means: Float32 | None = None) -> GroupedRows:
        """From the [n_i, D] rows of the clips of each group."""
        clips = [[rows_of(clip) for clip in group] for group in groups]
        rows = np.concatenate([clip for group in clips for clip in group], dtype=np.float64)
        refuse_non_numbers(rows)
        mean = rows.mean(axis=0)
        rows -= mean
        return cls(mean=mean, counts=np.array([sum(map(len, group)) for group in clips]), float32_means=float32_means, rows=rows)

    @cached_property
    def groups(self) -> list[Array]:
        return np.split(self.rows, np.cumsum(self.counts)[:-1])

    @cached_property
    def sums(self) -> Array:
        return np.stack([group.sum(axis=0) for group in self.groups])

    @cached_property
    def squares(self) -> Array:
        return np.array([np.square(group).sum() for group in self.groups])

    @cached_property
    def scatter(self) -> torch.Tensor:
        return lower_scatter(self.rows)

    @property
    def centred(self) -> Array:
        return self.rows

    def lost_rows(self, group: int) -> Array:
        """[n_g, D] rows L with: scatter without the group = scatter - L^T L (each around its own mean).

        With centred X of the group and t the sum of its rows, that is X^T X + t t^T / n = X^T (I + 1 1^T / n) X, n = rows that are
        left; L is the symmetric root of the bracket times X.
        """
        x, n = self.groups[group], self.counts_left[group]
        return np.asarray(x + self.sums[group] * ((np.sqrt(1 + len(x) / n) - 1) / len(x)))

    def lost_scatter(self, group: int) -> torch.Tensor:
        return lower_scatter(self.lost_rows(group))

    def merged(self, groups: int) -> GroupedRows:
        """The same rows in fewer groups, each of every `groups`-th one; float32 sums without a group cannot be had from these."""
        parts = [self.groups[group::groups] for group in range(groups)]
        counts = np.array([sum(map(len, part)) for part in parts])
        return GroupedRows(mean=self.mean, counts=counts, rows=np.concatenate([rows for part in parts for rows in part]))

    def lost_in(self, coordinates: torch.Tensor) -> torch.Tensor:
        """[G, r, D] float32: `lost_rows`, scaled to the covariance, times coordinates [D, D]; zeros where a group has fewer rows."""
        import torch

        rows = torch.from_numpy(self.rows).float() @ (coordinates / np.sqrt(self.n - 1)).float()
        if (self.counts == self.counts[0]).all():
            lost = rows.view(len(self.counts), -1, self.dimensions)
        else:
            lost = torch.nn.utils.rnn.pad_sequence(list(rows.split(self.counts.tolist())), batch_first=True)
        for group, (count, left) in enumerate(zip(self.counts.tolist(), self.counts_left.tolist(), strict=True)):
            lost[group, :count] += lost[group, :count].sum(0) * ((np.sqrt(1 + count / left) - 1) / count)
        found: torch.Tensor = lost
        return found


@dataclass(frozen=True, eq=False, kw_only=True)
class GroupedScatters(Groups):
    """group_means: [G, D];  packed: of each group the scatter around its own mean, lower triangle."""

    group_means: Array
    packed: Sequence[torch.Tensor]

    @cached_property
    def sums(self) -> Array:
        return np.asarray((self.group_means - self.mean) * self.counts[:, None])

    @cached_property
    def squares(self) -> Array:
        diagonal = np.cumsum(np.arange(1, self.dimensions + 1)) - 1  # of a packed lower triangle
        own = np.array([float(packed[diagonal].sum()) for packed in self.packed])
        return np.asarray(own + np.square(self.sums).sum(axis=1) / self.counts)

    @cached_property
    def scatter(self) -> torch.Tensor:
        scatter = lower_scatter(self.sums / np.sqrt(self.counts)[:, None])  # between the groups
        for packed in self.packed:
            scatter += unpacked(packed, self.dimensions)
        return scatter

    @property
    def centred(self) -> Array:
        return square_root_rows(self.scatter)

    def lost_scatter(self, group: int) -> torch.Tensor:
        between = self.sums[group] * np.sqrt(1 / self.counts[group] + 1 / self.counts_left[group])
        return unpacked(self.packed[group], self.dimensions).add_(lower_scatter(between[None]))


class GroupedClips:
    """Takes the clips of one set one after another, in turn into `groups` groups; holds no more than the top of this file says.

    The order of clips should be fixed (sorted ids): rounding, and which group a clip is in, follow from it. hold_rows: all of them;
    float32_means: also keep means as float32 code takes them.
    """

    def __init__(self, groups: int, *, hold_rows: bool = False, float32_means: bool = False) -> None:
        self.clips, self.n, self.dimensions = 0, 0, 0
        self.counts = np.zeros(groups, np.int64)
        self._waiting: list[list[npt.NDArray[Any]]] = [[] for _ in range(groups)]
        self._folded: list[FeatureStatistics | None] = [None] * groups
        self._float32_sums: Float32 | None = None
        self._hold_rows, self._float32 = hold_rows, float32_means

    def add(self, clip: npt.ArrayLike) -> None:
        """[n_i, D] feature rows of the next clip, n_i >= 1. Raises ValueError for NaN, infinity or another D."""
        rows, group = rows_of(clip), self.clips % len(self._waiting)
        refuse_non_numbers(rows)
        if self.clips and rows.shape[1] != self.dimensions:
            raise ValueError(f"feature dimensions differ: {self.dimensions} and {rows.shape[1]}")
        self.clips, self.n, self.dimensions = self.clips + 1, self.n + len(rows), rows.shape[1]
        self.counts[group] += len(rows)
        self._waiting[group].append(rows)
        if self._float32:
            self._add_float32(rows, group)
        if (
            not self._hold_rows
            and self.n > self.dimensions
            and sum(map(len, self._waiting[group])) > max(LOW_RANK * self.dimensions, FEWEST_HELD)
        ):
            self._fold(group)

    def _fold(self, group: int) -> None:
        if self._waiting[group]:
            rows = np.concatenate(self._waiting[group], dtype=np.float64)
            self._waiting[group] = []
            before = self._folded[group]
            self._folded[group] = FeatureStatistics.of(rows) if before is None else before.extend(rows)

    def _add_float32(self, rows: npt.NDArray[Any], group: int) -> None:
        if self._float32_sums is None:
            self._float32_sums = np.zeros((1 + len(self._waiting), rows.shape[1]), np.float32)
        others = np.arange(len(self._float32_sums)) != 1 + group
        sums = self._float32_sums[others]
        for row in rows.astype(np.float32):
            sums += row
        self._float32_sums[others] = sums

    def groups(self) -> Groups:
        """Of all clips so far; at least one clip in every group."""
        means = None
        if self._float32_sums is not None:
            counts = np.array([self.n, *(self.n - self.counts)], np.float32)
            means = self._float32_sums / np.maximum(counts, 1)[:, None]
        if not any(self._folded):
            return GroupedRows.of(self._waiting, means)
        for group in range(len(self._waiting)):
            self._fold(group)
        folded = [group for group in self._folded if group is not None]
        group_means = np.stack([group.mean for group in folded])
        mean = (group_means * (self.counts / self.n)[:, None]).sum(axis=0)
        packed = [group.packed for group in folded]
        return GroupedScatters(mean=mean, counts=self.counts.copy(), float32_means=means, group_means=group_means, packed=packed)


def rows_of(clip: npt.ArrayLike) -> npt.NDArray[Any]:
    """[N, D] as an array. Raises ValueError for another shape."""
    rows = np.asarray(clip)
    if rows.ndim != 2 or len(rows) == 0:
        raise ValueError(f"features must be [N, D] with N >= 1, got shape {rows.shape}")
    return rows
