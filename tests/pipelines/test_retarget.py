"""Retargeting: what must hold for any person, as theorems."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.keypoints import BODY, FACE, KEYPOINTS, LEFT_HAND, RIGHT_HAND, Points, Scores
from pipelines.retarget import RETARGETS, Retarget, retarget, retarget_limb, retarget_linear

ONES = np.ones(KEYPOINTS, np.float32)
LIMBS = ((5, 7), (7, 9), (6, 8), (8, 10), (11, 13), (13, 15), (12, 14), (14, 16), (0, 1), (1, 3), (0, 2), (2, 4))


def _person(seed: int = 0) -> Points:
    """A standing person of 200 px, hands and face as small clouds around wrists and nose."""
    body = [(0, 0), (5, -5), (-5, -5), (12, -2), (-12, -2), (30, 30), (-30, 30), (45, 65), (-45, 65), (50, 100),
            (-50, 100), (20, 105), (-20, 105), (22, 150), (-22, 150), (24, 195), (-24, 195)]  # fmt: skip
    feet = [(30, 205), (35, 203), (22, 200), (-30, 205), (-35, 203), (-22, 200)]
    cloud = np.random.default_rng(seed).uniform(-8, 8, (110, 2))
    cloud[68:89] += (52, 108)
    cloud[89:] += (-52, 108)
    return (np.concatenate([body, feet, cloud]) + np.array([200, 100])).astype(np.float32)


def _other() -> Points:
    """Somebody else in the same stance: broad shoulders, short torso, long legs, arms of another length."""
    other = _person(seed=1)
    other[:, 0] = 200 + (other[:, 0] - 200) * 1.3
    other[[13, 14, *range(15, 23)], 1] += 15
    other[[*range(15, 23)], 1] += 10
    return other * 0.7 + np.array([40, 20], np.float32)


def _swinging(frames: int = 6) -> Points:
    """The person walks to the right and swings the left arm from hanging to level, the hand with it."""
    moving = np.stack([_person()] * frames)
    for t, angle in enumerate(np.linspace(0, np.pi / 2, frames)):
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        arm = [7, 9, *range(KEYPOINTS)[LEFT_HAND]]
        moving[t, arm] = (moving[t, arm] - moving[t, 5]) @ turn.T + moving[t, 5]
        moving[t, :, 0] += 8 * t
    return moving.astype(np.float32)


def _dance() -> Points:
    """Three frames: the person, moved to the right, and with a raised left forearm."""
    frames = np.stack([_person()] * 3)
    frames[1] += (40, 0)
    frames[2, [9, *range(91, 112)]] += (10, -60)
    return frames


def _seen(points: Points) -> Scores:
    return np.ones(points.shape[:-1], np.float32)


def _limb(points: Points, a: int, b: int) -> float:
    return float(np.hypot(*(points[b] - points[a])))


def _angle(points: Points, a: int, b: int) -> float:
    dx, dy = points[b] - points[a]
    return float(np.arctan2(dy, dx))


# --- both ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", RETARGETS)
def test_the_same_person_in_the_same_pose_is_left_alone(kind: Retarget) -> None:
    still = np.stack([_person()] * 4)
    np.testing.assert_allclose(retarget(kind, still, _seen(still), _person(), ONES), still, atol=1e-3)


@pytest.mark.parametrize("kind", ["limb", "linear"])
def test_size_and_place_of_the_driving_clip_do_not_matter(kind: Retarget) -> None:
    plain = retarget(kind, _swinging(), _seen(_swinging()), _other(), ONES, heights=(400, 300))
    elsewhere = _swinging() * 2.5 + np.array([70, -30], np.float32)
    np.testing.assert_allclose(retarget(kind, elsewhere, _seen(elsewhere), _other(), ONES, heights=(1000, 300)), plain, atol=1e-2)


@pytest.mark.parametrize("kind", ["limb", "linear"])
def test_the_result_grows_and_moves_with_the_reference(kind: Retarget) -> None:
    plain = retarget(kind, _swinging(), _seen(_swinging()), _other(), ONES)
    larger = retarget(kind, _swinging(), _seen(_swinging()), _other() * 1.5 + 30, ONES)
    np.testing.assert_allclose(larger, plain * 1.5 + 30, atol=1e-2)


@pytest.mark.parametrize("kind", ["limb", "linear"])
@pytest.mark.parametrize("rubbish", [0.0, -1e6, np.nan])
def test_hidden_points_poison_nothing(kind: Retarget, rubbish: float) -> None:
    """Whatever the coordinates of a point that is not seen, the points that are seen come out the same."""
    scores = _seen(_swinging())
    scores[2, [5, 13]] = 0.3  # a shoulder (with it the neck) and a knee, in one frame
    scores[4:, [9, 10]] = 0.1
    scores[:, 15] = 0
    hidden = _swinging()
    hidden[scores <= 0.3] = rubbish
    reference, reference_scores = _other(), ONES.copy()
    reference_scores[[7, 16]] = 0.2
    reference[[7, 16]] = rubbish
    made = retarget(kind, hidden, scores, reference, reference_scores)
    honest = retarget(kind, _swinging(), scores, _other(), reference_scores)
    seen = scores > 0.3
    assert np.isfinite(made[seen]).all()
    np.testing.assert_allclose(made[seen], honest[seen], atol=1e-3)


@pytest.mark.parametrize("kind", ["limb", "linear"])
def test_nothing_in_common_is_an_error(kind: Retarget) -> None:
    with pytest.raises(ValueError, match="take a reference that shows more"):
        retarget(kind, _dance(), _seen(_dance()), _person(), ONES * 0)


@pytest.mark.parametrize("kind", ["limb", "linear"])
def test_unseen_frames_stay_unseen_and_harm_no_other(kind: Retarget) -> None:
    """Detectors give zeros, points and scores, where they lose the person."""
    driving, scores = np.zeros((3, KEYPOINTS, 2), np.float32), np.zeros((3, KEYPOINTS), np.float32)
    driving[1], scores[1] = _person(), 1
    made = retarget(kind, driving, scores, _person() + 10, ONES)
    np.testing.assert_allclose(made[1], _person() + 10, atol=1e-3)


def test_none_gives_the_very_points() -> None:
    assert retarget("none", _dance(), _seen(_dance()), _other(), ONES * 0) is not None
    np.testing.assert_array_equal(retarget("none", _dance(), _seen(_dance()), _other(), ONES), _dance())


# --- limb ------------------------------------------------------------------------------------------------------------


def test_limbs_have_the_lengths_of_the_reference_in_every_frame() -> None:
    moved = retarget_limb(_swinging(), _seen(_swinging()), _other(), ONES)
    for a, b in LIMBS:
        for frame in moved:
            assert _limb(frame, a, b) == pytest.approx(_limb(_other(), a, b), rel=1e-3)


def test_limbs_keep_their_angles() -> None:
    driving = _swinging()
    moved = retarget_limb(driving, _seen(driving), _other(), ONES)
    for a, b in LIMBS:
        for before, after in zip(driving, moved, strict=True):
            assert np.sin(_angle(after, a, b) - _angle(before, a, b)) == pytest.approx(0, abs=1e-3)
            assert np.cos(_angle(after, a, b) - _angle(before, a, b)) > 0


def test_shoulders_hips_and_torso_are_those_of_the_reference() -> None:
    moved = retarget_limb(_swinging(), _seen(_swinging()), _other(), ONES)[0]
    for a, b in ((5, 6), (11, 12)):
        assert _limb(moved, a, b) == pytest.approx(_limb(_other(), a, b), rel=1e-3)
    torso = [float(np.hypot(*(pose[[11, 12]].mean(axis=0) - pose[[5, 6]].mean(axis=0)))) for pose in (moved, _other())]
    assert torso[0] == pytest.approx(torso[1], rel=1e-3)


def test_hands_and_face_follow_rigidly() -> None:
    driving = _swinging()
    moved = retarget_limb(driving, _seen(driving), _other(), ONES)
    torso = (_other()[11:13].mean(axis=0) - _other()[5:7].mean(axis=0))[1] / (_person()[11:13].mean(axis=0) - _person()[5:7].mean(axis=0))[
        1
    ]
    for part, root in ((LEFT_HAND, 9), (RIGHT_HAND, 10), (FACE, 0), (slice(17, 20), 15), (slice(20, 23), 16)):
        before = driving[:, part] - driving[:, root, None]
        np.testing.assert_allclose(moved[:, part] - moved[:, root, None], before * torso, atol=1e-2)


def test_somebody_who_stands_as_the_reference_stands_on_the_same_floor() -> None:
    """The stance of k0 is the reference's, so its ankles are too; walking sideways on a level floor stays level."""
    moved = retarget_limb(_swinging(), _seen(_swinging()), _other(), ONES)
    np.testing.assert_allclose(moved[:, [15, 16], 1], np.broadcast_to(_other()[[15, 16], 1], (6, 2)), atol=0.5)
    steps = np.diff(moved[:, 15, 0])
    np.testing.assert_allclose(steps, steps[0], atol=1e-3)  # the feet do not slide against the body


