"""Theorems about the performers' ground truth: planes, flow, depth, sharpness and words agree with the picture."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pipelines.extractors.caption import character_span
from pipelines.extractors.clothing import NAMES
from pipelines.extractors.hands import hands_of
from pipelines.performers import Performance, Truth, perform
from pipelines.performers.labels import LABELS
from pipelines.performers.wardrobe import LIMB_PARTS

LIMBS = [7, 8, 9, 10, 13, 14, 15, 16]  # elbows, wrists, knees, ankles


@pytest.fixture(scope="module")
def clip() -> Performance:
    return perform(3, 7, frames=12)


@pytest.fixture(scope="module", params=[(2010, 1), (2011, 2), (2014, 3), (2017, 4)], ids=lambda p: f"person{p[0]}")
def anybody(request: pytest.FixtureRequest) -> Performance:
    identity, motion = request.param
    return perform(identity, motion, frames=10)


def _warped(picture: npt.NDArray[Any], flow: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """picture sampled at (x + u, y + v)."""
    import cv2

    height, width = flow.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    flow = flow.astype(np.float32)
    return np.asarray(cv2.remap(picture.astype(np.float32), x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR))


def _inner(mask: npt.NDArray[np.bool_], margin: int = 2) -> npt.NDArray[np.bool_]:
    import cv2

    return np.asarray(cv2.erode(mask.astype(np.uint8), np.ones((2 * margin + 1,) * 2, np.uint8)) > 0)


def test_every_mask_is_part_of_the_body(anybody: Performance) -> None:
    truth = anybody.truth
    np.testing.assert_array_equal(truth.labels > 0, truth.mask)
    np.testing.assert_array_equal(truth.iuv[..., 0] > 0, truth.mask)
    np.testing.assert_array_equal(np.isfinite(truth.depth), truth.mask)
    left, right = truth.hand_masks[:, 0], truth.hand_masks[:, 1]
    planes = [truth.face_mask, truth.hair_mask, truth.clothing_mask, left, right]
    assert (sum(plane.astype(int) for plane in planes) <= truth.mask).all()  # inside it, and none over another
    assert all(plane.any() for plane in planes)
    assert truth.labels.max() < len(LABELS)


def test_masks_agree_with_the_parts_and_the_keypoints(anybody: Performance) -> None:
    truth = anybody.truth
    part = truth.iuv[..., 0]
    np.testing.assert_array_equal(truth.hand_masks[:, 0], part == 4)
    np.testing.assert_array_equal(truth.hand_masks[:, 1], part == 3)
    assert np.isin(part[truth.face_mask], [23, 24]).all()
    for t in range(truth.frames):
        for joint in (23 + 30, 23 + 33, 23 + 27):  # nose
            x, y = np.round(truth.keypoints[t, joint]).astype(int)
            if truth.scores[t, joint] == 1:
                assert truth.face_mask[t, y, x] or truth.hair_mask[t, y - 1 : y + 2, x - 1 : x + 2].any()


def test_clothes_are_where_the_picture_has_their_colour() -> None:
    """Bare skin has the skin's hue, whatever the light: the labels' means differ as the colours do."""
    from pipelines.performers.body import sample_appearance

    performance = perform(2003, 21, frames=2, background=4)  # pink sweater, brown shorts
    look = sample_appearance(2003)
    colours = {"top": look.top_cloth.mean((0, 1)), "bottom": look.bottom_cloth.mean((0, 1)), "skin": look.skin, "hair": look.hair}
    for name, colour in colours.items():
        seen = performance.frames[performance.truth.labels == LABELS.index(name)].mean(0)
        angle = np.arccos(seen @ colour / np.linalg.norm(seen) / np.linalg.norm(colour))
        assert np.degrees(angle) < 8, name


def test_flow_warps_the_next_frame_onto_this_one(anybody: Performance) -> None:
    truth, frames = anybody.truth, anybody.frames.astype(np.float32)
    before, after = [], []
    for t in range(truth.frames - 1):
        inside = _inner(truth.mask[t]) & truth.flow_valid[t]
        before.append(np.abs(frames[t + 1] - frames[t])[inside].mean())
        after.append(np.abs(_warped(frames[t + 1], truth.flow[t]) - frames[t])[inside].mean())
    assert np.mean(after) < 0.65 * np.mean(before)
    assert np.mean(after) < 8  # grey levels of 255
    assert truth.flow_valid[truth.flow_valid.shape[0] // 2].mean() > 0.9


def test_flow_is_how_the_joints_move(anybody: Performance) -> None:
    truth, errors = anybody.truth, []
    for t in range(truth.frames - 1):
        seen = [joint for joint in LIMBS if truth.scores[t, joint] == 1 and truth.scores[t + 1, joint] == 1]
        moved = truth.keypoints[t + 1, seen] - truth.keypoints[t, seen]
        x, y = np.round(truth.keypoints[t, seen]).astype(int).T
        valid = truth.flow_valid[t, y, x]
        errors += np.linalg.norm(truth.flow[t, y, x].astype(np.float32) - moved, axis=-1)[valid].tolist()
    assert len(errors) > 30
    assert np.mean(errors) < 0.5
    assert np.quantile(errors, 0.95) < 1


def test_flow_is_how_fingers_and_faces_move(anybody: Performance) -> None:
    truth, errors = anybody.truth, []
    for t in range(truth.frames - 1):
        for joints, plane in ((range(91, 112), truth.hand_masks[t, 0]), (range(112, 133), truth.hand_masks[t, 1]),
                              (range(23 + 27, 23 + 60), truth.face_mask[t])):  # fmt: skip
            for joint in joints:
                x, y = np.round(truth.keypoints[t, joint]).astype(int)
                if truth.scores[t, joint] == 1 and 0 <= x < 128 and 0 <= y < 128 and plane[y, x]:
                    moved = truth.keypoints[t + 1, joint] - truth.keypoints[t, joint]
                    errors.append(float(np.linalg.norm(truth.flow[t, y, x].astype(np.float32) - moved)))
    assert len(errors) > 100
    assert np.mean(errors) < 0.5
    assert np.quantile(errors, 0.95) < 1.2


def test_the_background_stands_still(clip: Performance) -> None:
    truth = clip.truth
    assert (truth.flow[~truth.mask[:-1]] == 0).all()
    uncovered = ~truth.mask[:-1] & truth.mask[1:]
    assert uncovered.any()
    assert not truth.flow_valid[uncovered].any()
    assert truth.flow_valid[~truth.mask[:-1] & ~truth.mask[1:]].all()


def test_where_limbs_cross_the_nearer_one_is_seen() -> None:
    """A hand in front of the trunk has less depth than the trunk around it; one behind the back is not seen there."""
    found = 0
    for seed in (0, 2, 4, 7):
        truth = perform(2020 + seed, seed, frames=7, style="talk").truth
        for t in range(0, 7, 3):
            part, depth = truth.iuv[t, ..., 0], truth.depth[t].astype(np.float32)
            trunk = (part == 1) | (part == 2)
            rows, columns = np.nonzero(trunk)
            low, high = np.quantile(columns, [0.2, 0.8]).astype(int)
            middle = np.zeros_like(trunk)
            middle[rows.min() + 8 : rows.max() - 8, low:high] = True
            over = np.isin(part, [3, 4]) & middle
            if over.sum() > 8:
                found += 1
                assert np.median(depth[over]) < np.median(depth[trunk]), (seed, t)
    assert found > 2


def test_depth_follows_the_limb() -> None:
    """Along an upper arm the depth is that of its joints, up to the flesh around them."""
    from pipelines.performers.body import sample_appearance
    from pipelines.performers.motion import choreograph
    from pipelines.performers.skeleton import build_skeleton

    truth = perform(2030, 5, frames=6).truth
    pose, _ = choreograph(5, 6, Fraction(24), style="dance")
    joints = build_skeleton(sample_appearance(2030).proportions, pose).joints
    for name, ends in (("left_forearm", ("left_elbow", "left_wrist")), ("right_shin", ("right_knee", "right_ankle"))):
        for t in range(6):
            seen = truth.depth[t][np.isin(truth.iuv[t, ..., 0], LIMB_PARTS[name])].astype(float)
            if seen.size > 20:
                deep = sorted(-joints[end][t, 2] for end in ends)
                assert deep[0] - 0.06 < seen.min()
                assert seen.max() < deep[1] + 0.02


def test_visible_keypoints_lie_on_the_mask(anybody: Performance) -> None:
    import cv2

    truth = anybody.truth
    for t in range(truth.frames):
        near = cv2.dilate(truth.mask[t].astype(np.uint8), np.ones((5, 5), np.uint8))
        x, y = np.round(truth.keypoints[t, truth.scores[t] == 1]).astype(int).T
        assert near[y, x].all()


def test_hand_sharpness_is_that_of_the_picture(clip: Performance) -> None:
    rows = hands_of(clip.frames, clip.truth.keypoints, clip.truth.scores, 128, 128)
    np.testing.assert_allclose(clip.truth.hand_sharpness.reshape(-1, 4), [row["sharpness"] for row in rows], rtol=1e-6)
    assert (clip.truth.hand_sharpness > 0).any()


def test_resolution_scales_the_planes() -> None:
    small, large = (perform(2009, 4, frames=2, size=size).truth for size in (128, 512))
    np.testing.assert_allclose(large.mask.mean(), small.mask.mean(), rtol=0.06)
    for label in range(1, len(LABELS)):
        share = (small.labels == label).mean()
        assert abs((large.labels == label).mean() - share) < 0.004 + 0.15 * share, LABELS[label]
    np.testing.assert_allclose(large.flow.astype(float).max() / 4, small.flow.astype(float).max(), rtol=0.25)


def test_words_name_the_person_the_clothes_and_the_action() -> None:
    wanted = {"woman", "man"}
    seen = set()
    for identity in range(2000, 2024):
        truth = perform(identity, 1, frames=1, size=64, background=identity, action="juggling").truth
        caption = str(truth.caption)
        span = character_span(caption)
        assert span is not None
        assert caption[span[0] : span[1]] in wanted
        assert "juggling" in caption
        assert str(truth.action) == "juggling"
        assert str(truth.clothing) in NAMES
        seen.add(str(truth.clothing))
    assert len(seen) >= 4
    assert str(perform(1, 1, frames=1, size=64).truth.action) == "dance"


def test_a_part_is_what_lies_in_it(clip: Performance, tmp_path: Path) -> None:
    truth = clip.truth
    part = truth.part(3, 8, (20, 10, 60, 90))
    np.testing.assert_array_equal(part.labels, truth.labels[3:8, 10:100, 20:80])
    np.testing.assert_array_equal(part.depth, truth.depth[3:8, 10:100, 20:80])
    assert part.flow.shape == (4, 90, 60, 2)
    assert part.flow_valid.shape == (4, 90, 60)
    np.testing.assert_array_equal(part.keypoints, truth.keypoints[3:8] - [20, 10])
    gone = truth.flow_valid[3:7, 10:100, 20:80] & ~part.flow_valid
    x, y = np.arange(60) + part.flow[..., 0].astype(float), np.arange(90)[:, None] + part.flow[..., 1].astype(float)
    outside = (np.rint(x) < 0) | (np.rint(x) >= 60) | (np.rint(y) < 0) | (np.rint(y) >= 90)
    assert outside[gone].all()
    assert truth.part(5, 6).flow.shape == (0, 128, 128, 2)
    part.save(tmp_path / "p.npz")
    assert Truth.load(tmp_path / "p.npz").flow.dtype == np.float16
