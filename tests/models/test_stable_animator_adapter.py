"""The ID adapter's theorems: aligned statistics, zero tokens that change nothing, and temporal layers that never see a face."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel, UNetSpatioTemporalConditionModel
from torch import Tensor, nn

from models.stable_animator.face_encoder import FaceEncoder
from models.stable_animator.id_adapter import IdAdapter, ImageTokenOnly, add_id_adapter, aligned, spatial_sites, temporal_sites
from models.stable_animator.pose_net import PoseNet


@pytest.fixture
def unet() -> Any:
    return UNetSpatioTemporalConditionModel(
        in_channels=8, out_channels=4, block_out_channels=(32, 64), num_attention_heads=2, layers_per_block=1, cross_attention_dim=32,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        addition_time_embed_dim=8, projection_class_embeddings_input_dim=24, num_frames=3,
    ).eval()  # fmt: skip


def _run(unet: Any, context: Tensor, sample: Tensor | None = None) -> Tensor:
    given = torch.randn(1, 3, 8, 8, 8, generator=torch.Generator().manual_seed(3)) if sample is None else sample
    with torch.no_grad():
        return unet(given, torch.tensor([0.3]), encoder_hidden_states=context, added_time_ids=torch.tensor([[6.0, 127.0, 0.02]])).sample


# --- alignment -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dims", "axes"), [("token_channel", (1, 2)), ("token", (1,))])
def test_the_aligned_face_has_the_image_s_statistics(dims: str, axes: tuple[int, ...]) -> None:
    face, image = 5 * torch.randn(3, 20, 6) + 2, 0.3 * torch.randn(3, 20, 6) - 1
    made = aligned(face, image, "adain", dims)  # type: ignore[arg-type]
    torch.testing.assert_close(made.mean(axes), image.mean(axes), rtol=0, atol=1e-5)
    torch.testing.assert_close(made.std(axes), image.std(axes), rtol=1e-4, atol=1e-5)
    # and is otherwise the face: correlation 1 within each set that shares statistics
    flat = [value.movedim(1, -1).reshape(3, -1, 20 * (6 if dims == "token_channel" else 1)) for value in (made, face)]
    unit = [(value - value.mean(-1, keepdim=True)) / value.std(-1, keepdim=True) for value in flat]
    torch.testing.assert_close(*unit, rtol=0, atol=1e-4)


def test_norm_has_mean_0_and_deviation_1_and_addition_is_the_face() -> None:
    face, image = 5 * torch.randn(2, 20, 6) + 2, torch.randn(2, 20, 6)
    normed = aligned(face, image, "norm")
    torch.testing.assert_close(normed.mean((1, 2)), torch.zeros(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(normed.std((1, 2)), torch.ones(2), rtol=0, atol=1e-4)
    assert torch.equal(aligned(face, image, "add"), face)


def test_alignment_of_what_is_aligned_changes_nothing() -> None:
    image = torch.randn(2, 20, 6)
    torch.testing.assert_close(aligned(image, image), image, rtol=0, atol=1e-4)


# --- in the UNet -----------------------------------------------------------------------------------------------------


def test_every_spatial_cross_attention_gets_copies_of_its_own_keys_and_values(unet: Any) -> None:
    adapters = add_id_adapter(unet, 4)
    assert len(adapters) == len(spatial_sites(unet)) == len(temporal_sites(unet)) == 4  # one down, the middle, two up
    for name, adapter in adapters.items():
        layer = unet.get_submodule(name.removesuffix(".processor"))
        assert torch.equal(adapter.id_to_k.weight, layer.to_k.weight)
        assert torch.equal(adapter.id_to_v.weight, layer.to_v.weight)
    assert all(isinstance(unet.attn_processors[name], ImageTokenOnly) for name in temporal_sites(unet))
    assert sum("id_to_" in name for name, _ in unet.named_parameters()) == 8
    assert all("attentions" in name for name, _ in unet.named_parameters() if "id_to_" in name)


def test_zero_face_tokens_leave_the_base_model_to_the_bit(unet: Any) -> None:
    image, face = torch.randn(1, 1, 32), torch.zeros(1, 4, 32)
    before = _run(unet, image)
    add_id_adapter(unet, 4)
    torch.testing.assert_close(_run(unet, torch.cat([image, face], 1)), before, rtol=0, atol=1e-6)
    assert (_run(unet, torch.cat([image, torch.randn(1, 4, 32)], 1)) - before).abs().max() > 1e-3


def test_without_the_passthrough_zero_tokens_add_the_image_s_mean() -> None:
    """Eq. 2 read literally: mu_face = sigma_face = 0, so z_face' is the constant mu_img."""
    face, image = torch.zeros(2, 20, 6), torch.randn(2, 20, 6)
    torch.testing.assert_close(aligned(face, image), image.mean((1, 2), keepdim=True).expand(2, 20, 6))


