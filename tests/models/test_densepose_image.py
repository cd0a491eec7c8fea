"""DensePose images: labels are never mixed, and a label that flickers for one frame is steadied."""

from __future__ import annotations

import numpy as np
import torch

from models.densepose_image import densepose_images, steady_labels


def _iuv(labels: list[int], height: int = 4, width: int = 6) -> np.ndarray:
    frames = np.zeros((len(labels), height, width, 3), np.uint8)
    for t, (frame, label) in enumerate(zip(frames, labels, strict=True)):
        frame[..., 0], frame[..., 1], frame[..., 2] = label, 10 * t, 255 - t
    return frames


def test_a_label_that_flickers_for_one_frame_is_replaced_with_its_coordinates() -> None:
    steady = steady_labels(_iuv([5, 5, 0, 5, 5]))
    assert steady[:, 0, 0, 0].tolist() == [5, 5, 5, 5, 5]
    assert steady[2, 0, 0].tolist() == [5, 10, 254]  # U and V of the frame before
    assert steady[1, 0, 0].tolist() == [5, 10, 254]  # its own


def test_a_label_that_stays_is_kept() -> None:
    frames = _iuv([3, 3, 7, 7, 7])
    assert np.array_equal(steady_labels(frames), frames)
    assert np.array_equal(steady_labels(frames[:2]), frames[:2])


def test_sizes_change_without_new_labels() -> None:
    rng = np.random.default_rng(0)
    frames = rng.choice(np.array([0, 3, 24], np.uint8), (1, 12, 16, 3))
    images = densepose_images(frames, (2.0, 1.0, 12.0, 10.0), (25, 30))
    assert images.shape == (1, 3, 25, 30)
    assert set((images[:, 0] * 24).round().int().unique().tolist()) <= {0, 3, 24}
    assert 0 <= float(images.min()) <= float(images.max()) <= 1


def test_an_unchanged_size_is_a_crop() -> None:
    frames = np.random.default_rng(1).integers(0, 25, (1, 8, 10, 3)).astype(np.uint8)
    images = densepose_images(frames, (2.0, 3.0, 6.0, 4.0), (4, 6))
    expected = torch.from_numpy(frames[0, 3:7, 2:8].astype(np.float32) / np.array([24, 255, 255], np.float32)).permute(2, 0, 1)
    torch.testing.assert_close(images[0], expected)
