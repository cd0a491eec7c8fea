"""DCAM and MGDM: what the equations say of special weights and masks, and that the layers are the right ones."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0
from torch import Tensor

from models.pose_animate.config import Dcam
from models.pose_animate.dual_consistency import (
    DualConsistency,
    DualConsistencyAttention,
    Weights,
    consistency_sites,
    cross_frame,
    decoupled_consistency,
    dual_consistency,
    not_empty,
)
from models.unet_shape import UnetShape, make_unet

FRAMES, PLACES = 4, 16
PAPER: Weights = (0.7, 0.15, 0.15)


def _heads(rows: int = FRAMES) -> tuple[Tensor, Tensor, Tensor]:
    query, key, value = torch.randn(3, rows, 2, PLACES, 8)
    return query, key, value


def _masks() -> Tensor:
    masks = torch.zeros(FRAMES, PLACES, dtype=torch.bool)
    for frame in range(FRAMES):
        masks[frame, frame : frame + 6] = True
    return masks


@pytest.fixture
def layer() -> Attention:
    return Attention(query_dim=16, heads=2, dim_head=8).eval()


def test_all_weight_on_the_frame_itself_is_plain_attention(layer: Attention) -> None:
    hidden = torch.randn(FRAMES, PLACES, 16)
    shared = DualConsistency((0.0, 0.0, 1.0))
    with shared.over(FRAMES):
        torch.testing.assert_close(DualConsistencyAttention(shared)(layer, hidden), AttnProcessor2_0()(layer, hidden))


def test_outside_of_a_clip_it_is_plain_attention(layer: Attention) -> None:
    hidden = torch.randn(3, PLACES, 16)
    torch.testing.assert_close(DualConsistencyAttention(DualConsistency(PAPER))(layer, hidden), AttnProcessor2_0()(layer, hidden))


def test_every_frame_is_the_weighted_sum_of_equation_8() -> None:
    query, key, value = _heads()
    made = dual_consistency(query, key, value, FRAMES, PAPER)
    for i in range(FRAMES):
        looks = [(query[i] @ key[j].transpose(-1, -2) / math.sqrt(8)).softmax(-1) @ value[j] for j in (0, max(i - 1, 0), i)]
        torch.testing.assert_close(made[i], sum(w * look for w, look in zip(PAPER, looks, strict=True)))


def test_frame_0_looks_at_itself_alone() -> None:
    query, key, value = _heads()
    plain = F.scaled_dot_product_attention(query[:1], key[:1], value[:1])
    for made in (dual_consistency(query, key, value, FRAMES, PAPER), decoupled_consistency(query, key, value, _masks(), PAPER)):
        torch.testing.assert_close(made[:1], plain)


def test_the_weights_sum_to_one_or_are_refused() -> None:
    assert math.isclose(sum(Dcam().weights), 1)
    with pytest.raises(ValueError, match="must sum to 1"):
        Dcam(weights=(0.7, 0.2, 0.2))
    query, key, _ = _heads()
    torch.testing.assert_close(dual_consistency(query, key, torch.ones_like(key), FRAMES, PAPER), torch.ones_like(key))


def test_mixing_before_and_after_the_output_projection_agree(layer: Attention) -> None:
    hidden = torch.randn(FRAMES, PLACES, 16)

    def made(weights: Weights) -> Tensor:
        shared = DualConsistency(weights)
        with shared.over(FRAMES):
            out: Tensor = DualConsistencyAttention(shared)(layer, hidden)
        return out

    parts = [made(one) for one in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))]
    torch.testing.assert_close(made(PAPER), sum(w * part for w, part in zip(PAPER, parts, strict=True)))


def test_branches_in_one_batch_do_not_see_each_other() -> None:
    (q1, k1, v1), (q2, k2, v2) = _heads(), _heads()
    masks = _masks()
    both = decoupled_consistency(torch.cat([q1, q2]), torch.cat([k1, k2]), torch.cat([v1, v2]), masks, PAPER)
    torch.testing.assert_close(both[:FRAMES], decoupled_consistency(q1, k1, v1, masks, PAPER))
    torch.testing.assert_close(both[FRAMES:], decoupled_consistency(q2, k2, v2, masks, PAPER))


def test_a_later_frame_changes_no_earlier_one() -> None:
    query, key, value = _heads()
    before = dual_consistency(query, key, value, FRAMES, PAPER)
    key[3], value[3] = torch.randn(2, 2, PLACES, 8)
    after = dual_consistency(query, key, value, FRAMES, PAPER)
    torch.testing.assert_close(after[:3], before[:3])
    assert not torch.allclose(after[3], before[3])


@pytest.mark.parametrize("rule", ["neg_inf", "zero"])
def test_masks_of_ones_are_plain_dual_consistency(rule: str) -> None:
    query, key, value = _heads()
    ones = torch.ones(FRAMES, PLACES, dtype=torch.bool)
    made = decoupled_consistency(query, key, value, ones, PAPER, rule)  # type: ignore[arg-type]
    torch.testing.assert_close(made, dual_consistency(query, key, value, FRAMES, PAPER))


def test_the_character_sees_nothing_of_the_background_and_the_other_way_round() -> None:
    query, key, value = _heads()
    masks = _masks()
    made = decoupled_consistency(query, key, value, masks, PAPER)
    foreign = torch.where(masks[:, None, :, None], value, torch.randn_like(value) * 100)
    again = decoupled_consistency(query, key, foreign, masks, PAPER)
    inside = masks[1:, None, :, None].expand_as(made[1:])
    torch.testing.assert_close(again[1:][inside], made[1:][inside])
    assert not torch.allclose(again[1:][~inside], made[1:][~inside])


def test_the_printed_equation_gives_most_attention_away() -> None:
    """Masked keys keep a logit of 0 and share the attention with zero values: with a tenth of the keys left, most of the output is gone."""
    query, key, value = torch.randn(3, 1, 1, 400, 16)
    keep = torch.zeros(1, 400, dtype=torch.bool)
    keep[:, :40] = True
    own = torch.zeros(1, dtype=torch.long)
    printed, masked = (cross_frame(query, key, value, own, keep, rule) for rule in ("zero", "neg_inf"))
    assert printed.norm() < 0.3 * masked.norm()
    expected = (query @ (key * keep[:, None, :, None]).transpose(-1, -2) / 4).softmax(-1) @ (value * keep[:, None, :, None])
    torch.testing.assert_close(printed, expected)


def test_a_frame_with_nothing_to_look_at_looks_at_everything() -> None:
    masks = torch.tensor([[True, False], [False, False]])
    assert not_empty(masks).tolist() == [[True, False], [True, True]]
    query, key, value = _heads()
    empty = torch.zeros(FRAMES, PLACES, dtype=torch.bool)
    assert decoupled_consistency(query, key, value, empty, PAPER).isfinite().all()


def test_the_sites_of_stable_diffusion_are_the_nine_of_its_up_blocks() -> None:
    with torch.device("meta"):
        unet = make_unet(UnetShape())
    sites = consistency_sites(unet)
    assert sites == [f"up_blocks.{b}.attentions.{i}.transformer_blocks.0.attn1.processor" for b in (1, 2, 3) for i in range(3)]


def test_a_layer_with_recorded_cross_attention_gives_diffusers_result_and_probabilities(layer: Attention) -> None:
    from models.pose_animate.mask_decoupling import CharacterMaps, RecordedAttention

    hidden, context, maps = torch.randn(FRAMES, PLACES, 16), torch.randn(FRAMES, 5, 16), CharacterMaps()
    processor = RecordedAttention(maps)
    expected = AttnProcessor()(layer, hidden, context)
    torch.testing.assert_close(processor(layer, hidden, context), expected)
    assert maps.mean(4, 4) is None
    with maps.recording(range(5)):
        torch.testing.assert_close(processor(layer, hidden, context), expected)
    total = maps.mean(4, 4)
    assert total is not None
    torch.testing.assert_close(total, torch.ones(FRAMES, 1, 4, 4))  # over all tokens
    maps.forget()
    with maps.recording([1, 2]):
        processor(layer, hidden, context)
    scores = layer.get_attention_scores(layer.head_to_batch_dim(layer.to_q(hidden)), layer.head_to_batch_dim(layer.to_k(context)))
    theirs = scores.unflatten(0, (FRAMES, 2)).mean(1)[..., 1:3].sum(-1)
    found = maps.mean(4, 4)
    assert found is not None
    torch.testing.assert_close(found.flatten(1), theirs)
