"""A fresh pose guider adds nothing, at the latents' size, and learns from the first step."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import nn

from models.pose_guider import PoseGuider

Variant = Literal["controlnet", "paper_k4"]
VARIANTS: tuple[Variant, ...] = ("controlnet", "paper_k4")


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_fresh_guider_adds_nothing_but_hears_its_first_gradient(variant: Variant) -> None:
    guider = PoseGuider(32, (4, 8, 8, 16), variant)
    out = guider(torch.rand(2, 3, 64, 48))
    assert out.shape == (2, 32, 8, 6)  # three halvings
    assert out.abs().max() == 0
    (out - 1).square().mean().backward()
    last = [p for p in guider.parameters()][-2]
    assert last.grad is not None
    assert last.grad.abs().max() > 0


def test_paper_size_ends_in_320_channels_at_an_eighth() -> None:
    with torch.device("meta"):
        for variant, widths in (("controlnet", (16, 32, 96, 256)), ("paper_k4", (16, 32, 64, 128))):
            guider = PoseGuider(320, widths, variant)
            assert guider(torch.zeros(1, 3, 768, 768)).shape == (1, 320, 96, 96)


def test_the_paper_variant_has_four_layers_of_4x4_kernels() -> None:
    convolutions = [m for m in PoseGuider(320, (16, 32, 64, 128), "paper_k4").modules() if isinstance(m, nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [16, 32, 64, 128, 320]
    assert [c.kernel_size for c in convolutions] == [(4, 4)] * 4 + [(1, 1)]
    assert [c.stride for c in convolutions] == [(2, 2)] * 3 + [(1, 1)] * 2


def test_the_controlnet_variant_has_the_shapes_of_published_weights() -> None:
    """control_v11p_sd15_openpose's `controlnet_cond_embedding` fits, layer by layer."""
    from diffusers.models.controlnets.controlnet import ControlNetConditioningEmbedding

    ours = [m for m in PoseGuider(320, (16, 32, 96, 256)).modules() if isinstance(m, nn.Conv2d)]
    theirs = ControlNetConditioningEmbedding(320, 3, (16, 32, 96, 256))
    order = [theirs.conv_in, *theirs.blocks, theirs.conv_out]
    assert [c.weight.shape for c in ours] == [c.weight.shape for c in order]
    assert [c.stride for c in ours] == [c.stride for c in order]


def test_the_controlnet_variant_computes_what_diffusers_computes() -> None:
    from diffusers.models.controlnets.controlnet import ControlNetConditioningEmbedding

    ours, theirs = PoseGuider(8, (4, 8, 8)), ControlNetConditioningEmbedding(8, 3, (4, 8, 8))
    nn.init.normal_(theirs.conv_out.weight)
    layers = [m for m in ours.modules() if isinstance(m, nn.Conv2d)]
    for mine, other in zip(layers, [theirs.conv_in, *theirs.blocks, theirs.conv_out], strict=True):
        mine.load_state_dict(other.state_dict())
    pose = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(ours(pose), theirs(pose), rtol=0, atol=1e-6)
