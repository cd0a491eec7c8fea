"""The networks of a protocol: digests first, weights only when a clip needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, runtime_checkable
from typing import Protocol as TypingProtocol

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from eval.metrics import METRICS
from eval.metrics.warping_error import FlowFunction
from eval.protocol import MAIN_ROLES, Protocol
from pipelines.clip import Frames
from pipelines.errors import MissingWeightsError, UserError
from pipelines.extractors.lpips import PairDistance
from pipelines.extractors.metric_networks import FeatureNetwork, feature_network, flow_network, pair_network
from pipelines.extractors.standin import Resized
from pipelines.lake import Lake
from pipelines.weights import without_downloads

FeatureFunction = Callable[[Frames], npt.NDArray[np.float32]]
PAIR_ROLES = ("lpips", "flow")  # their outputs are scores; those of all other roles are rows of features
WINDOW_ROLES = ("fid_vid", "fvd")


@runtime_checkable
class ResizedNetwork(TypingProtocol):
    """A feature network that sees frames as clean-fid's resizer makes them at one size: those of one size share the resized frames."""

    @property
    def size(self) -> int: ...
    def load_resized(self, device: str) -> Callable[[Iterable[Resized]], npt.NDArray[np.float32]]: ...


def feature_roles(protocol: Protocol) -> list[str]:
    """Roles whose networks make rows of `metric_features`."""
    return [role for role in protocol.networks if role not in PAIR_ROLES]


def network_of(protocol: Protocol, role: str) -> Any:
    """The registered network of a role. Raises UserError for a name that is not registered."""
    name = protocol.networks[role]
    return {"lpips": pair_network, "flow": flow_network}.get(role, feature_network)(name)


def digest_of_network(network: Any) -> str:
    """Of its weights, and of the code around them where that is not the first version."""
    digest: str = network.weights_digest()
    return digest if network.version == 1 else f"{digest}.v{network.version}"


class MetricNetworks:
    """Networks of the protocol's roles.

    digests: role -> digest, of those at hand.  missing: role -> why not; only roles that a protocol can do without. Raises
    MissingWeightsError at construction where the file of a main role is not at hand.
    """

    def __init__(self, protocol: Protocol, device: str = "cpu") -> None:
        self._protocol, self._device = protocol, device
        self.digests: dict[str, str] = {}
        self.missing: dict[str, str] = {}
        for role in protocol.networks:
            try:
                self.digests[role] = digest_of_network(network_of(protocol, role))
            except MissingWeightsError as error:
                if role in MAIN_ROLES:
                    raise
                self.missing[role] = str(error)
        self.features: dict[str, FeatureNetwork] = {
            role: network_of(protocol, role) for role in feature_roles(protocol) if role in self.digests
        }
        self._loaded: dict[str, Any] = {}
        if device.startswith("cuda"):
            import torch

            torch.backends.cudnn.allow_tf32 = False  # features are float32, not rounded to 10 bits on the way

    def distance(self) -> PairDistance:
        """The LPIPS network, loaded on first use."""
        loaded: PairDistance = self._once("lpips", lambda network: network.load(self._device, self._protocol.lpips_range))
        return loaded

    def flow(self) -> FlowFunction:
        """The flow network, loaded on first use."""
        loaded: FlowFunction = self._once("flow", lambda network: network.load(self._device))
        return loaded

    def feature_function(self, role: str) -> FeatureFunction:
        """The feature network of a role, loaded on first use."""
        loaded: FeatureFunction = self._once(role, lambda network: network.load(self._device))
        return loaded

    def resized_function(self, role: str) -> Callable[[Iterable[Resized]], npt.NDArray[np.float32]]:
        """The same of a `ResizedNetwork`: [S, size, size, 3] windows, or frames with S = 1 -> features."""
        loaded: Callable[[Iterable[Resized]], npt.NDArray[np.float32]] = self._once(
            role, lambda network: network.load_resized(self._device)
        )
        return loaded

    def _once(self, role: str, load: Callable[[Any], Any]) -> Any:
        name = self._protocol.networks[role]
        if name not in self._loaded:
            self._loaded[name] = load(network_of(self._protocol, role))
        return self._loaded[name]


def current_digests(lake: Lake, protocol: Protocol) -> dict[str, str]:
    """role -> digest of the network whose rows make up today's table.

    The digest of the file at hand; where it is not (tables can be made without the networks), the only one that scores
    were made with; "" where there are none. Raises UserError when scores of several networks are there and nothing says which counts.
    """
    digests = {}
    for role in protocol.networks:
        try:
            with without_downloads():  # a table is made from what is there
                digests[role] = digest_of_network(network_of(protocol, role))
        except MissingWeightsError:
            digests[role] = _only_digest(lake, protocol, role)
    return digests


def _only_digest(lake: Lake, protocol: Protocol, role: str) -> str:
    under = pc.field("protocol") == protocol.name
    if role in PAIR_ROLES:
        metric = next(metric.id for metric in METRICS.values() if metric.role == role and metric.region is None)
        rows = lake.rows("scores", under & (pc.field("metric") == metric), columns=["weights_digest"])
    else:
        rows = lake.rows("metric_features", under & (pc.field("extractor") == protocol.networks[role]), columns=["weights_digest"])
    found = sorted({row["weights_digest"] for row in rows})
    if len(found) > 1:
        raise UserError(
            f"{role} was computed with {len(found)} different networks ({', '.join(d[:8] for d in found)}), "
            "and the file of none is at hand; "
            "set ROTOSCOPE_WEIGHTS to the folder of the one that counts"
        )
    return found[0] if found else ""
