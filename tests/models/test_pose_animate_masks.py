"""MGDM's masks: which layers show them, LocalBlend's rule, and when the pose's hull stands in."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from models.pose_animate.config import Mgdm, Pacm
from models.pose_animate.mask_decoupling import FrameMasks, blended, map_sites, pose_hull
from models.unet_shape import UnetShape, make_unet

CONFIG = Mgdm(map_scale=1)


def _pose() -> tuple[np.ndarray, np.ndarray]:
    points, scores = np.zeros((2, 133, 2), np.float32), np.zeros((2, 133), np.float32)
    points[:, :4] = [(8, 8), (24, 8), (24, 24), (8, 24)]
    scores[:, :4] = 1
    points[1, :4] += 3
    return points, scores


def _frame_masks(config: Mgdm = CONFIG) -> FrameMasks:
    points, scores = _pose()
    source = torch.zeros(1, 1, 32, 32)
    source[..., :16] = 1
    return FrameMasks(source, pose_hull(points, scores, (32, 32), 0.08), (8, 8), config)


def _maps(where: slice) -> torch.Tensor:
    maps = torch.full((2, 1, 8, 8), 0.01)
    maps[:, :, :, where] = 1.0
    return maps


def test_maps_come_from_the_layers_of_16_by_16() -> None:
    with torch.device("meta"):
        unet = make_unet(UnetShape())
    named = [name.rsplit(".transformer", 1)[0] for name in map_sites(unet, 4)]
    assert named == [f"down_blocks.2.attentions.{i}" for i in range(2)] + [f"up_blocks.1.attentions.{i}" for i in range(3)]
    assert [name.split(".")[0] for name in map_sites(unet, 8)] == ["mid_block"]
    with pytest.raises(ValueError, match="no cross-attention at 1/16"):
        map_sites(unet, 16)


def test_the_sites_of_a_scale_are_those_with_so_many_places() -> None:
    unet = make_unet(UnetShape(channels=(8, 16, 16), layers=1, heads=2, token_dim=8, norm_groups=4, latent_channels=4))
    seen: dict[str, int] = {}
    for name in unet.attn_processors:
        if name.endswith("attn2.processor"):
            block = unet.get_submodule(name.removesuffix(".processor"))
            block.register_forward_hook(lambda _m, inputs, _o, name=name: seen.__setitem__(name, inputs[0].shape[1]))
    with torch.no_grad():
        unet(torch.randn(1, 4, 16, 16), torch.tensor([5]), encoder_hidden_states=torch.randn(1, 3, 8))
    for scale in (1, 2, 4):
        assert {name for name, places in seen.items() if places == (16 // scale) ** 2} == set(map_sites(unet, scale))


def test_local_blend_grows_by_a_pixel_and_cuts_at_a_share_of_the_maximum() -> None:
    maps = torch.full((1, 1, 8, 8), 0.1)
    maps[0, 0, 4, 4] = 5.0
    assert blended(maps, (8, 8), 0.3)[0, 0].nonzero().tolist() == [[y, x] for y in (3, 4, 5) for x in (3, 4, 5)]
    assert torch.equal(blended(maps, (8, 8), 0.3), blended(maps * 100, (8, 8), 0.3))
    assert blended(torch.zeros(1, 1, 8, 8), (8, 8), 0.3).sum() == 0


def test_the_hull_is_opencvs_convex_hull_grown_on_every_side() -> None:
    points, scores = _pose()
    hull = pose_hull(points, scores, (32, 32), 0.08)[0, 0].numpy()
    plain = np.zeros((32, 32), np.uint8)
    cv2.rectangle(plain, (8, 8), (24, 24), 1, -1)
    assert hull[plain == 1].all()
    rows = np.flatnonzero(hull.any(axis=1))
    assert (rows[0], rows[-1]) == (7, 25)  # 8 % of 16 px
    hidden = pose_hull(points, np.zeros_like(scores), (32, 32), 0.08)
    assert (hidden == 1).all()


def test_at_first_the_hull_stands_in_and_then_the_maps() -> None:
    masks, hull = _frame_masks(), _frame_masks().hulls
    small = torch.nn.functional.interpolate(hull, (8, 8), mode="area")[1].flatten() >= 0.5
    maps = _maps(slice(6, 8))
    early, late = masks.at(0.1, maps), masks.at(0.2, maps)
    assert early is not None
    assert late is not None
    assert torch.equal(early(64)[1], small)
    assert torch.equal(late(64)[1].view(8, 8), blended(maps, (8, 8), 0.3)[1, 0])
    assert late(16).shape == (2, 16)


def test_the_sources_mask_is_always_its_own() -> None:
    for share, maps in ((0.0, None), (0.9, _maps(slice(6, 8)))):
        found = _frame_masks().at(share, maps)
        assert found is not None
        assert found(64)[0].view(8, 8)[0].tolist() == [True] * 4 + [False] * 4


@pytest.mark.parametrize("maps", [torch.zeros(2, 1, 8, 8), torch.ones(2, 1, 8, 8)])
def test_a_map_of_nobody_or_of_everything_is_not_trusted(maps: torch.Tensor) -> None:
    trusted, early = _frame_masks().at(0.9, maps), _frame_masks().at(0.0, None)
    assert trusted is not None
    assert early is not None
    assert torch.equal(trusted(64), early(64))


def test_without_bootstrap_nothing_is_decoupled_before_the_first_map_and_every_map_counts() -> None:
    masks = _frame_masks(replace(CONFIG, bootstrap="off"))
    assert masks.at(0.0, None) is None
    ones = masks.at(0.1, torch.ones(2, 1, 8, 8))
    assert ones is not None
    assert ones(64)[1].all()


def test_masks_of_pictures_that_are_not_square_keep_their_shape() -> None:
    source, hulls = torch.zeros(1, 1, 48, 32), torch.zeros(2, 1, 48, 32)
    source[:, :, :24] = 1
    hulls[..., :16] = 1
    found = FrameMasks(source, hulls, (12, 8), CONFIG).at(0.0, None)
    assert found is not None
    for places, (height, width) in ((96, (12, 8)), (24, (6, 4)), (6, (3, 2))):
        masks = found(places).view(2, height, width)
        assert masks[0].all(dim=1).tolist() == [y < height / 2 - 0.5 or 2 * y + 1 == height for y in range(height)]
        assert masks[1].all(dim=0).tolist() == [x < width / 2 for x in range(width)]


def test_frozen_padding_is_refused_where_all_is_padding() -> None:
    with pytest.raises(ValueError, match="leaves nothing of the empty prompt"):
        Pacm(optimize="uncond", freeze_padding=True)
