"""Overlap, suppression, letterboxing and tracking, against torchvision and by theorem."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou
from torchvision.ops import nms as torchvision_nms

from pipelines.boxes import People, fill_between, iou, letterbox, nms, track


def _boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    corner = rng.uniform(0, 200, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(5, 120, (count, 2))], axis=1).astype(np.float32)


def _people(*tracks: tuple[int, tuple[float, float, float, float]], score: float = 0.9) -> People:
    boxes = np.array([box for _, box in tracks], np.float32).reshape(-1, 4)
    return People(boxes, np.full(len(tracks), score, np.float32), np.array([number for number, _ in tracks], np.int32))


@pytest.mark.parametrize("seed", range(3))
def test_overlap_and_suppression_are_torchvision_s(seed: int) -> None:
    rng = np.random.default_rng(seed)
    boxes, others, scores = _boxes(rng, 300), _boxes(rng, 40), rng.permutation(300).astype(np.float32) / 300
    oracle = box_iou(torch.from_numpy(boxes), torch.from_numpy(others)).numpy()
    np.testing.assert_allclose(iou(boxes, others), oracle, atol=1e-6)
    for threshold in (0.3, 0.45, 0.7):
        kept = torchvision_nms(torch.from_numpy(boxes), torch.from_numpy(scores), threshold).numpy()
        np.testing.assert_array_equal(nms(boxes, scores, threshold, pixel=0), kept)


def test_suppression_that_counts_the_last_pixel_is_the_one_of_boxes_one_pixel_larger() -> None:
    rng = np.random.default_rng(7)
    boxes, scores = _boxes(rng, 200).round(), rng.permutation(200).astype(np.float32)
    np.testing.assert_array_equal(nms(boxes, scores, 0.45), nms(boxes + np.array([0, 0, 1, 1], np.float32), scores, 0.45, pixel=0))


def test_no_boxes_are_no_boxes() -> None:
    none = np.zeros((0, 4), np.float32)
    assert iou(none, none).shape == (0, 0)
    assert len(nms(none, np.zeros(0, np.float32), 0.5)) == 0
    assert [len(numbers) for numbers in track([none, none])] == [0, 0]


@pytest.mark.parametrize(("height", "width"), [(100, 50), (50, 100), (333, 500), (640, 640), (64, 64)])
def test_a_letterboxed_point_divided_by_the_scale_is_the_point(height: int, width: int) -> None:
    frame = np.zeros((1, height, width, 3), np.uint8)
    frame[0, height // 2 - 4 : height // 2 + 4, width // 2 - 4 : width // 2 + 4] = 255
    canvas, scale = letterbox(frame, (128, 128), 114)
    assert canvas.shape == (1, 128, 128, 3)
    bright = np.argwhere(canvas[0, ..., 0] > 180)
    np.testing.assert_allclose(bright.mean(axis=0) / scale, (height / 2, width / 2), atol=1.5 / scale)
    inside = int(height * scale), int(width * scale)
    assert max(inside) == 128
    outside = np.ones((128, 128), bool)
    outside[: inside[0], : inside[1]] = False
    assert (canvas[0][outside] == 114).all()


def test_numbers_stay_with_people_who_pass_each_other() -> None:
    left = [np.array([10.0 + 6 * t, 0, 60 + 6 * t, 100]) for t in range(30)]
    right = [np.array([190.0 - 6 * t, 60, 240 - 6 * t, 160]) for t in range(30)]
    order = [(left, right) if t % 2 else (right, left) for t in range(30)]  # the detector's order changes
    numbers = track([np.stack([a[t], b[t]]).astype(np.float32) for t, (a, b) in enumerate(order)])
    of_left = {int(numbers[t][0 if t % 2 else 1]) for t in range(30)}
    assert len(of_left) == 1
    assert {int(number) for frame in numbers for number in frame} == {0, 1}


def test_a_person_keeps_the_number_through_a_gap_and_loses_it_after_a_long_one() -> None:
    box, none = np.array([[10, 10, 50, 90]], np.float32), np.zeros((0, 4), np.float32)
    short, long = track([box, *[none] * 5, box], patience=10), track([box, *[none] * 12, box], patience=10)
    assert short[0].tolist() == short[-1].tolist() == [0]
    assert long[-1].tolist() == [1]


def test_boxes_between_detections_are_on_a_straight_line() -> None:
    seen = {0: _people((3, (0, 0, 10, 10))), 4: _people((3, (40, 20, 50, 30)), score=0.5), 5: _people()}
    people = fill_between(seen, 6)
    for t in range(5):
        np.testing.assert_allclose(people[t].boxes, [[10 * t, 5 * t, 10 * t + 10, 5 * t + 10]])
        assert people[t].tracks.tolist() == [3]
    assert people[2].scores.tolist() == [0.5]
    assert people[5].tracks.tolist() == []


def test_who_is_seen_on_one_side_only_is_held_over_the_nearer_half() -> None:
    box = (0.0, 0.0, 10.0, 10.0)
    people = fill_between({0: _people((0, box), (1, box)), 4: _people((0, box), (2, box))}, 5)
    assert [sorted(frame.tracks.tolist()) for frame in people] == [[0, 1], [0, 1], [0, 1], [0, 2], [0, 2]]
