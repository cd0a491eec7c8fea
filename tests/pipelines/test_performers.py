"""Performers: what is drawn and what is said about it agree."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from pipelines.errors import UserError
from pipelines.performers import Performance, Truth, perform, truth_path, write_dataset
from pipelines.video import read_video

BODY = slice(0, 17)
TORSO = [5, 6, 11, 12]


@pytest.fixture(scope="module")
def clip() -> Performance:
    return perform(3, 7, frames=16)


def test_equal_seeds_give_equal_frames_and_truth(clip: Performance) -> None:
    again = perform(3, 7, frames=16)
    np.testing.assert_array_equal(clip.frames, again.frames)
    for field in fields(Truth):
        np.testing.assert_array_equal(getattr(clip.truth, field.name), getattr(again.truth, field.name))


def test_a_shorter_clip_is_a_prefix(clip: Performance) -> None:
    np.testing.assert_array_equal(perform(3, 7, frames=5).frames, clip.frames[:5])


def test_motion_does_not_depend_on_identity_nor_background_on_either() -> None:
    first, second = (perform(identity, 4, frames=1, background=9) for identity in (1, 2))
    corner = np.s_[0, :20, :20]
    np.testing.assert_array_equal(first.frames[corner], second.frames[corner])  # the same place
    assert np.abs(first.frames.astype(int) - second.frames).mean() > 1  # another person in it
    other_place = perform(1, 4, frames=1, background=10)
    np.testing.assert_array_equal(first.truth.keypoints, other_place.truth.keypoints)
    assert (first.frames[corner] != other_place.frames[corner]).any()
    assert str(first.truth.identity) != str(second.truth.identity)


def test_shapes_types_and_ranges(clip: Performance) -> None:
    truth = clip.truth
    assert clip.frames.shape == (16, 128, 128, 3)
    assert clip.frames.dtype == np.uint8
    assert truth.keypoints.shape == (16, 133, 2)
    assert truth.keypoints.dtype == np.float32
    assert np.isfinite(truth.keypoints).all()
    assert truth.scores.min() >= 0
    assert truth.scores.max() == 1
    assert truth.iuv.shape == (16, 128, 128, 3)
    assert truth.iuv.dtype == np.uint8
    assert truth.iuv[..., 0].max() <= 24


def test_the_mask_is_where_iuv_is_positive(clip: Performance) -> None:
    np.testing.assert_array_equal(clip.truth.iuv[..., 0] > 0, clip.truth.mask)
    assert (clip.truth.iuv[~clip.truth.mask] == 0).all()
    assert 0.06 < clip.truth.mask.mean() < 0.4


@pytest.mark.parametrize("identity", range(6))
def test_the_person_changes_nothing_away_from_the_mask(identity: int) -> None:
    """Two people at the same place: three px from both masks (and above their shadows) the pictures are equal."""
    import cv2

    first, second = (perform(who, 11, frames=1, background=2) for who in (identity, identity + 50))
    either = (first.truth.mask | second.truth.mask)[0].astype(np.uint8)
    far = cv2.dilate(either, np.ones((7, 7), np.uint8)) == 0
    far[100:] = False
    np.testing.assert_array_equal(first.frames[0][far], second.frames[0][far])


@pytest.mark.parametrize("identity", range(8))
def test_visible_joints_lie_on_the_person(identity: int) -> None:
    truth = perform(identity, 20 + identity, frames=12).truth
    for t in range(12):
        x, y = np.clip(np.round(truth.keypoints[t]).astype(int), 0, 127).T
        assert truth.mask[t, y[TORSO], x[TORSO]].all()
        near = np.array([truth.mask[t, max(0, b - 2) : b + 3, max(0, a - 2) : a + 3].any() for a, b in zip(x, y, strict=True)])
        assert near[truth.scores[t] == 1].all()


def test_parts_are_where_their_joints_are(clip: Performance) -> None:
    """Left is the person's own: wrists, ankles and nose lie on (or next to) their DensePose parts where visible."""
    truth = clip.truth
    expected = {0: {23, 24}, 9: {4, 19, 21}, 10: {3, 20, 22}, 13: {8, 10, 12, 14}, 14: {7, 9, 11, 13}, 17: {5}, 20: {6}}
    for joint, parts in expected.items():
        for t in np.flatnonzero(truth.scores[:, joint] == 1):
            x, y = np.round(truth.keypoints[t, joint]).astype(int)
            around = set(truth.iuv[t, max(0, y - 2) : y + 3, max(0, x - 2) : x + 3, 0].ravel().tolist())
            assert around & parts, (joint, t, around)


