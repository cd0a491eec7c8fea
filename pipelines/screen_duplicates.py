"""Near-duplicate clips: the clip that looks most alike, and groups at a distance.

Two clips are as far apart as the median, over the key frames of the one with fewer, of the distance to the other's
nearest key frame. So one shared title card does not make two clips alike, and another frame rate or size does not part them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.screen_hash import Hashes, close_pairs, distances, unsigned

FARTHEST = 8  # bits of 64; within it, pairs are found and stored


@dataclass(frozen=True, slots=True)
class Pair:
    """Two clips and their distance in bits, 0..64 (halves occur); first < second."""

    first: str
    second: str
    distance: float


def clip_distance(a: Hashes, b: Hashes) -> float:
    """Distance in bits of two clips' key frame hashes [n], [m]; symmetric where n differs from m."""
    fewer, more = (a, b) if len(a) <= len(b) else (b, a)
    table = distances(fewer[:, None], more[None])
    one_way = float(np.median(table.min(axis=1)))
    return one_way if len(fewer) < len(more) else max(one_way, float(np.median(table.min(axis=0))))


def near_pairs(hashes: Mapping[str, Sequence[int]], videos: Mapping[str, str], radius: float = FARTHEST) -> list[Pair]:
    """All pairs of clips within `radius` bits, sorted; exactly what comparing every pair would find.

    hashes: clip id -> signed 64-bit hashes, as the table holds them; clips without hashes have no pair.
    videos: clip id -> video id. Clips of one video are no pair: the parts of a long shot look alike, but show different time.
    """
    ids = sorted(clip for clip, values in hashes.items() if len(values))
    per_clip = [np.unique(unsigned(list(hashes[clip]))) for clip in ids]
    if len(ids) < 2:
        return []
    owners = np.repeat(np.arange(len(ids)), [len(values) for values in per_clip])
    pairs = []
    for first, second in _candidates(np.concatenate(per_clip), owners, int(radius)):
        if videos[ids[first]] == videos[ids[second]]:
            continue
        distance = clip_distance(per_clip[first], per_clip[second])
        if distance <= radius:
            pairs.append(Pair(ids[first], ids[second], distance))
    return sorted(pairs, key=lambda pair: (pair.first, pair.second))


def _candidates(hashes: Hashes, owners: npt.NDArray[np.int64], radius: int) -> Iterator[tuple[int, int]]:
    """Pairs of clips of which two key frames are close: a median within the radius needs at least one such.

    (The median of two numbers may be their mean, but then the smaller one is within the radius too.)
    """
    clips = int(owners[-1]) + 1
    seen = np.zeros(0, np.int64)
    for left, right in close_pairs(hashes, radius):
        a, b = owners[left], owners[right]
        codes = np.minimum(a, b) * clips + np.maximum(a, b)
        seen = np.union1d(seen, codes[a != b])
    for code in seen.tolist():
        yield divmod(code, clips)


def nearest(pairs: Sequence[Pair]) -> dict[str, tuple[str, float]]:
    """Clip id -> (the clip nearest to it, distance); of equally near ones the smallest id."""
    best: dict[str, tuple[str, float]] = {}
    for pair in pairs:
        for one, other in ((pair.first, pair.second), (pair.second, pair.first)):
            known = best.get(one)
            if known is None or (pair.distance, other) < (known[1], known[0]):
                best[one] = (other, pair.distance)
    return best


def groups_of(pairs: Sequence[Pair], radius: float) -> dict[str, str]:
    """Clip id -> name of its group (its smallest clip id), for clips linked by pairs within `radius` (union-find)."""
    parent: dict[str, str] = {}

    def root(clip: str) -> str:
        parent.setdefault(clip, clip)
        while parent[clip] != clip:
            parent[clip] = parent[parent[clip]]  # path halving
            clip = parent[clip]
        return clip

    for pair in pairs:
        if pair.distance <= radius:
            low, high = sorted((root(pair.first), root(pair.second)))
            parent[high] = low
    return {clip: root(clip) for clip in list(parent)}
