"""HIA's network: what starts at zero changes nothing, what is dropped is not there, and each stage trains what the paper says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.clip_dataset import TrainingClip
from models.gradient_checkpointing import checkpoint_gradients
from models.guidance import null_conditions
from models.hia.config import PAPER, HiaConfig
from models.hia.network import Hia, HiaCondition, add_motion, control_image, drop_controls, fresh_network
from models.hia.stages import stage_loss
from models.latents import LatentCodec
from models.pose_controlnet import controlnet_of, take_more_channels
from models.reference_attention import freeze_unused_tail
from models.unet_shape import make_unet
from tests.models.tiny_hia import TINY, awake, condition_for, noisy_latents, with_signals

UNET, MOTION, CONTROLNET = 859_520_964, 453_209_280, 361_279_120  # parameters of SD 1.5, AnimateDiff v2 and the OpenPose ControlNet


@pytest.fixture
def spatial() -> Hia:
    torch.manual_seed(0)
    return fresh_network(TINY).eval()


def _predict(network: Hia, noisy: Tensor, condition: HiaCondition) -> Tensor:
    with torch.no_grad():
        out: Tensor = network(noisy, torch.tensor([700]).expand(len(noisy)), condition)
    return out


# --- what starts at zero changes nothing -------------------------------------------------------------------


def test_blur_channels_change_nothing_at_the_start(spatial: Hia) -> None:
    """A trained ControlNet of three channels, widened: the same prediction whatever the blur map holds, until it is trained."""
    condition = condition_for(TINY)
    trained = awake(spatial)
    three = controlnet_of(trained.denoiser, 3, TINY.hint_widths)
    three.load_state_dict(
        {name: value for name, value in trained.controlnet.state_dict().items() if "cond_embedding.conv_in" not in name}, strict=False
    )
    before = Hia(
        replace(TINY, blur=replace(TINY.blur, enabled=False)), trained.denoiser, trained.appearance, three, None, trained.image_tokens
    ).eval()
    expected = _predict(before, noisy_latents(), condition)
    after = Hia(TINY, trained.denoiser, trained.appearance, take_more_channels(three, 6), None, trained.image_tokens).eval()
    other = replace(condition, blur=torch.rand_like(condition.blur))
    torch.testing.assert_close(_predict(after, noisy_latents(), condition), expected, rtol=0, atol=1e-5)
    assert torch.equal(_predict(after, noisy_latents(), condition), _predict(after, noisy_latents(), other))
    nn.init.normal_(after.controlnet.controlnet_cond_embedding.conv_in.weight)
    assert not torch.equal(_predict(after, noisy_latents(), condition), _predict(after, noisy_latents(), other))


def test_a_fresh_controlnet_changes_nothing(spatial: Hia) -> None:
    condition = condition_for(TINY)
    before = _predict(spatial, noisy_latents(), condition)
    assert torch.equal(before, _predict(spatial, noisy_latents(), replace(condition, pose=torch.rand_like(condition.pose))))


def test_fresh_motion_modules_change_nothing(spatial: Hia) -> None:
    condition = condition_for(TINY)
    before = _predict(awake(spatial), noisy_latents(), condition)
    torch.testing.assert_close(_predict(add_motion(spatial).eval(), noisy_latents(), condition), before, rtol=0, atol=1e-5)


# --- what is dropped is not there ----------------------------------------------------------------------------


def test_the_unconditional_pass_is_the_denoiser_alone(spatial: Hia) -> None:
    """No residuals, no bank, zero tokens: the bare UNet; and the same with gradients, where every part runs and is masked."""
    network, noisy = awake(spatial), noisy_latents()
    null = null_conditions(condition_for(TINY), torch.tensor([True]))
    zeros = torch.zeros(4, 1, TINY.shape.token_dim)
    with torch.no_grad():
        alone = network.denoiser(noisy[0], torch.full((4,), 700), encoder_hidden_states=zeros).sample[None]
    assert torch.equal(_predict(network, noisy, null), alone)
    torch.testing.assert_close(network(noisy, torch.tensor([700]), null).detach(), alone, rtol=0, atol=1e-5)


def test_one_dropped_reference_leaves_the_other_alone(spatial: Hia) -> None:
    network, noisy, condition = awake(spatial), noisy_latents(2), condition_for(TINY, references=2)
    whole, half = _predict(network, noisy, condition), _predict(network, noisy, null_conditions(condition, torch.tensor([True, False])))
    torch.testing.assert_close(half[1], whole[1], rtol=0, atol=1e-5)
    assert not torch.allclose(half[0], whole[0], atol=1e-3)


def test_controls_are_dropped_together_and_the_blur_map_alone() -> None:
    condition, generator = condition_for(TINY, references=400, each=1), torch.Generator().manual_seed(0)
    dropped = drop_controls(condition, 0.1, generator, blur_probability=0.2)
    without = dropped.blur.flatten(1).abs().amax(dim=1) == 0
    assert 0.05 < float(dropped.dropped.float().mean()) < 0.15
    assert 0.14 < float(without.float().mean()) < 0.26
    assert (without & ~dropped.dropped).any()
    assert torch.equal(dropped.image_tokens.flatten(1).abs().amax(dim=1) == 0, dropped.dropped)
    assert torch.equal(dropped.pose, condition.pose)


def test_a_probe_loses_nothing() -> None:
    condition = condition_for(TINY, references=50, each=1)
    kept = drop_controls(condition, 0.0, torch.Generator().manual_seed(0), blur_probability=0.9)
    assert torch.equal(kept.blur, condition.blur)
    assert not kept.dropped.any()


def test_the_control_image_is_six_channels_or_three() -> None:
    condition = condition_for(TINY)
    assert torch.equal(control_image(condition, TINY.blur), torch.cat([condition.pose, condition.blur], dim=1))
    assert control_image(condition, replace(TINY.blur, enabled=False)) is condition.pose
    overlay = replace(TINY.blur, mode="overlay")
    painted = control_image(condition, overlay)
    assert painted.shape == condition.pose.shape
    assert not torch.equal(painted, condition.pose)
    assert torch.equal(control_image(replace(condition, blur=torch.zeros_like(condition.blur)), overlay), condition.pose)


def test_no_reference_stays_behind(spatial: Hia) -> None:
    network = awake(spatial)
    _predict(network, noisy_latents(), condition_for(TINY))
    assert (network.bank.tokens, network.bank.dropped) == ({}, None)


# --- frames --------------------------------------------------------------------------------------------------


def test_a_single_frame_is_one_temporal_token(spatial: Hia) -> None:
    """Static images of stage 4: with F = 1 the softmax over frames is over one token, so positions and frames elsewhere have no say."""
    network, seen = awake(add_motion(spatial)), list[int]()
    attentions = [module for name, module in network.denoiser.named_modules() if "motion_modules" in name and name.endswith("attn1")]
    handles = [module.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[1])) for module in attentions]
    _predict(network, noisy_latents(each=1), condition_for(TINY, each=1))
    for handle in handles:
        handle.remove()
    assert set(seen) == {1}
    assert len(seen) == len(attentions) > 0


def test_frames_see_each_other_from_stage_3_on(spatial: Hia) -> None:
    condition, noisy = condition_for(TINY), noisy_latents()
    other = replace(condition, pose=torch.cat([condition.pose[:3], 1 - condition.pose[3:]]))
    network = awake(spatial)
    change = (_predict(network, noisy, condition) - _predict(network, noisy, other)).abs().amax(dim=(0, 2, 3, 4))
    assert change[:3].max() == 0
    temporal = awake(add_motion(network))
    change = (_predict(temporal, noisy, condition) - _predict(temporal, noisy, other)).abs().amax(dim=(0, 2, 3, 4))
    assert (change > 1e-6).all()


# --- what trains ---------------------------------------------------------------------------------------------


def _prefixes(chosen: Mapping[str, Any]) -> set[str]:
    return {name.split(".")[0] for name in chosen}


@pytest.mark.parametrize("stage", ["stage_1", "stage_2", "stage_3", "stage_4"])
def test_only_listed_parameters_train(spatial: Hia, clips: list[TrainingClip], codec: LatentCodec, stage: str) -> None:
    network = add_motion(spatial) if stage in ("stage_3", "stage_4") else spatial
    chosen = network.trainable(stage)
    awake(network).train()
    loss = stage_loss(stage, network, with_signals(clips), codec, seed=0)
    loss(0, torch.Generator().manual_seed(0)).backward()
    named = {f"{part}.{name}": p for part, module in network.parts().items() for name, p in module.named_parameters()}
    assert {name for name, p in named.items() if p.grad is not None} == set(chosen)
    expected = {
        "stage_1": {"denoising_unet", "appearance_encoder", "controlnet"},
        "stage_2": {"appearance_encoder"},
        "stage_3": {"denoising_unet"},
        "stage_4": {"denoising_unet"},
    }
    assert _prefixes(chosen) == expected[stage]
    if stage in ("stage_3", "stage_4"):
        assert all("motion_modules" in name for name in chosen)
    if stage == "stage_2":  # the gradient came through the frozen denoiser, whose attention alone sees the encoder
        assert max(float(p.grad.abs().max()) for p in chosen.values() if p.grad is not None) > 0


def test_recomputed_activations_give_the_same_gradients(spatial: Hia, clips: list[TrainingClip], codec: LatentCodec) -> None:
    """Stage 2 with gradient checkpointing: the frozen denoiser looks into the bank again in the backward pass."""
    chosen = spatial.trainable("stage_2")
    loss = stage_loss("stage_2", awake(spatial).train(), with_signals(clips), codec, seed=0)
    gradients = []
    for again in (False, True):
        if again:
            assert checkpoint_gradients(spatial) > 0
        spatial.zero_grad(set_to_none=True)
        with spatial.bank.held():
            loss(0, torch.Generator().manual_seed(0)).backward()
        gradients.append({name: p.grad for name, p in chosen.items()})
    assert spatial.bank.tokens == {}
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_the_ablation_fine_tunes_all_spatial_modules(spatial: Hia) -> None:
    first = set(spatial.trainable("stage_1"))
    everything = replace(TINY, regional=replace(TINY.regional, train="all_spatial"))
    network = Hia(everything, spatial.denoiser, spatial.appearance, spatial.controlnet, None, spatial.image_tokens)
    assert set(network.trainable("stage_2")) == first


def test_stages_can_be_chosen_in_any_order(spatial: Hia) -> None:
    first = set(spatial.trainable("stage_1"))
    spatial.trainable("stage_2")
    assert set(spatial.trainable("stage_1")) == first


# --- the paper's size ----------------------------------------------------------------------------------------


def _paper() -> HiaConfig:
    """The paper's networks without the files that they start from; the schedule is not shifted, for tensors without storage cannot be."""
    plain = replace(PAPER.noise, shift_gamma=1.0)
    return replace(PAPER, base_unet=None, controlnet=None, image_encoder=None, motion_adapter=None, noise=plain)


