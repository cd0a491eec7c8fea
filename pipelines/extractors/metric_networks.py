"""Every network that evaluation can ask for, by name. A protocol maps its roles to these names.

A frame network makes one feature per frame, a window network one per window of frames, a pair network one distance per
pair of frames, a flow network one motion field per pair of frames. All run in float32 and evaluation mode; `load` opens the
weights strictly and never substitutes others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from pipelines.clip import Frames
from pipelines.errors import UserError
from pipelines.extractors.i3d import I3D, I3D_CENTER_CROP, I3D_TINY
from pipelines.extractors.i3d_kinetics400 import I3D_400, I3D_400_EPS5
from pipelines.extractors.inception import INCEPTION_TINY, Inception
from pipelines.extractors.inception_pytorch_fid import InceptionPytorchFid
from pipelines.extractors.lpips import LPIPS_ALEX, LPIPS_TINY, LPIPS_VGG, PairDistance, StandinLpips
from pipelines.extractors.metric_people import PEOPLE_NETWORKS, TINY_PEOPLE_NETWORKS
from pipelines.extractors.raft import RAFT_EVALCRAFTER, RAFT_LARGE, RAFT_THINGS, RAFT_TINY, PairFlow
from pipelines.extractors.resnet3d import RESNET3D_TINY, ResNet3D
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
    """Two [T, H, W, 3] uint8 -> distance [T] float64, of whole frames and of regions."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    def weights_digest(self) -> str: ...
    def load(self, device: str, value_range: tuple[float, float]) -> PairDistance: ...


class FlowNetwork(Protocol):
    """A run of frames [N, H, W, 3] uint8 -> flows [N - 1, 2, h, w] float32 (x, y) to the next frame and back, and the images they belong to."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    def weights_digest(self) -> str: ...
    def load(self, device: str) -> PairFlow: ...


_FRAMES = (Inception(), InceptionPytorchFid(), STANDIN_FRAMES)
_WINDOWS = (I3D(), I3D_CENTER_CROP, I3D_400, I3D_400_EPS5, ResNet3D(), STANDIN_WINDOWS)
_TINY = (INCEPTION_TINY, I3D_TINY, RESNET3D_TINY, *TINY_PEOPLE_NETWORKS)  # of the tiny family

FEATURE_NETWORKS: Mapping[str, FeatureNetwork] = {network.name: network for network in (*_FRAMES, *_WINDOWS, *PEOPLE_NETWORKS, *_TINY)}
PAIR_NETWORKS: Mapping[str, PairNetwork] = {network.name: network for network in (LPIPS_VGG, LPIPS_ALEX, StandinLpips(), LPIPS_TINY)}
FLOW_NETWORKS: Mapping[str, FlowNetwork] = {network.name: network for network in (RAFT_LARGE, RAFT_THINGS, RAFT_EVALCRAFTER, RAFT_TINY)}


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


def flow_network(name: str) -> FlowNetwork:
    """Look a flow network up; UserError lists what there is."""
    if name not in FLOW_NETWORKS:
        raise UserError(f"no flow network {name!r}; there are: {', '.join(FLOW_NETWORKS)}")
    return FLOW_NETWORKS[name]
