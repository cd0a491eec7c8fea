"""NETWORKS: every network that evaluation can ask for, by name. A protocol maps its roles to these names.

A frame network makes one feature per frame, a window network one per window of frames, a pair network one distance per
pair of frames. All run in float32 and evaluation mode; `load` opens the weights strictly and never substitutes others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from pipelines.clip import Frames
from pipelines.errors import UserError
from pipelines.extractors.i3d import I3D
from pipelines.extractors.inception import Inception
from pipelines.extractors.lpips import LpipsVgg, StandinLpips
from pipelines.extractors.standin import STANDIN_FRAMES, STANDIN_WINDOWS

Features = npt.NDArray[np.float32]


@runtime_checkable
class FeatureNetwork(Protocol):
    """Frames [N, H, W, 3] or windows [N, S, H, W, 3], uint8 -> features [N, D] float32."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    def weights_digest(self) -> str: ...
    def load(self, device: str) -> Callable[[Frames], Features]: ...


class PairNetwork(Protocol):
    """Two [T, H, W, 3] uint8 -> distance [T] float64."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    def weights_digest(self) -> str: ...
    def load(self, device: str, value_range: tuple[float, float]) -> Callable[[Frames, Frames], npt.NDArray[np.float64]]: ...


FEATURE_NETWORKS: Mapping[str, FeatureNetwork] = {
    network.name: network for network in (Inception(), I3D(), STANDIN_FRAMES, STANDIN_WINDOWS)
}
PAIR_NETWORKS: Mapping[str, PairNetwork] = {network.name: network for network in (LpipsVgg(), StandinLpips())}


def feature_network(name: str) -> FeatureNetwork:
    """Look a feature network up; UserError lists what there is."""
    if name not in FEATURE_NETWORKS:
        raise UserError(f"no feature network {name!r}; there are: {', '.join(FEATURE_NETWORKS)}")
    return FEATURE_NETWORKS[name]


def pair_network(name: str) -> PairNetwork:
    """Look a pair network up; UserError lists what there is."""
    if name not in PAIR_NETWORKS:
        raise UserError(f"no pair network {name!r}; there are: {', '.join(PAIR_NETWORKS)}")
    return PAIR_NETWORKS[name]
