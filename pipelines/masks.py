"""Masks as table cells: hard ones as COCO run lengths, soft ones (and other arrays) as zstd-compressed bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]


def encode_rle(mask: Mask) -> bytes:
    """COCO's compressed run lengths of a mask [H, W]; the size is not part of the bytes."""
    from pycocotools import mask as coco

    if mask.ndim != 2:
        raise ValueError(f"a mask is [H, W], got shape {mask.shape}")
    counts: bytes = coco.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"]
    return counts


def decode_rle(rle: bytes, height: int, width: int) -> Mask:
    """The mask [height, width] of `encode_rle`. Raises ValueError where the run lengths are not of this size.

    Runs go down the columns and begin with background. Several times faster than pycocotools for the few runs of a person.
    """
    counts = run_lengths(rle)
    if counts.sum() != height * width or (len(counts) and counts.min() < 0):
        raise ValueError(f"run lengths of {int(counts.sum())} pixels are no mask of {width}x{height}")
    foreground = (np.arange(len(counts)) & 1).astype(bool)
    return np.repeat(foreground, counts).reshape(width, height).T


def run_lengths(rle: bytes) -> npt.NDArray[np.int64]:
    """Lengths of the alternating runs of COCO's compressed string.

    Each byte less 48 holds five bits, lowest first, and whether more follow; the sign is the last group's highest bit. From the fourth number on, the
    difference to the one two before is stored.
    """
    groups = np.frombuffer(rle, np.uint8).astype(np.int64) - 48
    if not len(groups):
        return np.zeros(0, np.int64)
    ends = np.flatnonzero((groups & 0x20) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    places = np.arange(ends[-1] + 1) - np.repeat(starts, ends - starts + 1)
    values = np.add.reduceat((groups[: ends[-1] + 1] & 0x1F) << (5 * places), starts)
    values -= np.where(groups[ends] & 0x10, np.int64(1) << (5 * (ends - starts + 1)), 0)
    for first in (1, 2):  # the first three are stored as they are, the third is the base of the even ones
        values[first::2] = np.cumsum(values[first::2])
    return values


def pack_array(array: npt.NDArray[Any]) -> tuple[bytes, list[int], str]:
    """Any array as (zstd bytes in C order, shape, dtype name)."""
    import pyarrow as pa

    packed = pa.Codec("zstd").compress(np.ascontiguousarray(array).tobytes(), asbytes=True)
    return packed, list(array.shape), array.dtype.name


def unpack_array(packed: bytes, shape: Sequence[int], dtype: str) -> npt.NDArray[Any]:
    """The array of `pack_array`."""
    import pyarrow as pa

    size = math.prod(shape) * np.dtype(dtype).itemsize
    plain = pa.Codec("zstd").decompress(packed, decompressed_size=size, asbytes=True)
    return np.frombuffer(plain, dtype).reshape(tuple(shape)).copy()