def test_root_motion_is_scaled_with_the_torso() -> None:
    tall = _person() * 2
    moved = retarget_limb(_dance(), _seen(_dance()), tall, ONES)
    np.testing.assert_allclose(moved[1] - moved[0], np.broadcast_to([80.0, 0.0], (KEYPOINTS, 2)), atol=1e-2)


def test_a_longer_limb_is_longer_wherever_it_points() -> None:
    reference = _person()
    reference[[9, *range(91, 112)]] += 0.6 * (reference[9] - reference[7])  # a longer left forearm
    moved = retarget_limb(_dance(), _seen(_dance()), reference, ONES)
    assert _limb(moved[2], 7, 9) / _limb(_dance()[2], 7, 9) == pytest.approx(1.6, rel=1e-4)
    np.testing.assert_allclose(moved[2, 91] - moved[2, 9], _dance()[2, 91] - _dance()[2, 9], atol=1e-3)  # the hand follows


def test_ratios_are_clamped() -> None:
    reference = _person()
    reference[9] = reference[7] + 10 * (reference[9] - reference[7])
    moved = retarget_limb(_dance(), _seen(_dance()), reference, ONES)
    assert _limb(moved[0], 7, 9) == pytest.approx(2 * _limb(_person(), 7, 9), rel=1e-4)


