"""What a score was made with, besides the two clips: its network, and what said where a region is. A change of either gives a new score."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from eval.clip_regions import RegionIndex
from eval.metrics import METRICS
from eval.metrics.metric import Metric
from eval.networks import feature_roles
from eval.protocol import Protocol


def per_clip_metrics(protocol: Protocol) -> tuple[str, ...]:
    """Metrics of the protocol that have a value per clip; set metrics have none."""
    return tuple(metric for metric in protocol.metrics if METRICS[metric].kind != "set")


def known_regions(protocol: Protocol) -> list[str]:
    """Regions that the protocol's metrics need."""
    return sorted({region for metric in protocol.metrics if (region := METRICS[metric].region) is not None})


@dataclass(frozen=True, slots=True)
class ScoreDigests:
    """networks: role -> digest; roles without one are not at hand."""

    networks: Mapping[str, str]
    regions: RegionIndex

    def of(self, metric: str, clip_id: str) -> str | None:
        """ "" for arithmetic on whole frames; None where the clip cannot have this score (no network, or nobody knows where the region is)."""
        found = METRICS[metric]
        network = "" if found.role is None else self.networks.get(found.role)
        region = "" if found.region is None else self.regions.digest(found.region, clip_id)
        if network is None or region is None:
            return None
        return network if not region else hashlib.sha256(f"{network}|{region}".encode()).hexdigest()


def why_none(metric: Metric, protocol: Protocol) -> str:
    """In words, why no clip has a value of this metric."""
    if metric.region is not None:
        return f"nothing says where {'the hands are' if metric.region == 'hands' else f'the {metric.region} is'}; extract the table first"
    if metric.role is not None and metric.role in (*feature_roles(protocol), "flow"):
        return f"the weights of network {protocol.networks[metric.role]} are not at hand"
    return "no frame has a score"
