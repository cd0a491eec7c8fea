"""Guidance is linear, and the null condition drops the reference and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from models.guidance import Condition, animation_guide, draw_dropped, guide, null_conditions


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


def test_animation_guidance_has_three_readings_of_one_rule() -> None:
    """HIA Eq. 4: w = 1.5 of the usual rule is 0.5 from the conditional prediction and -1.5 as printed."""
    unconditional, conditional = torch.randn(2, 4), torch.randn(2, 4)
    usual = guide(unconditional, conditional, 1.5)
    assert torch.equal(animation_guide(unconditional, conditional, 1.5), usual)
    torch.testing.assert_close(animation_guide(unconditional, conditional, 0.5, "from_conditional"), usual)
    torch.testing.assert_close(animation_guide(unconditional, conditional, -1.5, "printed"), usual)
    torch.testing.assert_close(animation_guide(unconditional, conditional, 0.0, "from_conditional"), conditional)


def test_the_printed_form_leads_away_from_the_condition() -> None:
    """A linear toy: the condition asks for 1, no condition for 0. As printed, w = 1 gives -1."""
    unconditional, conditional = torch.zeros(1), torch.ones(1)
    assert animation_guide(unconditional, conditional, 1.0, "printed").item() == -1
    assert animation_guide(unconditional, conditional, 1.0, "usual").item() == 1
    assert animation_guide(unconditional, conditional, 1.0, "from_conditional").item() == 2


@dataclass(frozen=True, kw_only=True, slots=True)
class _WithAction(Condition):
    action: torch.Tensor


def test_a_method_adds_conditions_in_a_subclass(condition: Condition) -> None:
    more = _WithAction(
        reference_latent=condition.reference_latent,
        image_tokens=condition.image_tokens,
        pose=condition.pose,
        dropped=condition.dropped,
        action=torch.ones(3, 5),
    )
    null = null_conditions(more, torch.tensor([True, True, True]))
    assert isinstance(null, _WithAction)
    assert null.dropped.all()
    assert null.action is more.action
