"""Rows of a cropped clip are in pixels of the full frame."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.crop import POINTS, WARPS, to_crop, to_full_frame
from pipelines.tables import TABLES

CROP = (30, 12, 64, 48)


def test_every_named_column_is_in_its_table() -> None:
    for table, columns in [*POINTS.items(), *WARPS.items()]:
        assert set(columns) <= set(TABLES[table].schema.names)


def test_points_move_by_the_corner_and_back() -> None:
    points = np.random.default_rng(0).uniform(0, 48, (133, 2)).astype(np.float32)
    row = to_full_frame("poses", {"keypoints": points.ravel().tolist(), "scores": [1.0] * 133}, CROP)
    full = np.reshape(row["keypoints"], (133, 2)).astype(np.float32)
    np.testing.assert_allclose(full - points, np.tile([30, 12], (133, 1)), atol=1e-4)
    np.testing.assert_allclose(to_crop(full, CROP), points, atol=1e-4)
    assert row["scores"] == [1.0] * 133


def test_a_warp_takes_the_moved_point_to_the_same_place() -> None:
    rng = np.random.default_rng(1)
    warp, point = rng.normal(size=(2, 3)), rng.uniform(0, 40, 2)
    moved = np.reshape(to_full_frame("faces", {"warp": warp.ravel().tolist(), "boxes": None}, CROP)["warp"], (2, 3))
    np.testing.assert_allclose(moved @ [*(point + np.array([30, 12])), 1], warp @ [*point, 1], atol=1e-9)


@pytest.mark.parametrize("table", ["body_masks", "densepose", "captions"])
def test_rasters_and_words_stay(table: str) -> None:
    row = {"rle": b"x", "height": 48}
    assert to_full_frame(table, row, CROP) == row


def test_without_a_crop_nothing_moves() -> None:
    row = {"boxes": [1.0, 2.0, 3.0, 4.0]}
    assert to_full_frame("hands", row, None) == row
    assert to_full_frame("hands", {"boxes": None}, CROP) == {"boxes": None}
