"""The pose ControlNet: diffusers' own at any number of condition channels; dropped rows are the denoiser alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from models.animate_anyone.config import AnimateAnyoneConfig
from models.pose_controlnet import control_residuals, controlnet_of, take_more_channels
from models.temporal_attention import with_motion
from models.unet_shape import make_motion, make_unet

WIDTHS = (4, 8)  # one halving: 16 px of condition on 8x8 latents


@pytest.fixture
def unet(tiny: AnimateAnyoneConfig) -> nn.Module:
    made: nn.Module = make_unet(tiny.network.unet).eval()
    return made


@pytest.fixture
def trained(unet: nn.Module) -> nn.Module:
    """A ControlNet whose zero convolutions are no longer zero."""
    controlnet: nn.Module = controlnet_of(unet, widths=WIDTHS).eval()
    for name, parameter in controlnet.named_parameters():
        if name.startswith(("controlnet_down", "controlnet_mid")) or ".conv_out." in name:
            nn.init.normal_(parameter, std=0.1)
    return controlnet


def _inputs(rows: int, channels: int = 3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return torch.randn(rows, 16, 8, 8), torch.full((rows,), 500), torch.randn(rows, 1, 16), torch.rand(rows, channels, 16, 16)


@torch.no_grad()
def _steered(unet: nn.Module, controlnet: nn.Module, inputs: tuple[Tensor, ...], dropped: Tensor | None = None) -> Tensor:
    noisy, times, tokens, image = inputs
    residuals = control_residuals(controlnet, noisy, times, tokens, image, dropped)
    out: Tensor = unet(noisy, times, encoder_hidden_states=tokens, **residuals).sample
    return out


@torch.no_grad()
def _alone(unet: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    out: Tensor = unet(*inputs[:2], encoder_hidden_states=inputs[2]).sample
    return out


def test_a_fresh_controlnet_changes_nothing(unet: nn.Module) -> None:
    inputs = _inputs(2, 6)
    assert torch.equal(_steered(unet, controlnet_of(unet, 6, WIDTHS).eval(), inputs), _alone(unet, inputs))


def test_residuals_are_those_of_diffusers(unet: nn.Module, trained: nn.Module) -> None:
    noisy, times, tokens, image = _inputs(2)
    ours = control_residuals(trained, noisy, times, tokens, image)
    theirs = trained(noisy, times, encoder_hidden_states=tokens, controlnet_cond=image)
    pairs = zip(ours["down_block_additional_residuals"], theirs.down_block_res_samples, strict=True)
    for mine, other in (*pairs, (ours["mid_block_additional_residual"], theirs.mid_block_res_sample)):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-5)


def test_new_channels_start_without_effect_and_learn(unet: nn.Module, trained: nn.Module) -> None:
    inputs = _inputs(2, 6)
    before = _steered(unet, trained, (*inputs[:3], inputs[3][:, :3]))
    wide = take_more_channels(trained, 6)
    assert wide.config.conditioning_channels == 6
    torch.testing.assert_close(_steered(unet, wide, inputs), before, rtol=0, atol=1e-6)
    control_residuals(wide, *inputs)["mid_block_additional_residual"].square().mean().backward()
    gradient = wide.controlnet_cond_embedding.conv_in.weight.grad
    assert (gradient[:, 3:].abs().amax(dim=(0, 2, 3)) > 0).all()


def test_a_widened_controlnet_is_stored_and_read_back(trained: nn.Module, tmp_path: object) -> None:
    from diffusers import ControlNetModel

    wide = take_more_channels(trained, 6)
    wide.save_pretrained(tmp_path)
    inputs = _inputs(1, 6)
    again = ControlNetModel.from_pretrained(tmp_path)
    ours, theirs = (control_residuals(net.eval(), *inputs)["mid_block_additional_residual"] for net in (wide, again))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)  # another memory layout may take another kernel
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in wide.state_dict().items())


def test_dropped_rows_are_the_denoiser_alone(unet: nn.Module, trained: nn.Module) -> None:
    inputs = _inputs(4)
    mixed = _steered(unet, trained, inputs, torch.tensor([True, False]))  # two references of two frames
    torch.testing.assert_close(mixed[:2], _alone(unet, inputs)[:2], rtol=0, atol=1e-6)
    torch.testing.assert_close(mixed[2:], _steered(unet, trained, inputs)[2:], rtol=0, atol=1e-6)
    assert (mixed[2:] - _alone(unet, inputs)[2:]).abs().max() > 1e-3


def test_residuals_fit_the_denoiser_with_motion(tiny: AnimateAnyoneConfig, unet: nn.Module, trained: nn.Module) -> None:
    """Frames folded into rows, as UNetMotionModel wants its additional residuals."""
    moving = with_motion(unet, make_motion(tiny.network.unet)).eval()
    noisy, times, tokens, image = _inputs(4)
    with torch.no_grad():
        residuals = control_residuals(trained, noisy, times, tokens, image)
        clips = noisy.unflatten(0, (2, 2)).transpose(1, 2)
        steered = moving(clips, times[:2], encoder_hidden_states=tokens, **residuals).sample
        plain = moving(clips, times[:2], encoder_hidden_states=tokens).sample
    assert steered.shape == (2, 16, 2, 8, 8)
    assert (steered - plain).abs().max() > 1e-3


def test_paper_size_has_the_parameters_of_the_openpose_controlnet() -> None:
    from models.unet_shape import UnetShape

    with torch.device("meta"):
        controlnet = controlnet_of(make_unet(UnetShape()))
    count = sum(p.numel() for p in controlnet.parameters())
    assert count == pytest.approx(361.3e6, abs=0.05e6)
    assert len(controlnet.controlnet_down_blocks) == 12
