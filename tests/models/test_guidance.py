"""Guidance is linear, and the null condition drops the reference and nothing else."""

from __future__ import annotations

import pytest
import torch

from models.guidance import Condition, draw_dropped, guide, null_conditions


@pytest.fixture
def condition() -> Condition:
    return Condition(
        reference_latent=torch.randn(3, 4, 2, 2),
        image_tokens=torch.randn(3, 1, 8),
        pose=torch.rand(6, 3, 4, 4),
        dropped=torch.tensor([False, False, True]),
    )


def test_scale_one_is_the_conditional_prediction_and_zero_the_other() -> None:
    unconditional, conditional = torch.randn(2, 4), torch.randn(2, 4)
    torch.testing.assert_close(guide(unconditional, conditional, 1.0), conditional)
    assert torch.equal(guide(unconditional, conditional, 0.0), unconditional)
    torch.testing.assert_close(guide(unconditional, conditional, 3.5), 3.5 * conditional - 2.5 * unconditional)


def test_the_null_condition_zeroes_tokens_of_dropped_rows_alone(condition: Condition) -> None:
    null = null_conditions(condition, torch.tensor([True, False, False]))
    assert null.image_tokens[0].abs().max() == 0
    assert torch.equal(null.image_tokens[1:], condition.image_tokens[1:])
    assert null.dropped.tolist() == [True, False, True]
    assert null.pose is condition.pose
    assert null.reference_latent is condition.reference_latent


def test_nulling_twice_is_nulling_once(condition: Condition) -> None:
    rows = torch.tensor([True, True, False])
    once, twice = null_conditions(condition, rows), null_conditions(null_conditions(condition, rows), rows)
    assert torch.equal(once.image_tokens, twice.image_tokens)
    assert torch.equal(once.dropped, twice.dropped)


def test_rows_are_dropped_one_by_one_at_the_asked_rate() -> None:
    dropped = draw_dropped(20_000, 0.1, torch.Generator().manual_seed(0))
    assert float(dropped.float().mean()) == pytest.approx(0.1, abs=0.01)
    assert torch.equal(dropped, draw_dropped(20_000, 0.1, torch.Generator().manual_seed(0)))
    assert not draw_dropped(100, 0.0, torch.Generator()).any()
    assert draw_dropped(100, 1.0, torch.Generator()).all()
