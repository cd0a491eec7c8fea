"""The motion-blur map: constants in the hands' boxes, nothing elsewhere, and units that do not depend on size or frame rate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.motion_blur_map import HandSignals, blur_map, blur_values, overlaid, without_blur

BOX = (0.0, 0.0, 80.0, 40.0)  # x y w h of the source
SIZE = (40, 80)


@pytest.fixture
def signals() -> HandSignals:
    """Frame 0: a still left hand. Frame 1: both, the right one moving by 1 px right and 0.5 px up; frame 2: none."""
    boxes = np.zeros((3, 2, 4), np.float32)
    boxes[:2, 0], boxes[1, 1] = (4, 6, 14, 16), (50, 20, 60, 30)
    movement = np.zeros((3, 2, 2), np.float32)
    movement[1, 1] = (1, -0.5)
    sharpness = np.zeros((3, 2), np.float32)
    sharpness[0, 0], sharpness[1] = 100.0, (0.0, 999.0)
    return HandSignals(boxes=boxes, valid=np.array([[True, False], [True, True], [False, False]]), movement=movement, sharpness=sharpness)


def test_a_map_is_constant_in_boxes_and_zero_elsewhere(signals: HandSignals) -> None:
    image = blur_map(signals, BOX, SIZE, fps=30, s99=100.0)
    assert image.shape == (3, 3, *SIZE)
    left = image[0, :, 6:16, 4:14]
    assert torch.equal(left, left[:, :1, :1].expand_as(left))
    assert left[:, 0, 0].tolist() == pytest.approx([0.5, 0.5, 1.0])  # still, as sharp as the 99th percentile
    assert image[1, :, 25, 55].tolist() == pytest.approx([0.5 + 0.5 * 20 / 80, 0.5 - 0.5 * 0.5 * 20 / 40, 1.0])
    assert image[1, :, 10, 10].tolist() == pytest.approx([0.5, 0.5, 0.0])
    assert int((image[0] > 0).any(dim=0).sum()) == 100
    assert image[2].abs().max() == 0  # no hand is not a still hand


def test_units_do_not_depend_on_frame_rate_or_crop(signals: HandSignals) -> None:
    """The same hand at 60 fps moves half as far between frames; in a crop of half the size it moves twice as much of it."""
    at_30 = blur_values(signals, BOX, 30, 100.0)
    faster = replace(signals, movement=signals.movement / 2)
    np.testing.assert_allclose(blur_values(faster, BOX, 60, 100.0), at_30)
    smaller = replace(signals, movement=signals.movement / 2)
    np.testing.assert_allclose(blur_values(smaller, (0, 0, 40, 20), 30, 100.0), at_30)


def test_values_stay_in_range(signals: HandSignals) -> None:
    wild = replace(signals, movement=signals.movement * 1e4, sharpness=signals.sharpness * 1e6)
    values = blur_values(wild, BOX, 30, 10.0)
    assert values.min() >= 0
    assert values.max() <= 1
    assert values[1, 1, :2].tolist() == [1.0, 0.0]


def test_a_flip_mirrors_the_map(signals: HandSignals) -> None:
    """Boxes mirrored, v_x negated: the map mirrored, with 1 - v_x (left and right hand swap, which paints the same)."""
    mirrored = signals.boxes[:, ::-1].copy()
    mirrored[..., [0, 2]] = 80 - mirrored[..., [2, 0]]
    movement = signals.movement[:, ::-1] * np.array([-1, 1], np.float32)
    flipped = HandSignals(boxes=mirrored, valid=signals.valid[:, ::-1], movement=movement, sharpness=signals.sharpness[:, ::-1])
    plain = blur_map(signals, BOX, SIZE, 30, 100.0).flip(-1)
    expected = plain.clone()
    expected[:, 0] = torch.where((plain > 0).any(dim=1), 1 - plain[:, 0], plain[:, 0])
    torch.testing.assert_close(blur_map(flipped, BOX, SIZE, 30, 100.0), expected)


def test_boxes_outside_the_crop_paint_nothing(signals: HandSignals) -> None:
    image = blur_map(signals, (30.0, 0.0, 40.0, 40.0), (40, 40), 30, 100.0)
    assert image[0].abs().max() == 0
    assert image[1, :, 25, 25].max() > 0


def test_an_overlay_changes_hands_only(signals: HandSignals) -> None:
    blur, pose = blur_map(signals, BOX, SIZE, 30, 100.0), torch.rand(3, 3, *SIZE)
    painted = overlaid(pose, blur)
    hand = (blur > 0).any(dim=1, keepdim=True).expand_as(pose)
    assert torch.equal(painted[~hand], pose[~hand])
    torch.testing.assert_close(painted[hand], (0.5 * pose + 0.5 * blur)[hand])


def test_a_map_that_is_left_out_is_zero_in_its_rows_alone() -> None:
    condition = torch.rand(3, 6, 4, 4)
    out = without_blur(condition, torch.tensor([True, False, True]))
    assert torch.equal(out[:, :3], condition[:, :3])
    assert torch.equal(out[1], condition[1])
    assert out[[0, 2], 3:].abs().max() == 0
