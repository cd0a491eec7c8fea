"""Accuracy against ground truth: values at both ends, what they must not depend on, and independent libraries on the same input."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.accuracy import endpoint_error, keypoint_error, mask_iou, oks, part_accuracy, pck, uv_error, verification


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def test_the_truth_is_right_everywhere(generator: np.random.Generator) -> None:
    points, seen = generator.uniform(0, 128, (3, 133, 2)), np.ones((3, 133), bool)
    assert oks(points, points, seen, [900.0] * 3) == pytest.approx([1, 1, 1])
    assert pck(points, points, seen) == pytest.approx([1, 1, 1])
    assert keypoint_error(points, points, seen, [100.0] * 3) == pytest.approx([0, 0, 0])


def test_oks_is_coco_s(generator: np.random.Generator) -> None:
    """pycocotools on the same two poses."""
    from pycocotools.cocoeval import COCOeval, Params

    found, true = generator.uniform(0, 60, (17, 2)), generator.uniform(0, 60, (17, 2))
    truth = {"keypoints": np.c_[true, np.full(17, 2)].ravel().tolist(), "bbox": [0, 0, 60, 60], "area": 3000.0, "ignore": 0}
    judge = object.__new__(COCOeval)
    judge.params = Params("keypoints")
    judge._gts, judge._dts = {(1, 1): [truth]}, {(1, 1): [{"keypoints": np.c_[found, np.ones(17)].ravel().tolist(), "score": 1.0}]}
    expected = judge.computeOks(1, 1)[0, 0]
    assert oks(found[None], true[None], np.ones((1, 17), bool), [3000.0])[0] == pytest.approx(expected, rel=1e-9)


def test_hidden_points_do_not_count_and_nothing_seen_is_nan() -> None:
    true, seen = np.zeros((2, 17, 2)), np.zeros((2, 17), bool)
    true[:, :, 0] = np.arange(17)
    seen[0, :3] = True
    found = true.copy()
    found[0, 3:] += 1000
    assert keypoint_error(found, true, seen, [100.0, 100.0])[0] == 0
    assert np.isnan(keypoint_error(found, true, seen, [100.0, 100.0])[1])


def test_pck_counts_what_is_within_a_tenth_of_the_box() -> None:
    true = np.array([[[0, 0], [100, 0], [50, 40], [20, 20]]], float)  # larger side 100
    found = true + np.array([[[9.9, 0], [0, 10.1], [0, 0], [7.2, 7.2]]])
    assert pck(found, true, np.ones((1, 4), bool))[0] == pytest.approx(0.5)


def test_masks_and_parts() -> None:
    a, b = np.zeros((2, 4, 4), bool), np.zeros((2, 4, 4), bool)
    a[0, :2], b[0, 1:3] = True, True
    assert mask_iou(a, b)[0] == pytest.approx(1 / 3)
    assert np.isnan(mask_iou(a, b)[1])
    true = np.zeros((1, 2, 2, 3), np.uint8)
    true[0, 0], found = (5, 100, 200), true.copy()
    found[0, 0] = [(5, 151, 200), (6, 0, 0)]
    assert part_accuracy(found, true)[0] == 0.5
    assert uv_error(found, true)[0] == pytest.approx(51 / 255 / 2)  # of the right pixel alone


def test_endpoint_error_is_the_length_of_a_constant_shift() -> None:
    true = np.random.default_rng(1).normal(size=(2, 5, 6, 2))
    assert endpoint_error(true + np.array([3, 4]), true, np.ones((2, 5, 6), bool)) == pytest.approx([5, 5])


def test_verification_is_the_statistic_of_mann_and_whitney(generator: np.random.Generator) -> None:
    from scipy.stats import mannwhitneyu

    same, different = generator.normal(0.6, 0.3, 200).round(2), generator.normal(0.2, 0.3, 500).round(2)  # rounded: with ties
    area, rate = verification(same, different)
    assert area == pytest.approx(mannwhitneyu(same, different).statistic / 200 / 500, abs=1e-12)
    allowed = [(same > threshold).mean() for threshold in different if (different > threshold).mean() <= 0.01]
    assert rate == max(allowed)


def test_verification_without_pairs_is_an_error() -> None:
    with pytest.raises(ValueError, match="pairs"):
        verification([], [0.1])
