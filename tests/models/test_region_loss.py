"""Losses inside regions: what lies outside has neither value nor gradient."""

from __future__ import annotations

import pytest
import torch

from models.region_loss import box_masks, clothing_region, masked_mse


def test_an_even_difference_is_its_square_whatever_the_mask() -> None:
    """HIA Eq. 1; sum M counts channels."""
    target = torch.rand(3, 3, 8, 8)
    mask = torch.zeros(3, 1, 8, 8)
    mask[0, :, :4], mask[1, :, 2, 3] = 1, 1
    assert masked_mse(target + 0.5, target, mask).tolist() == pytest.approx([0.25, 0.25, 0.0])


def test_a_full_mask_is_the_mean_square() -> None:
    a, b = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(masked_mse(a, b, torch.ones(2, 1, 4, 4)), (a - b).square().mean(dim=(1, 2, 3)))


def test_gradients_stay_inside_the_mask() -> None:
    prediction = torch.rand(1, 3, 6, 6, requires_grad=True)
    mask = box_masks(torch.tensor([[[1.0, 2.0, 3.0, 5.0]]]), (6, 6))
    masked_mse(prediction, torch.zeros(1, 3, 6, 6), mask).sum().backward()
    assert prediction.grad is not None
    assert torch.equal(prediction.grad.abs().sum(dim=1, keepdim=True) > 0, mask > 0)


def test_an_empty_mask_is_zero_with_a_finite_gradient() -> None:
    prediction = torch.rand(1, 3, 4, 4, requires_grad=True)
    loss = masked_mse(prediction, torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 4, 4)).sum()
    loss.backward()
    assert loss.item() == 0
    assert prediction.grad is not None
    assert prediction.grad.abs().max() == 0


def test_boxes_fill_whole_pixels_and_join() -> None:
    boxes = torch.tensor([[[0.0, 0.0, 2.0, 1.0], [1.0, 0.0, 4.0, 2.0]], [[0.0, 0.0, 0.0, 0.0], [-5.0, 2.0, 1.0, 9.0]]])
    masks = box_masks(boxes, (3, 4))
    assert masks.shape == (2, 1, 3, 4)
    assert masks[0, 0].tolist() == [[1, 1, 1, 1], [0, 1, 1, 1], [0, 0, 0, 0]]
    assert masks[1, 0].tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]


def test_clothing_is_the_body_without_face_and_hands() -> None:
    body, face, hands = (torch.tensor(values).view(1, 1, 1, 4) for values in ([1.0, 1, 1, 0], [0.0, 1, 0, 1], [0.0, 0, 1, 0]))
    assert clothing_region(body, face, hands).flatten().tolist() == [1, 0, 0, 0]
