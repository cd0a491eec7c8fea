"""Identity losses: zero for the same face, the papers' values, gradients into the face alone, and silence where nobody can judge."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.face_warp import aligned_faces
from models.identity_loss import identity_distance, identity_loss, judgeable_faces
from models.iresnet import IResNet
from pipelines.extractors.face_embedding import similarity_warp

POINTS = np.array([[30, 40], [52, 40], [41, 52], [33, 62], [49, 62]], np.float32)


@pytest.fixture(scope="module")
def recogniser() -> IResNet:
    torch.manual_seed(0)
    return IResNet((1, 1, 1, 1), (4, 4, 6, 8, 8), size=16)


@pytest.fixture
def warps() -> torch.Tensor:
    return torch.from_numpy(similarity_warp(POINTS))[None].repeat(2, 1, 1)


def test_the_same_embedding_is_no_distance() -> None:
    f = torch.randn(4, 16)
    torch.testing.assert_close(identity_distance(f, f, 0.1), torch.zeros(4), rtol=0, atol=1e-6)
    torch.testing.assert_close(identity_distance(f, -f), torch.full((4,), 2.0))


def test_only_the_raw_l2_knows_lengths() -> None:
    """HFCA Eq. 1: with unit vectors the second term is 2 (1 - cos), with raw ones |f_ref - f_gen|^2."""
    a, b = 20 * torch.randn(5, 16), 20 * torch.randn(5, 16)
    cosine = identity_distance(a, b)
    torch.testing.assert_close(identity_distance(a, b, 0.1, "unit"), 1.2 * cosine)
    torch.testing.assert_close(identity_distance(a, b, 1e-3), cosine + 1e-3 * (a - b).square().sum(dim=1))
    torch.testing.assert_close(identity_distance(a, 3 * b), cosine)


def test_the_reference_itself_has_no_loss(recogniser: IResNet, warps: torch.Tensor) -> None:
    images = torch.rand(2, 3, 96, 80) * 2 - 1
    reference = recogniser(aligned_faces(images, warps))
    everyone = torch.tensor([True, True])
    assert identity_loss(recogniser, images, warps, reference, everyone, 1e-3).item() == pytest.approx(0, abs=1e-6)
    assert identity_loss(recogniser, images.flip(0), warps, reference, everyone).item() > 1e-4


def test_gradients_reach_the_face_of_judged_images_alone(recogniser: IResNet, warps: torch.Tensor) -> None:
    images = (torch.rand(2, 3, 96, 80) * 2 - 1).requires_grad_()
    identity_loss(recogniser, images, warps, torch.randn(2, 16), torch.tensor([False, True])).backward()
    assert images.grad is not None
    touched = images.grad.abs().sum(dim=1) > 0
    assert not touched[0].any()
    assert touched[1, 42:60, 34:48].all()
    assert not touched[1, 88:].any()


def test_a_step_against_the_gradient_brings_the_face_nearer(recogniser: IResNet, warps: torch.Tensor) -> None:
    images = (torch.rand(2, 3, 96, 80) * 2 - 1).requires_grad_()
    reference, everyone = torch.randn(2, 16), torch.tensor([True, True])
    before = identity_loss(recogniser, images, warps, reference, everyone)
    (gradient,) = torch.autograd.grad(before, images)
    after = identity_loss(recogniser, images - 1e-3 * gradient / gradient.abs().max(), warps, reference, everyone)
    assert after < before


def test_without_a_judged_face_the_loss_is_zero_and_has_a_gradient(recogniser: IResNet, warps: torch.Tensor) -> None:
    images = torch.rand(2, 3, 96, 80, requires_grad=True)
    loss = identity_loss(recogniser, images, warps, torch.zeros(2, 16), torch.tensor([False, False]))
    loss.backward()
    assert loss.item() == 0
    assert images.grad is not None
    assert images.grad.abs().max() == 0


def test_faces_are_judged_at_low_noise_where_found_and_large_enough(warps: torch.Tensor) -> None:
    warp = warps[:1].repeat(4, 1, 1)
    side = 112 / float(torch.linalg.det(warp[0, :, :2]).sqrt())
    times, found = torch.tensor([10, 249, 250, 10]), torch.tensor([True, True, True, False])
    assert judgeable_faces(times, warp, found, 250, side - 1).tolist() == [True, True, False, False]
    assert not judgeable_faces(times, warp, found, 250, side + 1).any()
