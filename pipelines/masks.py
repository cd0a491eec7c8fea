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
    """The mask [height, width] of `encode_rle`."""
    from pycocotools import mask as coco

    decoded: npt.NDArray[np.uint8] = coco.decode({"size": [height, width], "counts": rle})
    return decoded.view(np.bool_)  # 0 and 1 already: no copy


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
