"""The additions that the demo's networks share, one denoiser call for both kinds, and conditions cut out of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from models.demo_additions import DemoAdditions, ReferenceHint, hinted
from models.denoising import denoise, sees_frames
from models.guidance import Condition
from models.noise import NoiseConfig, add_noise, clean_estimate, make_scheduler
from models.stem import StemAddition
from models.temporal_attention import with_motion, zero_motion_output
from models.unet_shape import UnetShape, make_motion, make_unet

SHAPE = UnetShape(channels=(16, 32), layers=1, heads=2, token_dim=16, norm_groups=4, latent_channels=4, motion_heads=2, motion_frames=8)


def _condition(references: int, each: int, dropped: tuple[bool, ...]) -> Condition:
    return Condition(
        reference_latent=torch.randn(references, 4, 8, 8),
        image_tokens=torch.randn(references, 1, 16),
        pose=torch.randn(references * each, 3, 32, 32),
        dropped=torch.tensor(dropped),
    )


def test_what_is_diffused_gives_the_latents_back() -> None:
    latents, anchor = torch.randn(2, 3, 4, 8, 8), torch.randn(2, 1, 4, 8, 8)
    for additions in (DemoAdditions(), DemoAdditions(residual=True, residual_scale=0.4)):
        torch.testing.assert_close(additions.restored(additions.diffused(latents, anchor), anchor), latents)
    still = DemoAdditions(residual=True).diffused(anchor.expand(-1, 3, -1, -1, -1), anchor)
    assert not still.any()


def test_a_silent_network_with_the_skip_makes_the_best_linear_estimate() -> None:
    """Of Gaussian x0 of the named deviation the skip alone leaves the least mean squared error: s^2 (1 - a) / (a s^2 + 1 - a)."""
    torch.manual_seed(0)
    additions, scheduler = DemoAdditions(skip_std=0.3), make_scheduler(NoiseConfig())
    times = torch.tensor([300, 700])
    clean, noise = 0.3 * torch.randn(2, 50, 4, 8, 8), torch.randn(2, 50, 4, 8, 8)
    alpha = scheduler.alphas_cumprod[times].view(2, 1, 1, 1, 1)
    noisy = add_noise(clean, noise, alpha)
    estimate = clean_estimate(noisy, additions.with_skip(torch.zeros_like(noisy), noisy, times, scheduler), alpha, "v")
    found = (estimate - clean).square().mean(dim=(1, 2, 3, 4))
    a = alpha.flatten()
    torch.testing.assert_close(found, 0.09 * (1 - a) / (a * 0.09 + 1 - a), rtol=0.03, atol=0)
    assert torch.equal(DemoAdditions().with_skip(noisy, noisy, times, scheduler), noisy)


def test_levels_of_frames_and_of_clips_mean_the_same() -> None:
    additions, scheduler, noisy = DemoAdditions(skip_std=0.2), make_scheduler(NoiseConfig()), torch.randn(2, 3, 4, 8, 8)
    output, per_clip = torch.zeros_like(noisy), torch.tensor([10, 900])
    whole = additions.with_skip(output, noisy, per_clip, scheduler)
    torch.testing.assert_close(whole, additions.with_skip(output, noisy, per_clip.repeat_interleave(3), scheduler))


def test_the_skip_is_refused_where_it_is_not_worked_out() -> None:
    with pytest.raises(ValueError, match="v-prediction"):
        DemoAdditions(skip_std=0.1).check("epsilon")
    DemoAdditions().check("epsilon")
    assert DemoAdditions().said() == []
    assert len(DemoAdditions(hint=True, residual=True, skip_std=0.1).said()) == 3


def test_a_fresh_hint_adds_nothing_and_a_dropped_reference_gives_none() -> None:
    hint, condition = ReferenceHint(4, 16), _condition(2, 3, (True, False))
    features = torch.randn(6, 16, 8, 8)
    assert torch.equal(hinted(features, hint, condition, 3), features)  # type: ignore[arg-type]
    assert hinted(features, None, condition, 3) is features
    with torch.no_grad():
        hint.convolution.weight.normal_()
    added = hinted(None, hint, condition, 3)
    assert added is not None
    assert not added[:3].any()
    assert torch.equal(added[3], added[5])
    assert added[3].any()


def test_the_stem_adds_only_inside() -> None:
    conv, image = nn.Conv2d(4, 8, 3, padding=1), torch.randn(2, 4, 8, 8)
    stem, features = StemAddition(conv), torch.randn(2, 8, 8, 8)
    plain = conv(image)
    with stem.adding(features):
        torch.testing.assert_close(conv(image), plain + features)
    with pytest.raises(RuntimeError), stem.adding(torch.zeros(5, 8, 8, 8)):
        conv(image)
    assert torch.equal(conv(image), plain)


@pytest.mark.parametrize("per_row", [False, True])
def test_both_denoisers_see_the_same_rows(per_row: bool) -> None:
    torch.manual_seed(0)
    flat = make_unet(SHAPE).eval()
    moving = with_motion(flat, make_motion(SHAPE)).eval()
    zero_motion_output(moving)
    noisy, tokens, times = torch.randn(2, 3, 4, 8, 8), torch.randn(2, 1, 16), torch.tensor([100, 800])
    with torch.no_grad():
        context = tokens.repeat_interleave(3, dim=0) if per_row else tokens
        ours = denoise(flat, noisy, times.repeat_interleave(3) if per_row else times, context)
        torch.testing.assert_close(denoise(moving, noisy, times, context), ours, rtol=0, atol=1e-5)
        alone = flat(noisy[1, :1], times[1:], encoder_hidden_states=tokens[1:]).sample
    torch.testing.assert_close(ours[1, :1], alone, rtol=0, atol=1e-5)
    assert (sees_frames(flat), sees_frames(moving)) == (False, True)


@dataclass(frozen=True, kw_only=True, slots=True)
class _WithMore(Condition):
    per_reference: ClassVar[tuple[str, ...]] = (*Condition.per_reference, "clothing")

    clothing: Tensor
    blur: Tensor | None = None


def test_the_condition_of_one_reference_holds_its_own_rows() -> None:
    plain = _condition(3, 2, (False, True, False))
    whole = _WithMore(
        reference_latent=plain.reference_latent,
        image_tokens=plain.image_tokens,
        pose=plain.pose,
        dropped=plain.dropped,
        clothing=torch.arange(3),
        blur=torch.arange(6),
    )
    one = whole.of_reference(1, 2)
    assert (one.clothing.tolist(), one.dropped.tolist()) == ([1], [True])
    assert one.blur is not None
    assert one.blur.tolist() == [2, 3]
    assert torch.equal(one.pose, whole.pose[2:4])
    assert torch.equal(one.reference_latent, whole.reference_latent[1:2])
