"""HFCA's temporal layers: fresh ones change nothing, trained ones mix frames of one place of one clip, as diffusers' attention does."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from models.animate_anyone.config import AnimateAnyoneConfig
from models.downsampling_temporal import DownsamplingTemporal, TemporalLayer, frame_positions
from models.unet_shape import make_unet

FRAMES = 3


@pytest.fixture
def unet(tiny: AnimateAnyoneConfig) -> nn.Module:
    made: nn.Module = make_unet(tiny.network.unet).eval()
    return made


def _layers(tiny: AnimateAnyoneConfig, *, trained: bool, **options: bool) -> DownsamplingTemporal:
    layers = DownsamplingTemporal(tiny.network.unet.channels, heads=2, max_frames=8, **options)
    layers.frames = FRAMES
    for layer in layers.layers if trained else ():
        nn.init.normal_(layer.to_out.weight, std=0.5)
    return layers


def _inputs(clips: int = 2) -> tuple[Tensor, Tensor]:
    torch.manual_seed(3)
    return torch.randn(clips * FRAMES, 16, 8, 8), torch.randn(clips * FRAMES, 1, 16)


def _run(unet: nn.Module, latents: Tensor, tokens: Tensor) -> Tensor:
    with torch.no_grad():
        out: Tensor = unet(latents, torch.full((len(latents),), 500), encoder_hidden_states=tokens).sample
    return out


@pytest.mark.parametrize("update_skip", [True, False])
@pytest.mark.parametrize("pre_norm", [True, False])
def test_fresh_layers_change_no_bit(tiny: AnimateAnyoneConfig, unet: nn.Module, update_skip: bool, pre_norm: bool) -> None:
    inputs = _inputs()
    before = _run(unet, *inputs)
    _layers(tiny, trained=False, update_skip=update_skip, pre_norm=pre_norm).attach(unet)
    assert torch.equal(_run(unet, *inputs), before)


def test_the_first_gradient_reaches_every_zeroed_output(tiny: AnimateAnyoneConfig, unet: nn.Module) -> None:
    layers = _layers(tiny, trained=False)
    layers.attach(unet)
    latents, tokens = _inputs(1)
    unet(latents, torch.full((FRAMES,), 500), encoder_hidden_states=tokens).sample.square().mean().backward()
    for layer in layers.layers:
        assert layer.to_out.weight.grad.abs().max() > 0
        assert layer.to_q.weight.grad.abs().max() == 0  # nothing gets through zeros yet


def test_a_layer_is_attention_of_diffusers_with_positions() -> None:
    from diffusers.models.attention_processor import Attention
    from diffusers.models.embeddings import SinusoidalPositionalEmbedding

    layer = TemporalLayer(16, heads=2, pre_norm=False)
    nn.init.normal_(layer.to_out.weight)
    theirs = Attention(16, heads=2, dim_head=8)
    theirs.load_state_dict({name.replace("to_out.", "to_out.0."): value for name, value in layer.state_dict().items()})
    x = torch.randn(2, FRAMES, 16, 2, 2)
    tokens = SinusoidalPositionalEmbedding(16, max_seq_length=8)(x.permute(0, 3, 4, 1, 2).reshape(8, FRAMES, 16))
    expected = x + theirs(tokens).reshape(2, 2, 2, FRAMES, 16).permute(0, 3, 4, 1, 2)
    torch.testing.assert_close(layer(x.flatten(0, 1), FRAMES), expected.flatten(0, 1), rtol=1e-5, atol=1e-5)


def test_positions_are_those_of_diffusers() -> None:
    from diffusers.models.embeddings import SinusoidalPositionalEmbedding

    theirs = SinusoidalPositionalEmbedding(16, max_seq_length=8)(torch.zeros(1, 8, 16))[0]
    torch.testing.assert_close(frame_positions(8, 16), theirs, rtol=0, atol=1e-6)


def test_clips_and_places_do_not_see_each_other() -> None:
    layer = TemporalLayer(16, heads=2)
    nn.init.normal_(layer.to_out.weight)
    x = torch.randn(2 * FRAMES, 16, 4, 4)
    other = x.clone()
    other[FRAMES:] += 1
    other[:, :, 0] -= 1
    same = layer(other, FRAMES)[:FRAMES, :, 1:]
    torch.testing.assert_close(same, layer(x, FRAMES)[:FRAMES, :, 1:], rtol=0, atol=1e-6)


def test_frames_see_each_other_and_their_order(tiny: AnimateAnyoneConfig, unet: nn.Module) -> None:
    _layers(tiny, trained=True).attach(unet)
    latents, tokens = _inputs(1)
    tokens = tokens[:1].expand(FRAMES, -1, -1)
    before = _run(unet, latents, tokens)
    changed = latents.clone()
    changed[2] += 1
    assert (_run(unet, changed, tokens)[0] - before[0]).abs().max() > 1e-4
    order = torch.tensor([2, 0, 1])
    assert (_run(unet, latents[order], tokens) - before[order]).abs().max() > 1e-4


def test_the_last_skip_takes_the_result_only_when_asked(tiny: AnimateAnyoneConfig, unet: nn.Module) -> None:
    inputs = _inputs(1)
    block = unet.get_submodule("down_blocks.0")
    results: dict[bool, tuple[Tensor, tuple[Tensor, ...]]] = {}
    for update_skip in (True, False):
        torch.manual_seed(9)
        handles = _layers(tiny, trained=True, update_skip=update_skip).attach(unet)
        watch = block.register_forward_hook(lambda _, __, output, key=update_skip: results.__setitem__(key, output))
        _run(unet, *inputs)
        for handle in (*handles, watch):
            handle.remove()
    assert results[True][1][-1] is results[True][0]
    assert not torch.equal(results[False][1][-1], results[False][0])
    assert all(torch.equal(a, b) for a, b in zip(results[True][1][:-1], results[False][1][:-1], strict=True))


def test_handles_take_the_layers_out(tiny: AnimateAnyoneConfig, unet: nn.Module) -> None:
    inputs = _inputs()
    before = _run(unet, *inputs)
    handles = _layers(tiny, trained=True).attach(unet)
    assert not torch.equal(_run(unet, *inputs), before)
    for handle in handles:
        handle.remove()
    assert torch.equal(_run(unet, *inputs), before)


def test_rows_that_do_not_make_clips_are_refused(unet: nn.Module) -> None:
    layer = TemporalLayer(16, heads=2, max_frames=4)
    with pytest.raises(ValueError, match="7 rows in clips of 3"):
        layer(torch.zeros(7, 16, 2, 2), 3)
    with pytest.raises(ValueError, match="at most 4"):
        layer(torch.zeros(5, 16, 2, 2), 5)
    with pytest.raises(ValueError, match="3 temporal layers for 2 down blocks"):
        DownsamplingTemporal((16, 16, 16), heads=2).attach(unet)


def test_paper_size_sits_behind_the_four_blocks_of_stable_diffusion() -> None:
    from models.unet_shape import UnetShape

    with torch.device("meta"):
        unet, layers = make_unet(UnetShape()), DownsamplingTemporal()
        layers.frames = 2
        layers.attach(unet)
        seen: list[tuple[int, ...]] = []
        for layer in layers.layers:
            layer.register_forward_hook(lambda _, __, output: seen.append(tuple(output.shape[1:])))
        unet(torch.zeros(2, 4, 80, 80), torch.zeros(2), encoder_hidden_states=torch.zeros(2, 1, 768))
    assert seen == [(320, 40, 40), (640, 20, 20), (1280, 10, 10), (1280, 10, 10)]
    widths = (320, 640, 1280, 1280)
    assert sum(p.numel() for p in layers.parameters()) == sum(4 * c * c + c + 2 * c for c in widths)
