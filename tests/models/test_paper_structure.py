"""AnimateAnyone at the paper's size, on tensors without storage: what is counted here is what a user's weights must fit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from models.animate_anyone.config import PAPER, AnimateAnyoneConfig
from models.animate_anyone.network import AnimateAnyone, add_motion, fresh_network, make_motion, make_unet
from models.reference_attention import freeze_unused_tail, spatial_sites

UNET = 859_520_964  # parameters of Stable Diffusion 1.5's UNet
MOTION = 453_209_280  # of AnimateDiff v2's motion modules


@pytest.fixture(scope="module")
def config() -> AnimateAnyoneConfig:
    """The paper's variant without the files that it starts from; CLIP has no part in these counts."""
    return replace(PAPER, base_unet=None, image_encoder=None, motion_adapter=None)


@pytest.fixture
def stage_1(config: AnimateAnyoneConfig) -> AnimateAnyone:
    with torch.device("meta"):
        return fresh_network(config)


def test_sizes_are_those_of_the_published_networks() -> None:
    with torch.device("meta"):
        unet, motion = make_unet(PAPER.network), make_motion(PAPER.network)
    assert sum(p.numel() for p in unet.parameters()) == UNET
    assert sum(p.numel() for p in motion.parameters()) == MOTION
    assert len(spatial_sites(unet)) == 16


def test_both_networks_share_sixteen_sites_in_both_stages(stage_1: AnimateAnyone) -> None:
    assert len(stage_1.sites) == 16
    with torch.device("meta"):
        assert add_motion(stage_1).sites == stage_1.sites


def test_stage_1_trains_both_unets_but_the_dead_tail_and_the_guider(config: AnimateAnyoneConfig, stage_1: AnimateAnyone) -> None:
    with torch.device("meta"):
        writer = make_unet(config.network)
    tail = set(freeze_unused_tail(writer))
    dead = sum(p.numel() for name, p in writer.named_parameters() if name in tail)
    chosen = stage_1.trainable("stage_1")
    by_part = {part: sum(p.numel() for name, p in chosen.items() if name.startswith(part)) for part in stage_1.parts()}
    assert by_part == {
        "denoising_unet": UNET,
        "reference_unet": UNET - dead,
        "pose_guider": sum(p.numel() for p in stage_1.guider.parameters()),
    }
    assert all(name.startswith(("up_blocks.3.attentions.2.", "conv_norm_out.", "conv_out.")) for name in tail)
    assert 0 < dead < 0.01 * UNET


def test_stage_2_trains_the_motion_modules_alone(stage_1: AnimateAnyone) -> None:
    with torch.device("meta"):
        network = add_motion(stage_1)
    chosen = network.trainable("stage_2")
    assert sum(p.numel() for p in chosen.values()) == MOTION
    assert {name for name, p in network.named_parameters() if p.requires_grad} == {
        name.replace("denoising_unet", "denoiser") for name in chosen
    }


def test_the_paper_has_none_of_our_additions(stage_1: AnimateAnyone) -> None:
    assert stage_1.hint is None
    assert set(stage_1.parts()) == {"denoising_unet", "reference_unet", "pose_guider"}
