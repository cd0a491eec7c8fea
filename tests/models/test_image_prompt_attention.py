"""Decoupled cross-attention: IP-Adapter's numbers, and nothing from null tokens or from a fresh adapter."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from models.animate_anyone.config import AnimateAnyoneConfig
from models.image_prompt_attention import ImagePromptAttention, add_image_prompts, cross_sites
from models.temporal_attention import with_motion
from models.unet_shape import make_motion, make_unet


@pytest.fixture
def unet(tiny: AnimateAnyoneConfig) -> nn.Module:
    made: nn.Module = make_unet(tiny.network.unet).eval()
    return made


def _run(unet: nn.Module, tokens: Tensor) -> Tensor:
    torch.manual_seed(2)
    with torch.no_grad():
        out: Tensor = unet(torch.randn(2, 16, 8, 8), torch.tensor([500, 500]), encoder_hidden_states=tokens).sample
    return out


def _trained(unet: nn.Module, scale: float = 1.0) -> dict[str, ImagePromptAttention]:
    made = add_image_prompts(unet, image_tokens=4, scale=scale)
    for processor in made.values():
        nn.init.normal_(processor.to_v_ip.weight, std=0.3)
    return made


@pytest.mark.parametrize("scale", [1.0, 0.6])
def test_the_numbers_are_those_of_diffusers(unet: nn.Module, scale: float) -> None:
    from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0

    text, image = torch.randn(2, 3, 16), torch.randn(2, 4, 16)
    for name, ours in _trained(unet, scale).items():
        layer = unet.get_submodule(name.removesuffix(".processor"))
        channels = layer.to_q.in_features
        theirs = IPAdapterAttnProcessor2_0(channels, 16, num_tokens=(4,), scale=scale)
        theirs.load_state_dict({kind.replace("ip.", "ip.0."): value for kind, value in ours.state_dict().items()})
        hidden = torch.randn(2, 10, channels)
        expected = theirs(layer, hidden, (text, [image[:, None]]))
        torch.testing.assert_close(ours(layer, hidden, torch.cat([text, image], dim=1)), expected, rtol=1e-5, atol=1e-5)


def test_a_fresh_adapter_changes_nothing(unet: nn.Module) -> None:
    text, image = torch.randn(2, 3, 16), torch.randn(2, 4, 16)
    before = _run(unet, text)
    add_image_prompts(unet)
    torch.testing.assert_close(_run(unet, torch.cat([text, image], dim=1)), before, rtol=0, atol=1e-6)


def test_null_tokens_add_nothing_and_others_do(unet: nn.Module) -> None:
    text, image = torch.randn(2, 3, 16), torch.randn(2, 4, 16)
    before = _run(unet, text)
    _trained(unet)
    mixed = torch.cat([text, torch.stack([torch.zeros_like(image[0]), image[1]])], dim=1)
    after = _run(unet, mixed)
    torch.testing.assert_close(after[:1], before[:1], rtol=0, atol=1e-5)
    assert (after[1] - before[1]).abs().max() > 1e-3


def test_only_the_new_keys_and_values_are_new(tiny: AnimateAnyoneConfig, unet: nn.Module) -> None:
    before = {name for name, _ in unet.named_parameters()}
    made = add_image_prompts(unet)
    new = {name for name, _ in unet.named_parameters()} - before
    assert new == {f"{name}.{kind}.weight" for name in made for kind in ("to_k_ip", "to_v_ip")}
    moving = with_motion(make_unet(tiny.network.unet), make_motion(tiny.network.unet))
    assert cross_sites(moving) == cross_sites(unet) == list(made)