def test_zero_tokens_still_get_a_finite_gradient(unet: Any) -> None:
    add_id_adapter(unet, 4)
    face = torch.zeros(1, 4, 32, requires_grad=True)
    context = torch.cat([torch.randn(1, 1, 32), face], 1)
    out = unet(torch.randn(1, 3, 8, 8, 8), torch.tensor([0.3]), encoder_hidden_states=context, added_time_ids=torch.zeros(1, 3)).sample
    out.square().mean().backward()
    assert face.grad is not None
    assert torch.isfinite(face.grad).all()
    assert face.grad.abs().max() > 0


def test_temporal_attention_does_not_hear_the_face(unet: Any) -> None:
    """Only the spatial adapters use face tokens: with those switched off, faces change nothing; without ImageTokenOnly they would."""
    add_id_adapter(unet, 4)
    image, faces = torch.randn(1, 1, 32), [torch.randn(1, 4, 32) for _ in range(2)]

    def deaf(attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: Any) -> Tensor:
        return ImageTokenOnly(4)(attn, hidden_states, encoder_hidden_states)

    kept = dict(unet.attn_processors)
    unet.set_attn_processor({**kept, **dict.fromkeys(spatial_sites(unet), deaf)})
    first, second = (_run(unet, torch.cat([image, face], 1)) for face in faces)
    assert torch.equal(first, second)
    from diffusers.models.attention_processor import AttnProcessor2_0

    unet.set_attn_processor({**unet.attn_processors, **{name: AttnProcessor2_0() for name in temporal_sites(unet)}})
    first, second = (_run(unet, torch.cat([image, face], 1)) for face in faces)
    assert not torch.equal(first, second)


def test_image_token_only_is_the_layer_on_its_first_token() -> None:
    from diffusers.models.attention_processor import Attention

    layer = Attention(query_dim=32, cross_attention_dim=32, heads=2, dim_head=16)
    hidden, context = torch.randn(2, 5, 32), torch.randn(2, 5, 32)
    expected = layer(hidden, encoder_hidden_states=context[:, :1])
    layer.set_processor(ImageTokenOnly(4))
    torch.testing.assert_close(layer(hidden, encoder_hidden_states=context), expected, rtol=0, atol=1e-6)


def test_an_adapter_adds_what_equation_2_says() -> None:
    from diffusers.models.attention_processor import Attention

    layer = Attention(query_dim=32, cross_attention_dim=32, heads=2, dim_head=16, out_bias=False)
    adapter = IdAdapter(32, 32, face_tokens=4)
    hidden, image, face = torch.randn(2, 9, 32), torch.randn(2, 1, 32), torch.randn(2, 4, 32)
    other = Attention(query_dim=32, cross_attention_dim=32, heads=2, dim_head=16, out_bias=False)
    other.load_state_dict(layer.state_dict())
    with torch.no_grad():
        for one in (layer, other):
            one.to_out[0].weight.copy_(torch.eye(32))
        other.to_k.weight.copy_(adapter.id_to_k.weight)
        other.to_v.weight.copy_(adapter.id_to_v.weight)
    z_image, z_face = layer(hidden, encoder_hidden_states=image), other(hidden, encoder_hidden_states=face)
    layer.set_processor(adapter)
    made = layer(hidden, encoder_hidden_states=torch.cat([image, face], 1))
    torch.testing.assert_close(made, z_image + aligned(z_face, z_image), rtol=0, atol=1e-5)


