"""Boxes and warps follow the fitted picture; the differentiable alignment is the extractor's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.clip_dataset import fit_frames, fit_points, to_signed
from models.face_warp import aligned_faces, fit_boxes, fit_warps
from pipelines.extractors.face_embedding import TEMPLATE, align, similarity_warp

POINTS = np.array([[30, 40], [52, 38], [42, 52], [33, 62], [51, 60]], np.float32)
BOX = (8.0, 12.0, 60.0, 72.0)


def _smooth(height: int = 96, width: int = 80) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 9 + phase) * np.cos(y / 11 - phase) for phase in (0, 1, 2)]
    return np.asarray(np.stack(waves, axis=-1) * 100 + 128, np.uint8)


def test_the_crop_is_that_of_the_extractor() -> None:
    image, warp = _smooth(), similarity_warp(POINTS)
    theirs = to_signed(align(image, warp)[None])
    ours = aligned_faces(to_signed(image[None]), torch.from_numpy(warp)[None])
    assert ours.shape == (1, 3, 112, 112)
    # OpenCV rounds source positions to 1/32 px and results to 8 bit
    assert (ours - theirs).abs().max() < 4 / 127.5
    assert (ours - theirs).abs().mean() < 1 / 127.5


def test_outside_is_black() -> None:
    warp = similarity_warp(POINTS - np.array([28, 36], np.float32))
    ours = aligned_faces(to_signed(_smooth()[None]), torch.from_numpy(warp)[None])
    assert float(ours[0, :, 0, 0].max()) == pytest.approx(-1, abs=1e-6)
    assert float(ours[0, :, 0, 0].min()) == pytest.approx(-1, abs=1e-6)


def test_an_identity_warp_of_an_image_of_that_size_is_the_image() -> None:
    image = torch.rand(2, 3, 112, 112) * 2 - 1
    identity = torch.tensor([[1.0, 0, 0], [0, 1, 0]]).expand(2, 2, 3)
    torch.testing.assert_close(aligned_faces(image, identity), image, rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [(144, 120), (48, 60)])
def test_a_fitted_warp_takes_fitted_points_where_the_warp_takes_the_points(size: tuple[int, int]) -> None:
    warp = similarity_warp(POINTS)
    fitted = fit_warps(warp[None], BOX, size)[0]
    points = fit_points(POINTS, BOX, size)
    np.testing.assert_allclose(points @ fitted[:, :2].T + fitted[:, 2], POINTS @ warp[:, :2].T + warp[:, 2], atol=1e-3)
    assert np.abs(POINTS @ warp[:, :2].T + warp[:, 2] - TEMPLATE).max() < 8  # the points are a face


def test_the_face_of_a_fitted_frame_is_the_face_of_the_frame() -> None:
    image, warp = _smooth(), similarity_warp(POINTS)
    fitted = fit_frames(image[None], BOX, (144, 120))
    ours = aligned_faces(to_signed(fitted), torch.from_numpy(fit_warps(warp[None], BOX, (144, 120))))
    theirs = aligned_faces(to_signed(image[None]), torch.from_numpy(warp)[None])
    inside = (slice(None), slice(None), slice(30, 100), slice(30, 90))  # the rim of the crop lies outside of the box
    assert (ours - theirs)[inside].abs().max() < 0.1  # resampled twice


def test_gradients_reach_the_face_and_nothing_else() -> None:
    image = to_signed(_smooth()[None]).requires_grad_()
    aligned_faces(image, torch.from_numpy(similarity_warp(POINTS))[None]).square().sum().backward()
    assert image.grad is not None
    touched = image.grad.abs().sum(dim=(0, 1)) > 0
    assert touched[40:60, 32:50].all()
    assert not touched[90:].any()


def test_boxes_are_scaled_with_the_crop() -> None:
    corners = fit_boxes(np.array([[8, 12, 68, 84], [38, 48, 53, 66]], np.float32), BOX, (144, 120))
    np.testing.assert_allclose(corners, [[0, 0, 120, 144], [60, 72, 90, 108]], atol=1e-4)
