"""The networks of a protocol: digests first, weights only when a clip needs them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from eval.metrics.lpips import Distance
from eval.protocol import Protocol
from pipelines.clip import Frames
from pipelines.errors import MissingWeightsError, UserError
from pipelines.extractors.metric_networks import FeatureNetwork, PairNetwork, feature_network, pair_network
from pipelines.lake import Lake

FeatureRole = str  # "fid" or "fvd"
FeatureFunction = Callable[[Frames], npt.NDArray[np.float32]]


class MetricNetworks:
    """Networks of the protocol's roles. Raises MissingWeightsError at construction where a file is not at hand."""

    def __init__(self, protocol: Protocol, device: str = "cpu") -> None:
        self._protocol, self._device = protocol, device
        self.pair: PairNetwork = pair_network(protocol.networks["lpips"])
        self.features: dict[FeatureRole, FeatureNetwork] = {
            "fid": feature_network(protocol.networks["fid"]),
            "fvd": feature_network(protocol.networks["fvd"]),
        }
        self.digests: dict[str, str] = {
            "lpips": self.pair.weights_digest(),
            **{role: network.weights_digest() for role, network in self.features.items()},
        }
        self._loaded: dict[FeatureRole, FeatureFunction] = {}

    @cached_property
    def distance(self) -> Distance:
        """The LPIPS network, loaded on first use."""
        return self.pair.load(self._device, self._protocol.lpips_range)

    def feature_function(self, role: FeatureRole) -> FeatureFunction:
        """The feature network of a role, loaded on first use."""
        if role not in self._loaded:
            self._loaded[role] = self.features[role].load(self._device)
        return self._loaded[role]


def current_digests(lake: Lake, protocol: Protocol) -> dict[str, str]:
    """role -> digest of the network whose rows make up today's table.

    The digest of the file at hand; where none is (tables can be made without the networks), the only one that scores
    were made with. Raises UserError when scores of several networks are there and nothing says which one counts.
    """
    try:
        return MetricNetworks(protocol).digests
    except MissingWeightsError:
        return {role: _only_digest(lake, protocol, role) for role in protocol.networks}


def _only_digest(lake: Lake, protocol: Protocol, role: str) -> str:
    if role == "lpips":
        rows = lake.rows("scores", (pc.field("protocol") == protocol.name) & (pc.field("metric") == role), columns=["weights_digest"])
    else:
        name = protocol.networks["fid" if role == "fid" else "fvd"]
        rows = lake.rows(
            "metric_features",
            (pc.field("protocol") == protocol.name) & (pc.field("extractor") == name),
            columns=["weights_digest"],
        )
    found = sorted({row["weights_digest"] for row in rows})
    if len(found) > 1:
        raise UserError(
            f"{role} was computed with {len(found)} different networks ({', '.join(d[:8] for d in found)}), "
            "and the file of none is at hand; "
            "set ROTOSCOPE_WEIGHTS to the folder of the one that counts"
        )
    return found[0] if found else ""