def test_the_adapter_also_fits_a_stable_diffusion_unet() -> None:
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(32, 64), down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), layers_per_block=1, cross_attention_dim=32, attention_head_dim=4, norm_num_groups=8,
    ).eval()  # fmt: skip
    context, noisy = torch.randn(1, 7, 32), torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        before = unet(noisy, 5, encoder_hidden_states=context).sample
        assert len(add_id_adapter(unet, 4)) == 4
        assert temporal_sites(unet) == []
        after = unet(noisy, 5, encoder_hidden_states=torch.cat([context, torch.zeros(1, 4, 32)], 1)).sample
    torch.testing.assert_close(after, before, rtol=0, atol=1e-6)


# --- the small networks ----------------------------------------------------------------------------------------------


def test_a_fresh_pose_net_answers_zeros_at_an_eighth() -> None:
    net = PoseNet(320)
    out = net(torch.rand(2, 3, 64, 32) * 2 - 1)
    assert out.shape == (2, 320, 8, 4)
    assert (out == 0).all()
    assert net.scale.item() == 2.0
    shapes = [
        (layer.in_channels, layer.out_channels, layer.kernel_size[0], layer.stride[0])
        for layer in net.modules()
        if isinstance(layer, nn.Conv2d)
    ]
    assert shapes == [
        (3, 3, 3, 1), (3, 16, 4, 2), (16, 16, 3, 1), (16, 32, 4, 2), (32, 32, 3, 1), (32, 64, 4, 2), (64, 64, 3, 1), (64, 128, 3, 1), (128, 320, 1, 1),
    ]  # fmt: skip
    assert all(layer.bias is not None and (layer.bias == 0).all() for layer in net.modules() if isinstance(layer, nn.Conv2d))


@pytest.mark.parametrize("zero_init", ["linear", "post_norm_gain"])
def test_a_fresh_face_encoder_answers_zeros_and_learns(zero_init: str) -> None:
    encoder = FaceEncoder(16, 32, tokens=4, layers=1, heads=2, head_dim=16, zero_init=zero_init)  # type: ignore[arg-type]
    tokens = encoder(torch.randn(2, 16), torch.randn(2, 1, 32))
    assert tokens.shape == (2, 4, 32)
    assert (tokens == 0).all()
    (tokens * torch.randn_like(tokens)).sum().backward()
    last = encoder.out.weight if zero_init == "linear" else encoder.norm.weight
    assert last.grad is not None
    assert last.grad.abs().max() > 0


def test_the_zeroed_layer_before_a_norm_gets_a_gradient_300_times_as_large() -> None:
    def gradient(eps: float) -> float:
        encoder = FaceEncoder(16, 32, tokens=4, layers=1, heads=2, head_dim=16)
        encoder.norm.eps = eps
        torch.manual_seed(5)
        tokens = encoder(torch.randn(2, 16), torch.randn(2, 1, 32))
        (tokens * torch.randn_like(tokens)).sum().backward()
        assert encoder.out.weight.grad is not None
        return float(encoder.out.weight.grad.norm())

    torch.manual_seed(0)
    with_default = gradient(1e-5)
    torch.manual_seed(0)
    assert with_default / gradient(1.0) == pytest.approx(316.2, rel=0.01)


def test_without_refinement_the_projection_is_the_answer() -> None:
    encoder = FaceEncoder(16, 32, tokens=4, refine=False)
    face = torch.randn(2, 16)
    assert torch.equal(encoder(face, torch.randn(2, 1, 32)), encoder.projection(face))
    assert (encoder(face, torch.randn(2, 1, 32)) != 0).any()
    assert not any("layers.0.to_q" in name for name, _ in encoder.named_parameters())


def _awake(encoder: FaceEncoder) -> Callable[[Tensor, Tensor], Tensor]:
    nn.init.normal_(encoder.out.weight)
    return encoder


def test_the_face_encoder_hears_the_image() -> None:
    encode = _awake(FaceEncoder(16, 32, tokens=4, layers=1, heads=2, head_dim=16))
    face, images = torch.randn(1, 16), torch.randn(2, 1, 1, 32)
    first, second = (encode(face, image) for image in images)
    assert (first - second).abs().max() > 1e-3