def test_u_and_v_are_smooth_inside_a_part(clip: Performance) -> None:
    iuv = clip.truth.iuv.astype(int)
    same = (iuv[:, 1:, :, 0] == iuv[:, :-1, :, 0]) & (iuv[:, 1:, :, 0] > 0)
    steps = np.abs(np.diff(iuv[..., 1:], axis=1))[same]
    assert np.median(steps) < 12
    assert np.quantile(steps, 0.9) < 60


def test_a_person_who_faces_the_camera_has_their_left_on_the_image_right() -> None:
    frontal = [perform(identity, 1, frames=1).truth.keypoints[0] for identity in range(4)]
    for points in frontal:
        assert points[5, 0] > points[6, 0]  # shoulders
        assert points[1, 0] > points[2, 0]  # eyes
        assert points[23, 0] < points[39, 0]  # jaw runs from the person's right to their left


def test_the_body_fills_the_frame() -> None:
    heights = []
    for identity in range(6):
        rows = np.flatnonzero(perform(identity, 5, frames=1).truth.mask[0].any(1))
        heights.append((rows[-1] - rows[0] + 1) / 128)
    assert 0.74 < np.mean(heights) < 0.97


def test_the_face_box_holds_the_five_points_and_eyes_come_first(clip: Performance) -> None:
    box, points = clip.truth.face_box, clip.truth.face_points
    assert (points >= box[:, None, :2]).all()
    assert (points <= box[:, None, 2:]).all()
    assert (points[:, :2, 1].max(1) < points[:, 3:, 1].min(1)).all()
    np.testing.assert_allclose(points[:, 2], clip.truth.keypoints[:, 23 + 30], atol=1e-5)


def test_motion_is_smooth_and_feet_stay_on_the_floor() -> None:
    points = perform(2, 3, frames=48).truth.keypoints
    speed = np.linalg.norm(np.diff(points[:, BODY], axis=0), axis=-1)
    assert speed.max() < 14  # px per frame at 128: a hand crosses the body in about five frames
    assert speed[:, [9, 10]].mean() > 0.3
    assert np.ptp(points[:, [19, 22], 1]) < 9


def test_truth_survives_the_disk(clip: Performance, tmp_path: Path) -> None:
    path = tmp_path / "a.truth.npz"
    clip.truth.save(path)
    loaded = Truth.load(path)
    for field in fields(Truth):
        np.testing.assert_array_equal(getattr(loaded, field.name), getattr(clip.truth, field.name))
    assert [p.name for p in tmp_path.iterdir()] == ["a.truth.npz"]


@pytest.mark.parametrize("wrong", [{"frames": 0}, {"size": 127}, {"size": 32}, {"identity": -1}])
def test_arguments_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    arguments = {"identity": 0, "motion": 0, "frames": 1, "size": 64} | wrong
    with pytest.raises(ValueError, match="must be"):
        perform(arguments["identity"], arguments["motion"], frames=arguments["frames"], size=arguments["size"])


def test_resolution_scales_the_truth() -> None:
    small, large = (perform(4, 4, frames=1, size=size).truth for size in (64, 256))
    np.testing.assert_allclose((small.keypoints + 0.5) * 4, large.keypoints + 0.5, atol=0.01)


def test_a_data_set_splits_people_and_is_written_once(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    arguments = {"identities": [1, 2], "test_identities": [3], "clips_per_identity": 2, "frames": 4, "size": 64}
    videos = write_dataset(tmp_path, **arguments, progress=lambda done, total: calls.append((done, total)))  # type: ignore[arg-type]
    assert calls[-1] == (6, 6)
    people = {split: {video.subject for video in videos if video.split == split} for split in ("train", "test")}
    assert people == {"train": {"performer_0001", "performer_0002"}, "test": {"performer_0003"}}
    assert len({video.motion for video in videos}) == 6
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".mp4"] * 6 + [".npz"] * 6
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    truth_path(videos[0].path).write_bytes(b"torn")
    assert write_dataset(tmp_path, **arguments) == videos  # type: ignore[arg-type]
    changed = {path for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp}
    assert changed == {videos[0].path, truth_path(videos[0].path)}
    assert read_video(videos[0].path).shape == (4, 64, 64, 3)


def test_nobody_is_in_both_splits(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="both splits"):
        write_dataset(tmp_path, identities=[1, 2], test_identities=[2], clips_per_identity=1, frames=1)
    assert not list(tmp_path.iterdir())
