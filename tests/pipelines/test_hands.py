"""Hand boxes, sharpness and movement."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import convolve

from pipelines.extractors.hands import hand_box, hand_movement, hands_of, sharpness
from pipelines.keypoints import LEFT_HAND, RIGHT_HAND


def _arm(hand_scores: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """The left arm hangs at x = 100: shoulder y 20, elbow 60, wrist 100; the 21 joints lie in a box of 20 x 40 px."""
    points, scores = np.zeros((133, 2), np.float32), np.zeros(133, np.float32)
    points[[5, 7, 9]] = [(100, 20), (100, 60), (100, 100)]
    points[LEFT_HAND] = np.linspace((90, 100), (110, 140), 21)
    scores[[5, 7, 9]] = 1
    scores[LEFT_HAND] = hand_scores
    return points, scores


def test_box_is_a_square_of_1_3_times_the_joints_extent() -> None:
    assert hand_box(*_arm(), 0, 400, 400) == pytest.approx((100 - 26, 120 - 26, 100 + 26, 120 + 26))


def test_box_is_clipped_to_the_image() -> None:
    assert hand_box(*_arm(), 0, 110, 130) == pytest.approx((74, 94, 110, 130))


def test_few_joints_leave_the_box_to_the_forearm() -> None:
    points, scores = _arm(hand_scores=0.0)
    scores[91:96] = 1  # five joints
    # centre = wrist + 0.33 forearm = (100, 113.2); side = 1.5 max(40, 0.9 * 40) = 60
    assert hand_box(points, scores, 0, 400, 400) == pytest.approx((70, 83.2, 130, 143.2), abs=1e-4)


def test_small_forearm_boxes_and_missing_elbows_give_no_box() -> None:
    points, scores = _arm(hand_scores=0.0)
    assert hand_box(points / 4, scores, 0, 400, 400) is None  # side 15 px
    scores[7] = 0.29
    assert hand_box(points, scores, 0, 400, 400) is None


def test_a_hand_outside_the_image_has_no_box() -> None:
    points, scores = _arm()
    assert hand_box(points - 300, scores, 0, 400, 400) is None


def test_sharpness_is_the_variance_of_the_laplacian() -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    luma = image[10:40, 20:60].astype(np.float64) @ (0.299, 0.587, 0.114)
    kernel = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]])
    expected = convolve(luma, kernel)[1:-1, 1:-1].var()
    assert sharpness(image, (20, 10, 60, 40))[0] == pytest.approx(expected, rel=1e-4)


def test_a_blurred_hand_is_less_sharp_at_both_sizes() -> None:
    import cv2

    image = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    blurred = cv2.GaussianBlur(image, (9, 9), 3)
    box = (10.0, 10.0, 190.0, 190.0)
    assert all(b < 0.1 * s for b, s in zip(sharpness(blurred, box), sharpness(image, box), strict=True))


def test_movement_is_the_mean_of_joints_seen_twice() -> None:
    points, scores = _arm()
    sequence, seen = np.stack([points, points + np.array([3, -2])]), np.stack([scores, scores])
    sequence[1, 91] += 1000
    seen[1, 91] = 0  # lost joints do not count
    assert hand_movement(sequence, seen, 0, 1) == pytest.approx((3, -2))
    assert hand_movement(sequence, seen, 0, 0) is None
    assert hand_movement(sequence, seen, 1, 1) is None


def test_rows_hold_left_before_right_and_zeros_where_invalid() -> None:
    points, scores = _arm()
    points[RIGHT_HAND], scores[RIGHT_HAND] = points[LEFT_HAND] - (60, 0), 1
    frames = np.zeros((2, 200, 200, 3), np.uint8)
    rows = hands_of(frames, np.stack([points] * 2), np.stack([scores, scores * 0]), 200, 200)
    assert rows[0]["valid"] == [True, True]
    assert rows[0]["boxes"] == pytest.approx([74, 94, 126, 146, 14, 94, 66, 146])
    assert rows[1] == {
        "boxes": [0.0] * 8,
        "valid": [False] * 2,
        "sharpness": [0.0] * 4,
        "movement": [0.0] * 4,
        "movement_valid": [False] * 2,
    }
