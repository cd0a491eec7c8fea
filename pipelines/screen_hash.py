"""Perceptual hashes of frames, and all pairs of hashes that differ in few bits, without comparing every pair.

The hash is pHash (Zauner 2010): signs of the low frequencies of a small luma picture around their median, so that size,
compression and brightness hardly matter. It does not see through mirroring, heavy cropping or rotation.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
import numpy.typing as npt

from pipelines.clip import Frames

# N = hashes, P = pairs
Hashes = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]

BITS = 64
_SIDE = 32  # px of the luma picture
_CHUNKS = 4  # of 16 bits
_FLATTEST = 4.0  # standard deviation of luma (0..255): below it a frame has no structure, and its hash would be noise
_MOST_CANDIDATES = 1 << 21  # pairs held at a time: 16 MB per array


def _dct_matrix(size: int) -> npt.NDArray[np.float64]:
    """Orthonormal DCT-II: row k, column n is c_k cos(pi k (2n + 1) / 2 size)."""
    k, n = np.arange(size)[:, None], np.arange(size)[None]
    matrix = np.sqrt(2 / size) * np.cos(np.pi * k * (2 * n + 1) / (2 * size))
    matrix[0] /= np.sqrt(2)
    return np.asarray(matrix)


_DCT = _dct_matrix(_SIDE)
_POPCOUNT = np.array([bin(i).count("1") for i in range(1 << 16)], np.uint8)


def perceptual_hash(image: Frames) -> int | None:
    """64 bits of an image [H, W, 3] RGB or [H, W] luma; None for a frame without structure (black, white, one colour).

    Bit 8 r + c, the highest first, is set where the DCT coefficient of row r + 1 and column c + 1 is over the median of those 64.
    """
    import cv2

    luma = image.astype(np.float32)
    luma = luma @ np.array([0.299, 0.587, 0.114], np.float32) if luma.ndim == 3 else luma
    small = cv2.resize(luma, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float64)
    if small.std() < _FLATTEST:
        return None
    low = (_DCT[1:9] @ small @ _DCT[1:9].T).ravel()
    return int("".join("1" if over else "0" for over in low > np.median(low)), 2)


def distances(a: Hashes, b: Hashes) -> npt.NDArray[np.uint8]:
    """Number of bits in which a and b differ; shapes broadcast."""
    differing = np.ascontiguousarray(a ^ b)
    parts = _POPCOUNT[differing.view(np.uint16).reshape(*differing.shape, _CHUNKS)]
    return np.asarray(parts.sum(axis=-1, dtype=np.uint8))


def close_pairs(hashes: Hashes, radius: int) -> Iterator[tuple[Indices, Indices]]:
    """Blocks (i, j), i < j, of all pairs within `radius` bits; a pair may come more than once.

    Multi-index hashing (Norouzi et al. 2012): of chunks with radii t_1..t_4 where sum(t + 1) > radius, two hashes
    within `radius` agree in at least one up to its t. So each chunk's table is probed only at values within t.
    """
    radii = [(radius + 1 + chunk) // _CHUNKS - 1 for chunk in range(_CHUNKS)]  # sum of (t + 1) is radius + 1
    chunks = np.ascontiguousarray(hashes).view(np.uint16).reshape(-1, _CHUNKS)
    for values, reach in zip(chunks.T, radii, strict=True):
        order = np.argsort(values, kind="stable")
        starts = np.searchsorted(values[order], np.arange((1 << 16) + 1))
        for mask in _masks(reach):
            probes = values ^ np.uint16(mask)
            yield from _verified(hashes, radius, order, starts[probes], starts[probes.astype(np.int64) + 1])


def _masks(reach: int) -> Iterator[int]:
    """All 16-bit numbers with at most `reach` ones; none for a negative reach."""
    for count in range(reach + 1):
        for bits in combinations(range(16), count):
            yield sum(1 << bit for bit in bits)


def _verified(hashes: Hashes, radius: int, order: Indices, low: Indices, high: Indices) -> Iterator[tuple[Indices, Indices]]:
    """Candidates of each hash are order[low:high]; those within the radius, in blocks of bounded size."""
    ends = np.cumsum(high - low)
    start = 0
    while start < len(hashes):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + _MOST_CANDIDATES, side="right")))
        counts = (high - low)[start:stop]
        left = np.repeat(np.arange(start, stop), counts)
        offsets = np.arange(len(left)) - np.repeat(np.cumsum(counts) - counts, counts)
        right = order[np.repeat(low[start:stop], counts) + offsets]
        fits = left < right
        left, right = left[fits], right[fits]
        near = distances(hashes[left], hashes[right]) <= radius
        if near.any():
            yield left[near], right[near]
        start = stop


def signed(value: int) -> int:
    """The hash as the signed 64-bit integer that a table can hold."""
    return value - (1 << BITS) if value >> (BITS - 1) else value


def unsigned(values: npt.ArrayLike) -> Hashes:
    """The hashes of a table's signed integers."""
    return np.asarray(values, np.int64).view(np.uint64)
