"""A fresh pose guider adds nothing, at the latents' size, and learns from the first step."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import nn

from models.pose_guider import PoseGuider, start_from_controlnet, widened_input
from pipelines.errors import UserError

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


def test_a_fresh_literal_guider_has_four_halvings_and_one_doubling() -> None:
    guider = PoseGuider(32, (4, 8, 8, 16), "paper_literal")
    halvings = [m for m in guider.modules() if isinstance(m, nn.Conv2d) and m.stride == (2, 2)]
    assert [c.kernel_size for c in halvings] == [(4, 4)] * 4
    out = guider(torch.rand(2, 3, 64, 48))
    assert out.shape == (2, 32, 8, 6)
    assert out.abs().max() == 0


@pytest.mark.parametrize("variant", [*VARIANTS, "paper_literal"])
def test_six_channels_are_taken_by_every_variant(variant: Literal["controlnet", "paper_k4", "paper_literal"]) -> None:
    guider = PoseGuider(32, (4, 8, 8, 16), variant, in_channels=6)
    nn.init.normal_(next(m for m in reversed(list(guider.modules())) if isinstance(m, nn.Conv2d)).weight)
    pose = torch.rand(1, 6, 32, 32, requires_grad=True)
    guider(pose).sum().backward()
    assert pose.grad is not None
    assert (pose.grad.abs().amax(dim=(0, 2, 3)) > 0).all()


def _controlnet_weights(channels: int = 3) -> dict[str, torch.Tensor]:
    from diffusers.models.controlnets.controlnet import ControlNetConditioningEmbedding

    embedding = ControlNetConditioningEmbedding(8, channels, (4, 8, 8))
    nn.init.normal_(embedding.conv_out.weight)
    return {f"controlnet_cond_embedding.{name}": value for name, value in embedding.state_dict().items()} | {
        "conv_in.weight": torch.ones(1)
    }


def test_a_start_from_a_controlnet_takes_all_but_the_last_layer() -> None:
    weights, guider = _controlnet_weights(), PoseGuider(8, (4, 8, 8))
    names = start_from_controlnet(guider, weights)
    assert set(guider.state_dict()) - set(names) == {"layers.10.weight", "layers.10.bias"}
    pose = torch.rand(2, 3, 16, 16)
    assert guider(pose).abs().max() == 0  # still changes nothing
    with torch.no_grad():
        guider.layers[10].weight.copy_(weights["controlnet_cond_embedding.conv_out.weight"])
        guider.layers[10].bias.copy_(weights["controlnet_cond_embedding.conv_out.bias"])
    from diffusers.models.controlnets.controlnet import ControlNetConditioningEmbedding

    theirs = ControlNetConditioningEmbedding(8, 3, (4, 8, 8))
    prefix = "controlnet_cond_embedding."
    theirs.load_state_dict({name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)})
    torch.testing.assert_close(guider(pose), theirs(pose), rtol=0, atol=1e-6)


def test_channels_that_the_controlnet_lacks_change_nothing_at_the_start() -> None:
    weights = _controlnet_weights()
    plain, wide = PoseGuider(8, (4, 8, 8)), PoseGuider(8, (4, 8, 8), in_channels=6)
    for guider in (plain, wide):
        start_from_controlnet(guider, weights)
        nn.init.ones_(guider.layers[10].weight)
    pose = torch.rand(2, 6, 16, 16)
    torch.testing.assert_close(wide(pose), plain(pose[:, :3]), rtol=0, atol=1e-6)


def test_a_controlnet_of_another_size_is_refused() -> None:
    with pytest.raises(UserError, match="of another shape"):
        start_from_controlnet(PoseGuider(8, (4, 16, 16)), _controlnet_weights())
    with pytest.raises(UserError, match="missing"):
        start_from_controlnet(PoseGuider(8, (4, 8, 8)), {})


def test_a_widened_layer_computes_the_same() -> None:
    layer = nn.Conv2d(3, 5, 3, stride=2, padding=1)
    wide, image = widened_input(layer, 6), torch.rand(1, 6, 8, 8)
    torch.testing.assert_close(wide(image), layer(image[:, :3]), rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="fewer"):
        widened_input(wide, 3)
