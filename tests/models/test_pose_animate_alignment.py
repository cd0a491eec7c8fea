"""PATA: the desired poses come to the source's place and scale, and a way leads to the first of them."""

from __future__ import annotations

import numpy as np
import pytest

from models.pose_animate.config import Pata
from models.pose_animate.pose_alignment import align_poses, between_poses, moved_to_source, transitions_needed
from pipelines.keypoints import LEFT_HAND

H = 100
_BODY = [(50, 10), (48, 8), (52, 8), (46, 9), (54, 9), (42, 22), (58, 22), (38, 35), (62, 35), (36, 46), (64, 46), (45, 50), (55, 50),
         (45, 70), (55, 70), (45, 90), (55, 90)]  # fmt: skip


def _standing() -> np.ndarray:
    points = np.zeros((133, 2), np.float32)
    points[:17] = _BODY
    points[17:20], points[20:23], points[23:91], points[91:112], points[112:] = _BODY[15], _BODY[16], _BODY[0], _BODY[9], _BODY[10]
    return points


def _scores(count: int | None = None) -> np.ndarray:
    return np.ones((133,) if count is None else (count, 133), np.float32)


def _neck_to_hips(points: np.ndarray) -> float:
    return float(np.hypot(*(points[[11, 12]].mean(0) - points[[5, 6]].mean(0))))


def test_first_pose_lands_on_the_source_in_place_and_scale() -> None:
    source, desired = _standing(), _standing()[None] * 0.4 + np.array([120, 30], np.float32)
    moved = moved_to_source(desired, _scores(), source, _scores())
    np.testing.assert_allclose(moved[0], source, atol=1e-3)


def test_root_motion_is_kept_at_the_new_scale() -> None:
    walk = np.stack([_standing() + np.array([5 * i, 0]) for i in range(4)]).astype(np.float32)
    source = _standing() * 2
    moved = moved_to_source(walk, _scores(), source, _scores())
    np.testing.assert_allclose(moved[:, 0] - moved[0, 0], [[10 * i, 0] for i in range(4)], atol=1e-3)
    assert all(_neck_to_hips(pose) == pytest.approx(_neck_to_hips(source), rel=1e-5) for pose in moved)


def test_without_hips_the_box_of_shared_joints_gives_the_scale_and_the_neck_the_place() -> None:
    source, scores = _standing(), _scores()
    scores[11:17] = 0
    desired = (source * 0.5 + 7)[None]
    desired[:, 11:17] = np.nan  # what is hidden may be anything
    moved = moved_to_source(desired, scores, source, scores)
    np.testing.assert_allclose(moved[0, :11], source[:11], atol=1e-3)


def test_one_shared_joint_gives_a_place_and_no_scale_and_none_is_refused() -> None:
    scores = np.zeros(133, np.float32)
    scores[0] = 1
    moved = moved_to_source(_standing()[None] + 9, scores, _standing(), _scores())
    np.testing.assert_allclose(moved[0], _standing(), atol=1e-4)
    with pytest.raises(ValueError, match="no body joint is visible both"):
        moved_to_source(_standing()[None], np.zeros(133, np.float32), _standing(), _scores())


def test_pose_0_is_the_sources_and_the_way_is_straight_and_even() -> None:
    source, desired = _standing(), np.stack([_standing()] * 3)
    desired[:, 9] += [0, -30]  # the left wrist
    made = align_poses((source, _scores()), (desired, _scores(3)), H, Pata(transitions=4))
    assert (made.transitions, made.leading, len(made.points)) == (4, 5, 8)
    np.testing.assert_array_equal(made.points[0], source)
    np.testing.assert_allclose(made.points[1:6, 9, 1], source[9, 1] - 30 * np.arange(1, 6) / 5, atol=1e-3)
    np.testing.assert_allclose(made.points[5:, 9], desired[:, 9], atol=1e-3)
    assert (made.scores == 1).all()


def test_off_changes_nothing_and_adds_nothing() -> None:
    desired = np.stack([_standing()] * 2) * 0.3 + 40
    made = align_poses((_standing(), _scores()), (desired.astype(np.float32), _scores(2)), H, Pata(enabled=False))
    assert made.leading == 1
    np.testing.assert_array_equal(made.points[1:], desired.astype(np.float32))


@pytest.mark.parametrize(("moved", "expected"), [(0, 2), (13, 3), (24.5, 5), (90, 8)])
def test_transitions_follow_the_joint_that_moves_most(moved: float, expected: int) -> None:
    first = _standing()
    first[9, 1] -= moved
    first[LEFT_HAND] += 500  # hands and faces do not count
    assert transitions_needed((_standing(), _scores()), (first, _scores()), H, Pata()) == expected


def test_angles_keep_a_turning_limb_as_long_as_it_is() -> None:
    source, first = _standing(), _standing()
    first[9] = first[7] - (first[9] - first[7])  # the forearm, turned by half a circle
    first[LEFT_HAND] = first[9]
    length = float(np.hypot(*(source[9] - source[7])))
    halves = [between_poses((source, _scores()), (first, _scores()), 0.5, Pata(interp=kind)) for kind in ("linear", "angle")]  # type: ignore[arg-type]
    lengths = [float(np.hypot(*(half[9] - half[7]))) for half in halves]
    assert lengths[0] == pytest.approx(0, abs=1e-3)
    assert lengths[1] == pytest.approx(length, rel=1e-4)
    np.testing.assert_allclose(halves[1][:9], halves[0][:9], atol=1e-3)


@pytest.mark.parametrize("kind", ["linear", "angle"])
def test_both_ends_of_the_way_are_the_two_poses(kind: str) -> None:
    source, first = _standing(), (_standing() * 1.1 + np.random.default_rng(0).normal(0, 4, (133, 2))).astype(np.float32)
    for share, end in ((0.0, source), (1.0, first)):
        between = between_poses((source, _scores()), (first, _scores()), share, Pata(interp=kind))  # type: ignore[arg-type]
        np.testing.assert_allclose(between, end, atol=1e-3)


def test_a_joint_that_one_pose_hides_follows_its_parent_and_is_not_drawn() -> None:
    source, first, hidden = _standing(), _standing() + 10, _scores()
    first[9], hidden[9] = np.nan, 0
    between = between_poses((source, _scores()), (first, hidden), 0.5, Pata())
    np.testing.assert_allclose(between[9] - between[7], source[9] - source[7], atol=1e-3)
    made = align_poses((source, _scores()), (first[None], hidden[None]), H, Pata(transitions=2))
    assert (made.scores[1:3, 9] == 0).all()
    seen = np.isfinite(made.points).all(axis=-1)
    assert (seen | (made.scores == 0)).all()
