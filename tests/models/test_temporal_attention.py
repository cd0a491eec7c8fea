"""Temporal layers: fresh ones change nothing, trained ones mix frames of one place of one clip, and only they are theirs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from models.animate_anyone.config import AnimateAnyoneConfig
from models.downsampling_temporal import frame_positions
from models.temporal_attention import motion_parameters, normalise_per_frame, with_motion, zero_motion_output
from models.unet_shape import make_motion, make_unet

FRAMES = 4


@pytest.fixture
def flat(tiny: AnimateAnyoneConfig) -> nn.Module:
    unet: nn.Module = make_unet(tiny.network.unet).eval()
    return unet


@pytest.fixture
def moving(tiny: AnimateAnyoneConfig, flat: nn.Module) -> nn.Module:
    unet: nn.Module = with_motion(flat, make_motion(tiny.network.unet)).eval()
    return unet


def _inputs(clips: int = 2) -> tuple[Tensor, Tensor]:
    """Latents [B, F, C, h, w] and tokens [B * F, 1, D]."""
    torch.manual_seed(5)
    return torch.randn(clips, FRAMES, 16, 8, 8), torch.randn(clips, 1, 16).repeat_interleave(FRAMES, dim=0)


def _run(unet: nn.Module, latents: Tensor, tokens: Tensor) -> Tensor:
    """[B, F, C, h, w] through the denoiser of stage 2."""
    with torch.no_grad():
        out: Tensor = unet(latents.transpose(1, 2), torch.full((len(latents),), 500), encoder_hidden_states=tokens).sample
    return out.transpose(1, 2)


def test_fresh_layers_give_the_network_of_stage_1_frame_by_frame(flat: nn.Module, moving: nn.Module) -> None:
    latents, tokens = _inputs()
    with torch.no_grad():
        frame_by_frame = flat(latents.flatten(0, 1), torch.full((2 * FRAMES,), 500), encoder_hidden_states=tokens).sample
    expected = frame_by_frame.unflatten(0, (2, FRAMES))
    assert not torch.allclose(_run(moving, latents, tokens), expected, atol=1e-3)  # diffusers' own initialisation does change it
    zero_motion_output(moving)
    torch.testing.assert_close(_run(moving, latents, tokens), expected, rtol=0, atol=1e-5)


def test_every_motion_module_is_zeroed_and_nothing_else(moving: nn.Module) -> None:
    before = {name: value.clone() for name, value in moving.state_dict().items()}
    names = zero_motion_output(moving)
    assert len(set(names)) == 7  # two down and four up layers, one in the middle
    changed = {name for name, value in moving.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {f"{name}.{kind}" for name in names for kind in ("weight", "bias")}
    assert all(moving.state_dict()[name].abs().max() == 0 for name in changed)


def test_the_first_gradient_reaches_zeroed_layers(moving: nn.Module) -> None:
    names = zero_motion_output(moving)
    latents, tokens = _inputs(1)
    moving(latents.transpose(1, 2), torch.tensor([500]), encoder_hidden_states=tokens).sample.square().mean().backward()
    for name in names:
        gradient = moving.get_submodule(name).weight.grad
        assert gradient is not None
        assert gradient.abs().max() > 0, name


def test_spatial_weights_are_copied(flat: nn.Module, moving: nn.Module) -> None:
    copied = moving.state_dict()
    assert all(torch.equal(copied[name], value) for name, value in flat.state_dict().items())
    assert set(copied) - set(flat.state_dict()) == {name for name in copied if "motion_modules" in name}


def test_motion_parameters_are_all_that_the_adapter_brought(tiny: AnimateAnyoneConfig, flat: nn.Module, moving: nn.Module) -> None:
    chosen = motion_parameters(moving)
    spatial = {name for name, _ in flat.named_parameters()}
    assert set(chosen) == {name for name, _ in moving.named_parameters()} - spatial
    assert sum(p.numel() for p in chosen.values()) == sum(p.numel() for p in make_motion(tiny.network.unet).parameters())
    assert not motion_parameters(flat)


def test_clips_of_a_batch_do_not_see_each_other(moving: nn.Module) -> None:
    latents, tokens = _inputs()
    together = _run(moving, latents, tokens)
    torch.testing.assert_close(together[:1], _run(moving, latents[:1], tokens[:FRAMES]), rtol=0, atol=1e-5)


def test_the_order_of_frames_matters(moving: nn.Module) -> None:
    """The sinusoidal positions: without them, permuted frames would give permuted outputs."""
    latents, tokens = _inputs(1)
    order = torch.tensor([2, 0, 3, 1])
    difference = (_run(moving, latents[:, order], tokens) - _run(moving, latents, tokens)[:, order]).abs().max()
    assert difference > 1e-4


def test_more_frames_than_positions_are_refused(tiny: AnimateAnyoneConfig, moving: nn.Module) -> None:
    frames = tiny.network.unet.motion_frames + 1
    with pytest.raises(RuntimeError, match="must match the size"):
        _run(moving, torch.randn(1, frames, 16, 8, 8), torch.randn(frames, 1, 16))


def test_statistics_of_each_frame_alone_change_no_name_and_no_weight(moving: nn.Module) -> None:
    before = {name: value.clone() for name, value in moving.state_dict().items()}
    assert len(normalise_per_frame(moving)) == 7
    after = moving.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], value) for name, value in after.items())


def test_a_frame_is_normalised_as_if_it_were_alone(moving: nn.Module) -> None:
    clips = torch.randn(2, 16, FRAMES, 4, 4) * torch.arange(1, FRAMES + 1)[:, None, None]
    names = [name for name in dict(moving.named_modules()) if name.endswith("motion_modules.0.norm")]
    pooled = moving.get_submodule(names[0])
    alone = torch.cat([pooled(clips[:, :, f : f + 1]) for f in range(FRAMES)], dim=2)
    together = pooled(clips)
    normalise_per_frame(moving)
    ours = moving.get_submodule(names[0])(clips)
    torch.testing.assert_close(ours, alone, rtol=0, atol=1e-5)
    assert (together - alone).abs().max() > 0.1


def test_a_clip_of_one_frame_knows_no_difference(tiny: AnimateAnyoneConfig, moving: nn.Module) -> None:
    latents, tokens = torch.randn(2, 1, 16, 8, 8), torch.randn(2, 1, 16)
    before = _run(moving, latents, tokens)
    normalise_per_frame(moving)
    torch.testing.assert_close(_run(moving, latents, tokens), before, rtol=0, atol=1e-5)


def test_a_motion_module_is_the_one_of_animatediff(tiny: AnimateAnyoneConfig, moving: nn.Module) -> None:
    """Written out from the paper's parts: norm, linear in, twice (layer norm, positions, attention over frames), feed-forward, linear out, residual."""
    normalise_per_frame(moving)
    module = moving.get_submodule("down_blocks.0.motion_modules.0")
    x = torch.randn(FRAMES, 16, 2, 2)
    block = module.transformer_blocks[0]
    tokens = nn.functional.group_norm(x, module.norm.num_groups, module.norm.weight, module.norm.bias, 1e-6)
    t = module.proj_in(tokens.permute(2, 3, 0, 1).flatten(0, 1))  # [h w, F, C]
    heads = tiny.network.unet.motion_heads
    for norm, attn in ((block.norm1, block.attn1), (block.norm2, block.attn2)):
        placed = norm(t) + frame_positions(FRAMES, 16)
        q, k, v = (layer(placed).unflatten(-1, (heads, -1)).transpose(1, 2) for layer in (attn.to_q, attn.to_k, attn.to_v))
        weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
        t = t + attn.to_out[0]((weights @ v).transpose(1, 2).flatten(2))
    inner, gate = block.ff.net[0].proj(block.norm3(t)).chunk(2, dim=-1)
    t = t + block.ff.net[2](inner * nn.functional.gelu(gate))
    expected = x + module.proj_out(t).unflatten(0, (2, 2)).permute(2, 3, 0, 1)
    torch.testing.assert_close(module(x, num_frames=FRAMES), expected, rtol=1e-5, atol=1e-5)
