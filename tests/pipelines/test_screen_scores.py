"""Every screening score: a theorem or a clip made so that the answer is known."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest

from pipelines.clip import Clip
from pipelines.errors import UserError
from pipelines.performers.performer import Performance, perform
from pipelines.screen_frames import (
    background_change,
    bars,
    clipped_share,
    face_sharpnesses,
    frame_scores,
    reduced_luma,
    reference_frames,
    sampled,
)  # fmt: skip
from pipelines.screen_pose import count_scores, face_boxes, face_scores, person_scores, pose_scores
from pipelines.screen_rule import CONDITIONS, RULES, ScreeningRule, broken_conditions, rule_for, rule_named

Floats = npt.NDArray[np.float64]
SIZE = 96


@pytest.fixture(scope="module")
def performance() -> Performance:
    return perform(5, 2, frames=12, size=SIZE, background=3)


def _standing(frames: int) -> tuple[Floats, Floats]:
    """A still person, 80 px high, in a frame of 100 x 100."""
    points = np.random.default_rng(0).uniform([30, 10], [60, 90], (133, 2))
    points[0], points[15] = (45, 10), (45, 90)
    return np.repeat(points[None], frames, axis=0), np.ones((frames, 133))


def _pose(points: Floats, scores: Floats) -> dict[str, float | None]:
    return pose_scores(points, scores, 100, 100, 25.0)


# --- poses -----------------------------------------------------------------------------------------------------------


def test_a_still_person_has_no_jump_and_no_motion() -> None:
    scores = _pose(*_standing(5))
    assert (scores["pose_jump"], scores["motion"], scores["occlusion"], scores["body_coverage"]) == (0.0, 0.0, 0.0, 1.0)


def test_a_step_is_the_jump_in_person_heights_and_motion_is_its_mean_over_time() -> None:
    points, confidence = _standing(5)
    points[3:] += (6.0, 8.0)  # one step of 10 px: the points stay inside the frame
    height = np.ptp(points[0], axis=0).max()
    confidence[:, 23:] = 0  # fingers and face do not matter
    height = np.ptp(points[0, :23], axis=0).max()
    scores = _pose(points, confidence)
    assert scores["pose_jump"] == pytest.approx(10 / height)
    assert scores["motion"] == pytest.approx(10 / height * 25 / 4)


def test_a_jump_needs_half_of_the_joints_and_frames_in_a_row() -> None:
    points, confidence = _standing(5)
    flickering = points.copy()
    flickering[2, :8] += 30 * np.array([0, -0.1])
    assert _pose(flickering, confidence)["pose_jump"] == 0.0  # 8 of 17 flicker
    points[3:, :17] += (5, 0)
    confidence[2] = 0  # nobody is seen in the frame before the step
    assert _pose(points, confidence)["pose_jump"] == 0.0
    confidence[1:4] = 0
    assert _pose(points, confidence)["pose_jump"] is None  # no two frames to compare


def test_coverage_counts_confident_joints_inside_the_frame() -> None:
    points, confidence = _standing(4)
    confidence[:, 13:17] = 0.1
    points[:, 11:13] = (50, 140)
    scores = _pose(points, confidence)
    assert scores["body_coverage"] == pytest.approx(11 / 17)
    assert scores["keypoint_confidence"] == pytest.approx((13 + 4 * 0.1) / 17)


def test_hidden_joints_inside_the_box_are_occluded_and_cut_off_ones_are_not() -> None:
    points, confidence = _standing(4)
    body = points[0, :17]
    hidden = int(np.argsort(body[:, 1])[8])  # in the middle of the body
    points[:, hidden] = body.mean(axis=0)
    confidence[:, hidden] = 0.0
    confidence[:, 15] = 0.0
    points[:, 15] = (45, 130)  # below the frame
    assert _pose(points, confidence)["occlusion"] == pytest.approx(1 / 17)


def test_nobody_has_no_share_of_anything() -> None:
    points, _ = _standing(4)
    scores = _pose(points, np.zeros((4, 133)))
    assert scores["body_coverage"] == scores["person_area"] == 0.0
    assert scores["pose_jump"] is None
    assert scores["motion"] is None


def test_a_performer_is_whole_moves_little_and_covers_the_area_of_their_box(performance: Performance) -> None:
    truth = performance.truth
    scores = pose_scores(truth.keypoints.astype(np.float64), truth.scores.astype(np.float64), SIZE, SIZE, 24.0)
    assert scores["body_coverage"] == pytest.approx((truth.scores[:, :17] > 0).mean())
    assert scores["pose_jump"] is not None
    assert 0 < scores["pose_jump"] < 0.12
    drawn = np.mean([np.ptp(np.argwhere(mask), axis=0).prod() for mask in truth.mask]) / SIZE**2
    assert scores["person_area"] == pytest.approx(drawn, rel=0.35)  # the skeleton ends inside the hair and the clothes


# --- people ----------------------------------------------------------------------------------------------------------


def test_people_are_counted_per_frame() -> None:
    counts = count_scores([1, 1, 2, 0, 11])
    assert counts["person_counts"] == [1, 2, 1, 0, 0, 0, 0, 0, 1]
    assert counts["persons"] == 3.0
    assert counts["one_person_share"] == 0.4


def test_somebody_in_front_of_the_subject_overlaps_and_somebody_beside_does_not() -> None:
    me, beside, before = [10.0, 10, 30, 60], [50.0, 10, 70, 60], [28.0, 10, 40, 60]
    boxes = [np.array(frame) for frame in ([me], [beside, me], [me, before])] + [np.zeros((0, 4))]
    scores = person_scores(boxes, [0, 1, 0, -1], 100, 100)
    assert scores["overlap_share"] == 0.25  # 2 of 20 px are a tenth
    assert scores["person_area"] == pytest.approx(0.1)
    assert scores["persons"] == 1.25


def test_a_profile_is_no_face_and_areas_are_shares_of_the_frame() -> None:
    row = {"boxes": [0, 0, 9, 9, 60, 60, 110, 80], "box_scores": [0.9, 0.8], "subject": 1}
    rows = [row, {**row, "box_scores": [0.9, 0.0]}, {**row, "subject": -1}, {"boxes": [], "box_scores": [], "subject": -1}]
    boxes = face_boxes(rows, (10, 20))
    assert [box is None for box in boxes] == [False, True, True, True]
    assert face_scores(boxes, 80, 100) == {"face_share": 0.25, "face_area": pytest.approx(30 * 20 / 8000)}  # clipped at the right edge
    assert face_scores([None, None], 80, 100) == {"face_share": 0.0, "face_area": 0.0}


# --- frames ----------------------------------------------------------------------------------------------------------


def _lumas(frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return np.stack([reduced_luma(image) for image in frames])


def test_behind_a_performer_nothing_changes_and_a_flicker_is_measured_exactly(performance: Performance) -> None:
    # soft shadows fall outside of the mask, but not on the median pixel
    lumas, masks = _lumas(performance.frames), list(performance.truth.mask)
    assert background_change(lumas, masks) == 0.0
    lumas = np.clip(lumas, 0, 240)
    lumas[1::2] += 7
    assert background_change(lumas, masks) == pytest.approx(7, abs=1e-4)


def test_a_panning_camera_changes_the_background(performance: Performance) -> None:
    wall = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 1), dtype=np.uint8)
    masks = list(performance.truth.mask)
    frames = [np.where(mask[..., None], image, wall) for image, mask in zip(performance.frames, masks, strict=True)]
    assert background_change(_lumas(np.stack(frames)), masks) == 0.0
    panned = np.stack([np.roll(image, 6 * t, axis=1) for t, image in enumerate(frames)])
    moved = [np.roll(mask, 6 * t, axis=1) for t, mask in enumerate(masks)]
    assert (background_change(_lumas(panned), moved) or 0) > 30


def test_a_frame_that_is_all_person_has_no_background() -> None:
    assert background_change(np.zeros((3, 20, 20), np.float32), [np.ones((20, 20), bool)] * 3) is None


@pytest.mark.parametrize(("top", "bottom", "left", "right"), [(0, 0, 0, 0), (12, 12, 0, 0), (0, 0, 24, 18), (9, 0, 0, 0)])
def test_bars_are_found_to_the_row(performance: Performance, top: int, bottom: int, left: int, right: int) -> None:
    padded = np.pad(performance.frames, ((0, 0), (top, bottom), (left, right), (0, 0)))
    assert bars(_lumas(padded)) == (top, bottom, left, right)


def test_a_dark_scene_that_fades_out_is_no_bar_and_a_black_clip_is_all_bar() -> None:
    ramp = np.linspace(0, 120, 200, dtype=np.float32)
    assert bars(np.broadcast_to(ramp[:, None], (3, 200, 150))) == (0, 0, 0, 0)
    assert bars(np.zeros((2, 40, 50), np.float32)) == (40, 0, 0, 0)


def test_exposure_and_clipping_leave_the_bars_out() -> None:
    frames = np.full((4, 40, 60, 3), 100, np.uint8)
    frames[:, :, ::4] = 255
    scores = frame_scores(np.pad(frames, ((0, 0), (10, 10), (0, 0), (0, 0))), None, None)
    assert scores["black_bars"] == pytest.approx(20 / 60)
    assert scores["exposure"] == pytest.approx(100 * 0.75 + 255 * 0.25, rel=1e-5)
    assert scores["clipped_share"] == pytest.approx(0.25)
    assert scores["static_background"] is None
    assert scores["face_sharpness"] is None
    assert clipped_share(np.zeros((2, 8, 8, 3), np.uint8), (0, 0, 0, 0)) == 1.0
    assert clipped_share(np.full((2, 8, 8, 3), (255, 0, 0), np.uint8), (0, 0, 0, 0)) == 0.0  # a colour is not clipped


def test_a_blurred_face_is_less_sharp(performance: Performance) -> None:
    import cv2

    faces = [box.astype(np.float64) for box in performance.truth.face_box]
    blurred = np.stack([cv2.GaussianBlur(image, (0, 0), 1.5) for image in performance.frames])
    pairs = list(zip(face_sharpnesses(performance.frames, faces), face_sharpnesses(blurred, faces), strict=True))
    assert all(sharp is not None and soft is not None and sharp > 2 * soft for sharp, soft in pairs)
    assert face_sharpnesses(performance.frames[:1], [None]) == [None]
    assert face_sharpnesses(performance.frames[:1], [np.array([90.0, 90, 91, 91])]) == [None]  # too small to say


def test_reference_frames_are_sharp_faces_of_whole_people() -> None:
    good = (0.9, 0.2)
    held = {0: good, 10: good, 20: good, 30: (0.4, 0.2), 40: (0.9, 0.04), 50: good}
    assert reference_frames([5.0, 50.0, 40.0, 60.0, 70.0, None], [0, 10, 20, 30, 40, 50], held) == [10]
    assert reference_frames([5.0, 5.0], [0, 10], held) == [0, 10]


@pytest.mark.parametrize(("frames", "size", "expected"), [(250, 640, 20), (8, 640, 4), (2, 640, 2), (10_000, 640, 32), (250, 8000, 2)])
def test_few_frames_are_sampled_and_memory_is_bounded(frames: int, size: int, expected: int) -> None:
    clip = Clip(
        dataset="d", clip_id="c", video_id="v", uri="v.mp4", start_frame=5, end_frame=5 + frames, start_pts=None, end_pts=None,
        time_base=Fraction(1, 25), fps=Fraction(25), width=size, height=size,
    )  # fmt: skip
    chosen = sampled(clip)
    assert len(chosen) == expected
    assert chosen == sorted(set(chosen))
    assert chosen[0] >= 0
    assert chosen[-1] < frames
    assert len(chosen) * 3 * size * size <= max(256 << 20, 2 * 3 * size * size)


# --- the rule --------------------------------------------------------------------------------------------------------

PERFECT = {
    "error": None, "person_counts": [0, 10, 0, 0, 0, 0, 0, 0, 0], "persons": 1.0, "overlap_share": 0.0, "body_coverage": 1.0,
    "person_area": 0.3, "face_share": 1.0, "face_area": 0.02, "face_sharpness": 500.0, "keypoint_confidence": 0.95, "pose_jump": 0.02,
    "occlusion": 0.0, "static_background": 0.1, "motion": 0.5, "exposure": 120.0, "clipped_share": 0.0, "black_bars": 0.0, "frames": 100,
    "short_side_px": 720, "reference_frames": [3, 9],
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(RULES))
def test_a_perfect_clip_meets_every_rule(name: str) -> None:
    assert broken_conditions(RULES[name], PERFECT) == {}


def test_each_condition_names_itself_its_value_and_its_threshold() -> None:
    for condition in CONDITIONS:
        rule = ScreeningRule(**{condition.field: 5 if condition.sense == "min" else 0.5})
        value: object = 0.25 if condition.sense == "min" else 0.75
        value = [1] if condition.column == "reference_frames" else value
        found = broken_conditions(rule, {**PERFECT, condition.column: value})
        assert condition.field in found
        assert condition.column in found[condition.field]
        assert ("under 5" if condition.sense == "min" else "over 0.5") in found[condition.field]
        switched_off = ScreeningRule(**{condition.field: None})
        assert condition.field not in broken_conditions(switched_off, {**PERFECT, condition.column: value})


def test_what_was_not_measured_is_not_met() -> None:
    found = broken_conditions(RULES["default"], {**PERFECT, "static_background": None, "person_counts": None})
    assert set(found) == {"max_background_change", "persons"}
    assert all("extract" in reason for reason in found.values())


def test_several_people_may_be_asked_for() -> None:
    two = {**PERFECT, "person_counts": [0, 1, 9, 0, 0, 0, 0, 0, 0], "persons": 1.9}
    assert "1 people in 10% of the frames" in broken_conditions(RULES["default"], two)["persons"]
    assert broken_conditions(ScreeningRule(persons=(2, 2)), two) == {}
    assert set(broken_conditions(ScreeningRule(persons=(2, 2)), PERFECT)) == {"persons"}
    assert broken_conditions(ScreeningRule(persons=None), two) == {}


def test_a_clip_that_could_not_be_scored_says_why() -> None:
    assert broken_conditions(RULES["default"], {"error": "decode_error", "reason": "frame 3"}) == {
        "error": "could not be scored: decode_error: frame 3"
    }


def test_a_rule_is_named_by_its_thresholds() -> None:
    assert ScreeningRule().label == ScreeningRule().label
    assert ScreeningRule().label != ScreeningRule(min_frames=9).label
    assert len({rule.label for rule in RULES.values()}) == len(RULES)
    assert rule_for("performers_dance") is RULES["performers"]
    assert rule_for("folder_videos") is RULES["default"]
    with pytest.raises(UserError, match="there are: default"):
        rule_named("nonsense")


@pytest.mark.parametrize("wrong", [{"persons": (2, 1)}, {"persons": (0, 9)}, {"max_duplicate_distance": 9}, {"min_persons_share": 0.0}])
def test_rules_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ScreeningRule(**wrong)  # type: ignore[arg-type]
