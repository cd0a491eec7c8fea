"""AnimateAnyone at the paper's size, on tensors without storage: what is counted here is what a user's weights must fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.animate_anyone.config import PAPER, AnimateAnyoneConfig
from models.animate_anyone.network import AnimateAnyone, add_motion, fresh_network
from models.pose_controlnet import controlnet_of
from models.reference_attention import freeze_unused_tail, spatial_sites
from models.unet_shape import make_motion, make_unet

UNET = 859_520_964  # parameters of Stable Diffusion 1.5's UNet
MOTION = 453_209_280  # of AnimateDiff v2's motion modules


@pytest.fixture(scope="module")
def config() -> AnimateAnyoneConfig:
    """The paper's variant without the files that it starts from; CLIP has no part in these counts."""
    return replace(PAPER, base_unet=None, image_encoder=None, motion_adapter=None, pose_controlnet=None)


@pytest.fixture
def stage_1(config: AnimateAnyoneConfig) -> AnimateAnyone:
    with torch.device("meta"):
        return fresh_network(config)


def test_sizes_are_those_of_the_published_networks() -> None:
    with torch.device("meta"):
        unet, motion = make_unet(PAPER.network.unet), make_motion(PAPER.network.unet)
    assert sum(p.numel() for p in unet.parameters()) == UNET
    assert sum(p.numel() for p in motion.parameters()) == MOTION
    assert len(spatial_sites(unet)) == 16


def test_both_networks_share_sixteen_sites_in_both_stages(stage_1: AnimateAnyone) -> None:
    writer, reader = stage_1.made_of.reference_unet, stage_1.made_of.denoising_unet
    assert len(spatial_sites(writer)) == 16
    with torch.device("meta"):
        moving = add_motion(stage_1).made_of.denoising_unet
    assert spatial_sites(writer) == spatial_sites(reader) == spatial_sites(moving)


def test_stage_1_trains_both_unets_but_the_dead_tail_and_the_guider(config: AnimateAnyoneConfig, stage_1: AnimateAnyone) -> None:
    with torch.device("meta"):
        writer = make_unet(config.network.unet)
    tail = set(freeze_unused_tail(writer))
    dead = sum(p.numel() for name, p in writer.named_parameters() if name in tail)
    chosen = stage_1.trainable("stage_1")
    by_part = {part: sum(p.numel() for name, p in chosen.items() if name.startswith(part)) for part in stage_1.parts()}
    assert by_part == {
        "denoising_unet": UNET,
        "reference_unet": UNET - dead,
        "pose_guider": sum(p.numel() for p in stage_1.made_of.pose_guider.parameters()),
    }
    assert all(name.startswith(("up_blocks.3.attentions.2.", "conv_norm_out.", "conv_out.")) for name in tail)
    assert 0 < dead < 0.01 * UNET


def test_stage_2_trains_the_motion_modules_alone(stage_1: AnimateAnyone) -> None:
    with torch.device("meta"):
        network = add_motion(stage_1)
    chosen = network.trainable("stage_2")
    assert sum(p.numel() for p in chosen.values()) == MOTION
    assert {name for name, p in network.named_parameters() if p.requires_grad} == {f"networks.{name}" for name in chosen}


def test_the_paper_has_none_of_our_additions(stage_1: AnimateAnyone) -> None:
    assert stage_1.made_of.reference_hint is None
    assert set(stage_1.parts()) == {"denoising_unet", "reference_unet", "pose_guider"}


def test_the_guider_begins_as_the_openpose_controlnet_sees(tmp_path: Path, tiny: AnimateAnyoneConfig) -> None:
    """A folder in diffusers' layout, loaded by name; the guider still changes nothing."""
    torch.manual_seed(0)
    controlnet = controlnet_of(make_unet(tiny.network.unet), widths=(4, 8, 8))
    controlnet.save_pretrained(tmp_path)
    network = fresh_network(replace(tiny, pose_controlnet=str(tmp_path)))
    guider = network.made_of.pose_guider
    assert guider is not None
    assert torch.equal(guider.layers[0].weight, controlnet.controlnet_cond_embedding.conv_in.weight)
    assert not guider(torch.rand(1, 3, 32, 32)).any()
