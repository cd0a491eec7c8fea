"""Rows of `metric_features`: which are there, which are missing, and making them. FID and FVD are arithmetic on them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from eval.metrics.fvd import cut_windows
from eval.networks import MetricNetworks
from eval.protocol import Protocol
from pipelines.clip import Frames
from pipelines.lake import Lake
from pipelines.tables import one_of

TRUTH = "truth"
FEATURE_ROLES = ("fid", "fvd")
_Key = tuple[str, str, str, int, str, str]  # source, clip_id, extractor, version, weights_digest, source_sha256


@dataclass(slots=True)
class KnownFeatures:
    """First frames of the feature rows that the lake holds, by what they were computed from."""

    frames: dict[_Key, set[int]] = field(default_factory=dict)

    @classmethod
    def read(cls, lake: Lake, protocol: Protocol, dataset: str, sources: Iterable[str]) -> KnownFeatures:
        """Keys only; the features themselves are not read."""
        where = (pc.field("protocol") == protocol.name) & (pc.field("dataset") == dataset) & one_of("source", sources)
        names = ["source", "clip_id", "extractor", "version", "weights_digest", "source_sha256", "frame"]
        known = cls()
        for row in lake.rows("metric_features", where, columns=names):
            known.frames.setdefault(
                (
                    row["source"],
                    row["clip_id"],
                    row["extractor"],
                    row["version"],
                    row["weights_digest"],
                    row["source_sha256"],
                ),
                set(),
            ).add(row["frame"])
        return known

    def missing(self, networks: MetricNetworks, role: str, source: str, clip_id: str, sha256: str, wanted: Sequence[int]) -> list[int]:
        """Those of `wanted` that no row answers."""
        network = networks.features[role]
        return sorted(
            set(wanted) - self.frames.get((source, clip_id, network.name, network.version, networks.digests[role], sha256), set())
        )


def wanted_frames(protocol: Protocol, role: str, num_frames: int, reference_frame: int | None) -> list[int]:
    """`frame` of the rows that a clip needs: every scored frame for FID, the first frame of every window for FVD."""
    return protocol.windows(num_frames, reference_frame) if role == "fvd" else protocol.scored_frames(num_frames, reference_frame)


def make_rows(
    protocol: Protocol,
    networks: MetricNetworks,
    role: str,
    frames: Frames,
    wanted: Sequence[int],
    named: dict[str, str],
) -> list[dict[str, Any]]:
    """Feature rows of one clip; named: source, dataset, clip_id, source_sha256. Raises ValueError when the network gives NaN."""
    if not wanted:
        return []
    batch = cut_windows(frames, list(wanted), protocol.window) if role == "fvd" else frames[list(wanted)]
    features = networks.feature_function(role)(batch)
    if len(features) != len(wanted) or not np.isfinite(features).all():
        raise ValueError(f"network {networks.features[role].name} gave {features.shape} features, not {len(wanted)} finite rows")
    network = networks.features[role]
    same = {
        "protocol": protocol.name,
        "extractor": network.name,
        "version": network.version,
        "weights_digest": networks.digests[role],
        **named,
    }
    return [{**same, "frame": frame, "feature": feature} for frame, feature in zip(wanted, features, strict=True)]


def read_features(lake: Lake, protocol: Protocol, dataset: str, source: str, extractor: str, digest: str) -> pa.Table:
    """clip_id, frame, source_sha256, version, feature of one source and network, sorted by clip and frame."""
    where = ((pc.field("protocol") == protocol.name) & (pc.field("dataset") == dataset) & (pc.field("source") == source)
             & (pc.field("extractor") == extractor) & (pc.field("weights_digest") == digest))  # fmt: skip
    return lake.read("metric_features", columns=["clip_id", "frame", "source_sha256", "version", "feature"], where=where)
