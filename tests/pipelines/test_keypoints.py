"""Keypoint layouts and drawing."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.keypoints import (
    BODY,
    FACE,
    FEET,
    HAND_BONES,
    KEYPOINTS,
    LEFT_HAND,
    MIRROR,
    RIGHT_HAND,
    Points,
    draw_skeleton,
    scale_points,
    to_openpose,
)

ONES = np.ones(KEYPOINTS, np.float32)


def _person(seed: int = 0) -> Points:
    """A standing person of 200 px, hands and face as small clouds around wrists and nose."""
    body = [(0, 0), (5, -5), (-5, -5), (12, -2), (-12, -2), (30, 30), (-30, 30), (45, 65), (-45, 65), (50, 100),
            (-50, 100), (20, 105), (-20, 105), (22, 150), (-22, 150), (24, 195), (-24, 195)]  # fmt: skip
    feet = [(30, 205), (35, 203), (22, 200), (-30, 205), (-35, 203), (-22, 200)]
    cloud = np.random.default_rng(seed).uniform(-8, 8, (110, 2))
    cloud[68:89] += (52, 108)
    cloud[89:] += (-52, 108)
    return (np.concatenate([body, feet, cloud]) + np.array([200, 100])).astype(np.float32)


def test_slices_cover_every_point_once() -> None:
    covered = [i for part in (BODY, FEET, FACE, LEFT_HAND, RIGHT_HAND) for i in range(KEYPOINTS)[part]]
    assert covered == list(range(KEYPOINTS))


def test_mirror_is_its_own_inverse_and_swaps_sides() -> None:
    assert sorted(MIRROR) == list(range(KEYPOINTS))
    assert all(MIRROR[MIRROR[i]] == i for i in range(KEYPOINTS))
    assert (MIRROR[0], MIRROR[5], MIRROR[17], MIRROR[91]) == (0, 6, 20, 112)
    assert MIRROR[23 + 36] == 23 + 45  # outer corners of the eyes
    assert MIRROR[23 + 48] == 23 + 54  # corners of the mouth


def test_openpose_order_has_the_neck_between_the_shoulders() -> None:
    points = np.stack([np.arange(133), np.arange(133)], axis=-1).astype(np.float32)
    points134, scores134 = to_openpose(points, ONES)
    order = points134[:18, 0].tolist()
    assert order == [0, 5.5, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3]
    assert points134[18:, 0].tolist() == list(range(17, 133))
    assert scores134[1] == 1


def test_openpose_neck_is_unseen_when_one_shoulder_is() -> None:
    scores = ONES.copy()
    scores[5] = 0.3
    assert to_openpose(_person(), scores)[1][1] == 0


def test_hand_bones_are_a_tree_of_five_fingers() -> None:
    assert sorted(child for _, child in HAND_BONES) == list(range(1, 21))
    assert [child for parent, child in HAND_BONES if parent == 0] == [1, 5, 9, 13, 17]


def test_scaling_there_and_back_changes_nothing() -> None:
    there = scale_points(_person(), (400, 400), (128, 96))
    np.testing.assert_allclose(scale_points(there, (128, 96), (400, 400)), _person(), rtol=1e-5)


@pytest.mark.parametrize("size", [128, 512])
def test_a_limb_is_drawn_between_its_joints_in_openpose_colours(size: int) -> None:
    points = scale_points(_person(), (400, 400), (size, size))
    image = draw_skeleton(points, ONES, size, size, face=False, hands=False)
    x, y = points[[5, 7]].mean(axis=0)  # middle of the left upper arm: limb 4 of the palette, times 0.6
    np.testing.assert_allclose(image[int(y), int(x)], (0.6 * 170, 0.6 * 255, 0), atol=2)
    assert image[0].max() == 0


def test_what_is_not_visible_is_not_drawn() -> None:
    assert draw_skeleton(_person(), np.full(133, 0.3, np.float32), 400, 400).max() == 0


def test_face_and_hands_can_be_left_out() -> None:
    with_all = draw_skeleton(_person(), ONES, 400, 400)
    without = draw_skeleton(_person(), ONES, 400, 400, face=False, hands=False)
    assert (with_all == 255).all(axis=-1).any()  # white face points
    assert not (without == 255).all(axis=-1).any()


def test_confidence_darkens_by_the_product_of_the_scores() -> None:
    points = _person()
    x, y = points[[5, 7]].mean(axis=0).astype(int)
    half = draw_skeleton(points, ONES * 0.5, 400, 400, face=False, hands=False, style="confidence")
    full = draw_skeleton(points, ONES, 400, 400, face=False, hands=False)
    np.testing.assert_allclose(half[y, x], full[y, x] * 0.25, atol=2)


def test_points_that_are_far_away_or_not_numbers_are_left_out() -> None:
    points = _person()
    points[7], points[8] = np.nan, 1e9
    assert draw_skeleton(points, ONES, 400, 400).any()
