"""MagicVideo's temporal layers: the future does not matter, the adaptor begins as the identity, and frames have their own numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models.causal_temporal import CausalTemporal, CausalTemporalLayer, FrameAdaptor, causal_temporal_of
from models.checkpoint import load_part
from models.unet_shape import UnetShape, make_unet

SHAPE = UnetShape(channels=(16, 32), layers=1, heads=2, token_dim=16, norm_groups=4, latent_channels=4)


@pytest.fixture
def unet() -> nn.Module:
    torch.manual_seed(0)
    made: nn.Module = make_unet(SHAPE).eval()
    return made


def _run(unet: nn.Module, noisy: Tensor) -> Tensor:
    with torch.no_grad():
        out: Tensor = unet(noisy, 500, encoder_hidden_states=torch.ones(len(noisy), 1, 16)).sample
    return out


def _trained(temporal: CausalTemporal) -> CausalTemporal:
    for parameter in temporal.parameters():
        nn.init.normal_(parameter, std=0.3)
    return temporal


@pytest.fixture
def noisy() -> Tensor:
    return torch.randn(8, 4, 8, 8)  # two clips of four frames


def test_fresh_layers_and_adaptors_change_nothing(unet: nn.Module, noisy: Tensor) -> None:
    before, temporal = _run(unet, noisy), causal_temporal_of(unet, heads=2)
    temporal.attach(unet)
    temporal.frames = 4
    assert torch.equal(_run(unet, noisy), before)


def test_the_future_does_not_matter(unet: nn.Module, noisy: Tensor) -> None:
    temporal = _trained(causal_temporal_of(unet, heads=2))
    temporal.attach(unet)
    temporal.frames = 4
    before, other = _run(unet, noisy), noisy.clone()
    other[2] += 1  # frame 2 of the first clip
    change = (_run(unet, other) - before).abs().amax(dim=(1, 2, 3))
    assert change[[0, 1, 4, 5, 6, 7]].max() == 0
    assert (change[[2, 3]] > 1e-6).all()


def test_without_causality_every_frame_sees_every_frame(unet: nn.Module, noisy: Tensor) -> None:
    temporal = _trained(causal_temporal_of(unet, heads=2, causal=False))
    temporal.attach(unet)
    temporal.frames = 4
    before, other = _run(unet, noisy), noisy.clone()
    other[2] += 1
    change = (_run(unet, other) - before).abs().amax(dim=(1, 2, 3))
    assert (change[:4] > 1e-6).all()
    assert change[4:].max() == 0


def test_causal_attention_is_attention_over_the_past() -> None:
    """Frame t of a causal layer is the last frame of a plain layer over frames 0 to t."""
    layer = CausalTemporalLayer(8, heads=2)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    frames = torch.randn(5, 8, 2, 2)
    whole = layer(frames, 5)
    for t in range(5):
        torch.testing.assert_close(whole[t], layer(frames[: t + 1], t + 1)[-1], rtol=1e-5, atol=1e-5)


def test_the_adaptor_is_the_identity_at_first_and_then_each_frames_own() -> None:
    adaptor, x = FrameAdaptor(3, max_frames=4), torch.randn(6, 3, 2, 2)
    assert torch.equal(adaptor(x, 3), x)
    with torch.no_grad():
        adaptor.scale[1], adaptor.shift[1, 2] = 2.0, 5.0
    out = adaptor(x, 3)  # frame 1 of either clip
    torch.testing.assert_close(out[[0, 2, 3, 5]], x[[0, 2, 3, 5]])
    torch.testing.assert_close(out[[1, 4], :2], 2 * x[[1, 4], :2])
    torch.testing.assert_close(out[[1, 4], 2], 2 * x[[1, 4], 2] + 5)


def test_a_window_that_is_too_long_is_an_error() -> None:
    with pytest.raises(ValueError, match="at most 4"):
        FrameAdaptor(3, max_frames=4)(torch.zeros(5, 3, 2, 2), 5)


def test_every_transformer_and_every_resnet_has_its_own(unet: nn.Module) -> None:
    with torch.device("meta"):
        large = causal_temporal_of(make_unet(UnetShape()))
    assert (len(large.layers), len(large.adaptors)) == (16, 44)  # SD 1.5: 16 transformer blocks, 22 resnets of two convolutions
    assert not causal_temporal_of(unet, adaptor=False).adaptors


def test_what_is_saved_is_what_is_loaded(unet: nn.Module, noisy: Tensor, tmp_path: Path) -> None:
    temporal = _trained(causal_temporal_of(unet, heads=2, max_frames=6))
    temporal.save_pretrained(tmp_path)
    handles = temporal.attach(unet)
    temporal.frames = 4
    expected = _run(unet, noisy)
    for handle in handles:
        handle.remove()
    assert not torch.equal(_run(unet, noisy), expected)
    loaded = load_part(CausalTemporal, tmp_path)
    loaded.attach(unet)
    loaded.frames = 4
    assert torch.equal(_run(unet, noisy), expected)