def test_the_papers_networks_have_the_published_sizes() -> None:
    with torch.device("meta"):
        network = fresh_network(_paper())
        plain = controlnet_of(make_unet(PAPER.shape))
        temporal = add_motion(network)
    assert len(network.sites) == 16
    assert sum(p.numel() for p in plain.parameters()) == CONTROLNET
    assert sum(p.numel() for p in network.controlnet.parameters()) == CONTROLNET + 3 * 16 * 9  # three more channels into 16
    tail = set(freeze_unused_tail(network.appearance))
    dead = sum(p.numel() for name, p in network.appearance.named_parameters() if name in tail)
    assert sum(p.numel() for p in network.trainable("stage_1").values()) == 2 * UNET - dead + CONTROLNET + 432
    assert sum(p.numel() for p in network.trainable("stage_2").values()) == UNET - dead
    assert sum(p.numel() for p in temporal.trainable("stage_3").values()) == MOTION


def test_the_papers_shapes_fit_each_other() -> None:
    """512x896 pixels, 64x112 latents: residuals and bank of every level meet the denoiser's features."""
    config = replace(_paper(), shape=replace(PAPER.shape, channels=(32, 64, 64, 64), token_dim=32, layers=1))
    with torch.device("meta"):
        network = fresh_network(config)
        network.image_tokens = nn.Identity()
        condition = HiaCondition(
            reference_latent=torch.empty(1, 4, 112, 64),
            image_tokens=torch.empty(1, 1, 32),
            pose=torch.empty(1, 3, *PAPER.size),
            dropped=torch.zeros(1, dtype=torch.bool, device="cpu"),
            blur=torch.empty(1, 3, *PAPER.size),
        )
        assert network(torch.empty(1, 1, 4, 112, 64), torch.zeros(1, dtype=torch.long), condition).shape == (1, 1, 4, 112, 64)
