"""Rows of `metric_features`: which are there, which are missing, and making them. FID and FVD are arithmetic on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from eval.metrics import METRICS
from eval.metrics.fvd import cut_windows
from eval.networks import WINDOW_ROLES, MetricNetworks, ResizedNetwork
from eval.protocol import Protocol
from eval.round_trip import padded_to_square, through_gif, through_mp4
from pipelines.clip import Frames
from pipelines.extractors.inception import clean_resize
from pipelines.extractors.standin import Resized
from pipelines.lake import Lake
from pipelines.tables import one_of

TRUTH = "truth"
_FRAMES = 256  # given to a network at a time
_WHOLE_CLIP_ROLES = ("pose",)  # these follow one person over a call, so they always see the clip from end to end
_SET_ROLES = ("fid", *WINDOW_ROLES)  # their networks see every frame; the others look for something that may not be there
_Key = tuple[str, str, str, int, str, str]  # source, clip_id, extractor, version, weights_digest, source_sha256


@dataclass(slots=True)
class KnownFeatures:
    """First frames of the feature rows that the lake holds, by what they were computed from."""

    frames: dict[_Key, set[int]] = field(default_factory=dict)

    @classmethod
    def read(cls, lake: Lake, protocol: Protocol, dataset: str, sources: Iterable[str], clip_ids: Iterable[str]) -> KnownFeatures:
        """Keys only, of these clips only: those of a whole data set would grow with it."""
        where = (pc.field("protocol") == protocol.name) & (pc.field("dataset") == dataset) & one_of("source", sources)
        where = where & one_of("clip_id", clip_ids)
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

    def of(self, networks: MetricNetworks, role: str, source: str, clip_id: str, sha256: str) -> set[int]:
        """Frames that have a row of the role's network."""
        network = networks.features[role]
        return self.frames.get((source, clip_id, network.name, network.version, networks.digests[role], sha256), set())

    def missing(self, networks: MetricNetworks, role: str, source: str, clip_id: str, sha256: str, wanted: Sequence[int]) -> list[int]:
        """Those of `wanted` that no row answers."""
        return sorted(set(wanted) - self.of(networks, role, source, clip_id, sha256))


def wanted_frames(protocol: Protocol, role: str, num_frames: int, reference_frame: int | None, *, of_truth: bool = False) -> list[int]:
    """`frame` of the rows that a clip needs: first frames of windows, scored frames, or of the truth perhaps only the reference."""
    if role in WINDOW_ROLES:
        return protocol.windows(num_frames, reference_frame)
    if role in _WHOLE_CLIP_ROLES:
        return list(range(num_frames))
    scored = protocol.scored_frames(num_frames, reference_frame)
    if role in _SET_ROLES or not of_truth:
        return scored
    needs = {METRICS[metric].truth for metric in protocol.metrics if METRICS[metric].role == role}
    if "counted" in needs:
        return scored
    return [reference_frame] if "reference" in needs and reference_frame is not None else []


class SeenFrames:
    """A side's frames as its feature networks are given them; padding, codec and what networks share of resizing are paid for once."""

    def __init__(self, protocol: Protocol, frames: Frames) -> None:
        self._protocol, self._frames = protocol, frames
        self._resized: dict[tuple[int, int], Resized] = {}  # (size, frame)

    def batches(self, role: str, wanted: Sequence[int]) -> Iterator[Frames]:
        """Frames or windows that begin at `wanted`. Windows come all at once, so that a network resizes a frame that they share once."""
        size = len(wanted) if role in (*WINDOW_ROLES, *_WHOLE_CLIP_ROLES) else _FRAMES
        for start in range(0, len(wanted), size):
            yield self._of(role, list(wanted[start : start + size]))

    def resized(self, role: str, wanted: Sequence[int], size: int) -> Iterator[Resized]:
        """Each wanted frame or window, [S, size, size, 3], by clean-fid's resizer; a frame that windows or networks share is resized once."""
        if self._protocol.codec != "none" or role not in _SET_ROLES:  # other pixels than those of the others
            yield from (clean_resize(item.reshape(-1, *item.shape[-3:]), size) for batch in self.batches(role, wanted) for item in batch)
            return
        length = self._protocol.window if role in WINDOW_ROLES else 1
        for start in wanted:
            for frame in range(start, start + length):
                if (size, frame) not in self._resized:
                    self._resized[size, frame] = clean_resize(self._padded[frame : frame + 1], size)[0]
            yield np.stack([self._resized[size, frame] for frame in range(start, start + length)])

    def _of(self, role: str, wanted: list[int]) -> Frames:
        if role not in WINDOW_ROLES:
            return (self._padded if role in _SET_ROLES else self._frames)[wanted]
        windows = cut_windows(self._coded, wanted, self._protocol.window)
        return np.stack([through_mp4(window) for window in windows]) if self._protocol.codec == "mp4" else windows

    @cached_property
    def _padded(self) -> Frames:
        return padded_to_square(self._frames) if self._protocol.pad == "square-black" else self._frames

    @cached_property
    def _coded(self) -> Frames:
        return through_gif(self._padded) if self._protocol.codec == "gif" else self._padded


def make_rows(
    protocol: Protocol, networks: MetricNetworks, role: str, frames: SeenFrames, wanted: Sequence[int], named: dict[str, str]
) -> list[dict[str, Any]]:
    """Feature rows of one clip; named: source, dataset, clip_id, source_sha256. A row without a feature: the network saw no face or person.

    Raises ValueError when the network gives NaN otherwise.
    """
    if not wanted:
        return []
    network, features = networks.features[role], _features(networks, role, frames, wanted)
    seen = np.isfinite(features).all(axis=1)
    if len(features) != len(wanted) or not (seen | (np.isnan(features).all(axis=1) & (role not in _SET_ROLES))).all():
        raise ValueError(f"network {network.name} gave {features.shape} features, not {len(wanted)} finite rows")
    same = {
        "protocol": protocol.name,
        "extractor": network.name,
        "version": network.version,
        "weights_digest": networks.digests[role],
        **named,
    }
    return [{**same, "frame": frame, "feature": one if there else []} for frame, one, there in zip(wanted, features, seen, strict=True)]


def _features(networks: MetricNetworks, role: str, frames: SeenFrames, wanted: Sequence[int]) -> npt.NDArray[np.float32]:
    network = networks.features[role]
    if isinstance(network, ResizedNetwork):
        return networks.resized_function(role)(frames.resized(role, wanted, network.size))
    function = networks.feature_function(role)
    return np.concatenate([function(batch) for batch in frames.batches(role, wanted)])


def clip_features(
    lake: Lake, protocol: Protocol, named: dict[str, str], extractor: str, digest: str
) -> dict[int, np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
    """frame -> [D] of one clip, from the lake; empty where the network saw nothing. named: as in `make_rows`."""
    where = ((pc.field("protocol") == protocol.name) & (pc.field("dataset") == named["dataset"]) & (pc.field("source") == named["source"])
             & (pc.field("clip_id") == named["clip_id"]) & (pc.field("extractor") == extractor) & (pc.field("weights_digest") == digest)
             & (pc.field("source_sha256") == named["source_sha256"]))  # fmt: skip
    return {
        row["frame"]: np.asarray(row["feature"], np.float64) for row in lake.rows("metric_features", where, columns=["frame", "feature"])
    }
