"""Masks and arrays as table cells."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.masks import decode_rle, encode_rle, pack_array, run_lengths, unpack_array


@pytest.mark.parametrize("seed", range(3))
def test_run_lengths_give_the_mask_back(seed: int) -> None:
    mask = np.random.default_rng(seed).random((31, 17)) < 0.4
    np.testing.assert_array_equal(decode_rle(encode_rle(mask), 31, 17), mask)


def test_run_lengths_are_coco_s_column_major_ones() -> None:
    mask = np.zeros((3, 2), bool)
    mask[:2, 0] = True  # columns first: 0 zeros, 2 ones, 4 zeros
    assert encode_rle(mask) == bytes([48 + 0, 48 + 2, 48 + 4])


def test_an_empty_mask_stays_empty() -> None:
    assert not decode_rle(encode_rle(np.zeros((5, 4), bool)), 5, 4).any()


def test_a_batch_of_masks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\[H, W\]"):
        encode_rle(np.zeros((2, 5, 4), bool))


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "int64"])
def test_packing_is_lossless_and_writable(dtype: str) -> None:
    array = (np.random.default_rng(0).random((4, 5, 3)) * 100).astype(dtype)
    unpacked = unpack_array(*pack_array(array.transpose(1, 0, 2)))
    np.testing.assert_array_equal(unpacked, array.transpose(1, 0, 2))
    assert unpacked.dtype == array.dtype
    unpacked[0] = 0


def test_packing_compresses_flat_masks() -> None:
    assert len(pack_array(np.zeros((1080, 1920), np.uint8))[0]) < 1000


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 7), (64, 64), (301, 200), (720, 1280)])
def test_decoding_equals_pycocotools(height: int, width: int) -> None:
    from pycocotools import mask as coco

    rng = np.random.default_rng(height)
    smooth = np.add.outer(rng.normal(size=height).cumsum(), rng.normal(size=width).cumsum()) > 0
    for mask in (smooth, rng.random((height, width)) < 0.5, np.ones((height, width), bool), np.zeros((height, width), bool)):
        rle = encode_rle(mask)
        expected = coco.decode({"size": [height, width], "counts": rle}).astype(bool)
        np.testing.assert_array_equal(decode_rle(rle, height, width), expected)
        assert run_lengths(rle)[1::2].sum() == mask.sum()


def test_run_lengths_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="20 pixels are no mask of 5x5"):
        decode_rle(encode_rle(np.ones((5, 4), bool)), 5, 5)