def test_an_unseen_bone_takes_the_ratio_of_its_mirror() -> None:
    reference = _person()
    reference[10] += 0.5 * (reference[10] - reference[8])
    scores = ONES.copy()
    scores[9] = 0
    moved = retarget_limb(_dance(), _seen(_dance()), reference, scores)
    assert _limb(moved[0], 7, 9) == pytest.approx(1.5 * _limb(_person(), 7, 9), rel=1e-4)


def test_a_hand_moves_with_its_arm_while_the_elbow_is_hidden() -> None:
    reference = _person()
    reference[[9, *range(91, 112)]] += 0.6 * (reference[9] - reference[7])
    driving = np.stack([_person()] * 3)
    scores = _seen(driving)
    scores[1, 7] = 0
    moved = retarget_limb(driving, scores, reference, ONES)
    np.testing.assert_allclose(moved[1, [9, 91]], moved[0, [9, 91]], atol=1e-3)


def test_a_sideways_reference_does_not_flatten_the_person() -> None:
    reference = _person()
    reference[:, 0] = 200 + (reference[:, 0] - 200) * 0.05
    moved = retarget_limb(_dance()[:1], ONES[None], reference, ONES)
    # sx is clamped to half of sy; then the shoulders' own bone ratio (at least 0.5) applies
    assert np.ptp(moved[0, [5, 6], 0]) >= 0.25 * np.ptp(_person()[[5, 6], 0]) - 1e-3


def test_a_portrait_is_measured_by_what_it_shows() -> None:
    """Only the head is seen: its bones give the scale, and it lands on the reference's head."""
    scores = ONES * 0
    scores[[0, 1, 2, 3, 4]] = 1
    moved = retarget_limb(_dance()[:1], ONES[None], _person() * 3, scores)
    assert _limb(moved[0], 1, 3) == pytest.approx(3 * _limb(_person(), 1, 3), rel=1e-3)
    np.testing.assert_allclose(moved[0, :5].mean(axis=0), (_person() * 3)[:5].mean(axis=0), atol=1e-2)


# --- linear ----------------------------------------------------------------------------------------------------------


def test_linear_is_one_scale_and_offset() -> None:
    moved = retarget_linear(_swinging(), _seen(_swinging()), _other(), ONES)
    before, after = _swinging().reshape(-1, 2), moved.reshape(-1, 2)
    scale = np.ptp(after[:, 1]) / np.ptp(before[:, 1])
    np.testing.assert_allclose(after - before * scale, np.broadcast_to((after - before * scale)[0], after.shape), atol=1e-2)


def test_linear_is_the_least_squares_fit_of_numpy() -> None:
    """Oracle: polyfit over what MimicMotion fits, when everything is seen."""
    driving, fitted = _swinging(), [0, 6, 5, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3]

    def with_neck(points: Points) -> Points:
        return np.concatenate([points[..., fitted, :], points[..., 5:7, :].mean(axis=-2, keepdims=True)], axis=-2)

    source, goal = with_neck(driving), np.stack([with_neck(_other())] * len(driving))
    slope, offset = np.polyfit(source[..., 1].ravel(), goal[..., 1].ravel(), 1)
    across = float((goal[..., 0] - slope * source[..., 0]).mean())
    moved = retarget_linear(driving, _seen(driving), _other(), ONES)
    np.testing.assert_allclose(moved, driving * slope + [across, offset], atol=1e-2)


def test_a_slope_that_makes_no_sense_gives_way_to_the_ratio_of_heights() -> None:
    """Half a body upside down: least squares would mirror it."""
    reference = _person() * 0.5
    reference[:, 1] = 300 - reference[:, 1]
    moved = retarget_linear(_dance(), _seen(_dance()), reference, ONES)
    assert np.ptp(moved[0, BODY, 1]) == pytest.approx(np.ptp(reference[BODY, 1]), rel=1e-3)
    assert moved[0, 15, 1] > moved[0, 0, 1]  # still on their feet


def test_one_joint_in_common_keeps_the_share_of_the_picture() -> None:
    scores = ONES * 0
    scores[0] = 1
    moved = retarget_linear(_dance()[:1], ONES[None], _person(), scores, heights=(400, 200))
    np.testing.assert_allclose(moved[0, 0], _person()[0], atol=1e-3)
    assert np.ptp(moved[0, :, 1]) == pytest.approx(np.ptp(_person()[:, 1]) / 2, rel=1e-3)
