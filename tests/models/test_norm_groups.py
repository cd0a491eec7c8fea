"""Fewer groups in networks that diffusers builds with 32: they are kept, and they let a channel's mean through."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder
from torch import nn

from models.checkpoint import load_part
from models.norm_groups import regrouped


def autoencoder() -> Any:
    torch.manual_seed(0)
    return AutoencoderKLTemporalDecoder(
        down_block_types=("DownEncoderBlock2D",) * 2, block_out_channels=(32, 32), layers_per_block=1, latent_channels=4
    ).eval()


@torch.no_grad()
def test_groups_are_written_and_read_again(tmp_path: Path) -> None:
    made, images = regrouped(autoencoder(), 8), torch.rand(2, 3, 32, 32)
    made.save_pretrained(tmp_path)
    again = load_part(AutoencoderKLTemporalDecoder, tmp_path).eval()
    assert {module.num_groups for module in again.modules() if isinstance(module, nn.GroupNorm)} == {8}
    assert torch.equal(again.encode(images).latent_dist.mean, made.encode(images).latent_dist.mean)
    again.save_pretrained(tmp_path / "again")  # and from there
    assert (tmp_path / "again" / "config.json").read_text().count('"_norm_groups": 8') == 1


@torch.no_grad()
def test_published_networks_keep_their_groups(tmp_path: Path) -> None:
    autoencoder().save_pretrained(tmp_path)
    again = load_part(AutoencoderKLTemporalDecoder, tmp_path)
    assert {module.num_groups for module in again.modules() if isinstance(module, nn.GroupNorm)} == {32}


@torch.no_grad()
@pytest.mark.parametrize(("groups", "passes"), [(32, False), (8, True)])
def test_a_channels_mean_passes_only_where_it_shares_its_group(groups: int, passes: bool) -> None:
    norm = regrouped(autoencoder(), groups).decoder.conv_norm_out
    features, brighter = torch.randn(1, 32, 16, 16), torch.zeros(1, 32, 1, 1)
    brighter[:, 0] = 3.0
    moved = float((norm(features + brighter) - norm(features)).abs().max())
    assert (moved > 0.5) is passes


def test_groups_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="groups=5 does not divide 32 channels"):
        regrouped(autoencoder(), 5)
