"""How performers move: feet that stand do not slide, nothing jerks, and each style is what its name says."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest

from pipelines.performers.actions import ACTIONS
from pipelines.performers.body import Proportions
from pipelines.performers.motion import STYLES, choreograph
from pipelines.performers.pose import INDEX, POSE, REST, Track
from pipelines.performers.skeleton import Skeleton, build_skeleton
from pipelines.performers.steps import landing_phase, place_feet, standing, steps_along
from pipelines.performers.timing import ease, full_pose, glide, keyed
from pipelines.performers.walk import gait

FPS = Fraction(24)
SEEDS = range(4)
BODY = ("wrist", "elbow", "knee", "ankle")
JUMPS = {"JumpingJack", "JumpRope"}
SOLE = 0.012  # height of the ball of a planted foot

Joints = dict[str, npt.NDArray[np.float64]]


def moved(style: str, motion: int, frames: int = 144) -> tuple[dict[str, Track], Skeleton]:
    pose, _ = choreograph(motion, frames, FPS, style=style)
    return pose, build_skeleton(Proportions(), pose)


def contact(joints: Joints, side: str) -> npt.NDArray[np.bool_]:
    """[T] the ball of the foot is on the floor, within 0.15 % of the body's height."""
    return np.asarray(joints[f"{side}_ball"][:, 1] < SOLE + 0.0015)


@pytest.mark.parametrize("style", STYLES)
def test_a_planted_foot_does_not_slide(style: str) -> None:
    for motion in SEEDS:
        joints = moved(style, motion)[1].joints
        for side in ("left", "right"):
            place, down = joints[f"{side}_ball"][:, [0, 2]], contact(joints, side)
            stretches = np.split(np.arange(len(down)), np.flatnonzero(np.diff(down.astype(int))) + 1)
            drift = [np.linalg.norm(place[s] - place[s[0]], axis=1).max() for s in stretches if down[s[0]]]
            assert max(drift) < 0.005  # of the body's height
            leg = np.linalg.norm(joints[f"{side}_ankle"] - joints[f"{side}_ball"], axis=1)
            assert np.ptp(leg) < 1e-9  # the leg reaches the foot where it stands


@pytest.mark.parametrize("style", STYLES)
def test_nobody_floats_or_sinks(style: str) -> None:
    for motion in SEEDS:
        joints = moved(style, motion)[1].joints
        soles = np.stack([joints[f"{side}_{part}"][:, 1] for side in ("left", "right") for part in ("heel", "ball")])
        assert soles.min() > 0.0
        airborne = soles.min(0) > SOLE + 0.004
        assert airborne.any() == (style in JUMPS)
        assert min(track[:, 1].min() for track in joints.values()) > -0.001


@pytest.mark.parametrize("style", STYLES)
def test_joints_move_at_human_speed_without_jerks(style: str) -> None:
    """In body heights (1.7 m) a second: a hand in a tennis swing reaches 8 m/s; trunk and head are far slower."""
    for motion in SEEDS:
        joints = moved(style, motion)[1].joints
        for name, track in joints.items():
            limb = name.endswith(BODY) or name.endswith(("heel", "toe", "ball"))
            velocity = np.diff(track, axis=0) * float(FPS)
            acceleration = np.diff(velocity, axis=0) * float(FPS)
            assert np.linalg.norm(velocity, axis=1).max() < (6.0 if limb else 1.7), name
            assert np.linalg.norm(acceleration, axis=1).max() < (75.0 if limb else 20.0), name


def test_a_walk_is_its_own_mirror_image_half_a_cycle_later() -> None:
    step, speed, lag = 0.5, 0.45, 12  # lag: frames of one step
    seconds = np.arange(0, 4, 1 / 24)

    def path(time: Track) -> tuple[Track, Track, Track]:
        return 0 * time, speed * time, 0 * time

    feet = place_feet(steps_along(path, -3.0, 8.0, step, 0.04), seconds, standing(path, -3.0, 0.04))
    pose = full_pose(len(seconds), gait(seconds, landing_phase(seconds, -3.0, step), np.ones(len(seconds))) | feet)
    pose[:, INDEX["forward"]] += speed * seconds
    joints = build_skeleton(Proportions(), {name: pose[:, i] for name, i in INDEX.items()}).joints
    for name, track in joints.items():
        other = name.replace("left", "?").replace("right", "left").replace("?", "right")
        mirrored = joints[other][:-lag] * (-1, 1, 1) + (0, 0, speed * step)
        np.testing.assert_allclose(track[lag:], mirrored, atol=1e-6, err_msg=name)
    swing = joints["left_ankle"][:, 2] - joints["right_ankle"][:, 2]
    arms = joints["left_wrist"][:, 2] - joints["right_wrist"][:, 2]
    assert np.corrcoef(swing, arms)[0, 1] < -0.8  # arms go opposite to legs
    height, apart = joints["pelvis"][:, 1], np.abs(swing) / np.abs(swing).max()
    assert height[apart < 0.2].mean() > height[apart > 0.9].mean() + 0.005  # the hips are highest over one leg


@pytest.mark.parametrize("style", STYLES)
def test_equal_seeds_give_equal_motion_and_a_shorter_clip_is_a_prefix(style: str) -> None:
    (long, blinks), (again, _), (short, fewer) = (choreograph(5, frames, FPS, style=style) for frames in (120, 120, 31))
    for name in POSE:
        np.testing.assert_array_equal(long[name], again[name])
        np.testing.assert_array_equal(long[name][:31], short[name])
    np.testing.assert_array_equal(blinks[:31], fewer)
    other, _ = choreograph(6, 120, FPS, style=style)
    assert max(np.abs(long[name] - other[name]).max() for name in POSE) > 0.05


@pytest.mark.parametrize("style", STYLES)
def test_the_frame_rate_does_not_change_the_motion(style: str) -> None:
    fine = build_skeleton(Proportions(), choreograph(2, 240, Fraction(120), style=style)[0]).joints
    for fps, apart in ((60, 0.02), (24, 0.06)):
        coarse = build_skeleton(Proportions(), choreograph(2, 2 * fps, Fraction(fps), style=style)[0]).joints
        for name, track in coarse.items():
            assert np.abs(track - fine[name][:: 120 // fps]).max() < apart, (fps, name)


@pytest.mark.parametrize("style", STYLES)
def test_a_very_low_frame_rate_is_no_reason_to_explode(style: str) -> None:
    for fps in (1, 3):
        joints = build_skeleton(Proportions(), choreograph(3, 20, Fraction(fps), style=style)[0]).joints
        assert max(np.abs(track).max() for track in joints.values()) < 2.5  # body heights from the middle


def test_an_unknown_style_lists_what_there_is() -> None:
    with pytest.raises(ValueError, match="no style 'ballet'; there are: dance, talk, fashion, BodyWeightSquats"):
        choreograph(0, 1, FPS, style="ballet")


def test_every_clip_begins_facing_the_camera_and_keeps_moving() -> None:
    for style in STYLES:
        for motion in SEEDS:
            pose, skeleton = moved(style, motion, 72)
            if style != "SalsaSpin":
                assert skeleton.chest[0, 2, 2] > 0.2, (style, motion)
            still = np.ptp(np.stack([pose[name][i : i + 24] for i in (0, 24, 48) for name in ("left_up", "shrug", "head_pitch")]), axis=1)
            assert still.max() > 0.001


def test_eyes_blink() -> None:
    _, closed = choreograph(3, 240, FPS, style="talk")
    assert closed.max() == 1
    assert 0.01 < (closed > 0.5).mean() < 0.2


def test_a_model_shows_front_side_and_back() -> None:
    for motion in SEEDS:
        pose, skeleton = moved("fashion", motion, 264)
        front = skeleton.pelvis[:, 2, 2]
        assert front.max() > 0.95
        assert front.min() < -0.95
        assert np.ptp(pose["yaw"]) > 2 * np.pi - 0.3
        assert np.ptp(pose["forward"]) > 0.1  # and walks
        on_hip = (np.abs(pose["left_up"] + 0.6) < 0.05) & (pose["left_elbow"] > 0.6)
        on_hip |= (np.abs(pose["right_up"] + 0.6) < 0.05) & (pose["right_elbow"] > 0.6)
        assert on_hip.sum() > 12


def test_a_speaker_speaks_gestures_and_nods() -> None:
    for motion in SEEDS:
        pose, skeleton = moved("talk", motion, 240)
        mouth = pose["mouth_open"]
        assert mouth.max() > 0.6
        assert (mouth < 0.05).sum() > 6  # pauses, and lips that meet
        syllables = (np.diff(np.sign(np.diff(mouth))) < 0).sum() / 10.0
        assert 2 < syllables < 7  # a second
        for side in ("left", "right"):
            assert np.ptp(skeleton.joints[f"{side}_wrist"], axis=0).max() > 0.12
        assert np.ptp(pose["head_pitch"]) > 0.04
        assert np.abs(pose["yaw"]).max() < 0.7  # keeps to the audience


def test_dances_step_and_turn() -> None:
    turned, stepped = [], []
    for motion in range(12):
        pose, skeleton = moved("dance", motion, 240)
        turned.append(np.ptp(pose["yaw"]) > 5)
        stepped.append(not contact(skeleton.joints, "left").all())
    assert 1 <= sum(turned) < 12
    assert sum(stepped) >= 10


def _features(style: str, motion: int) -> npt.NDArray[np.float64]:
    """How far and how fast each joint moves about the pelvis."""
    joints = moved(style, motion, 170)[1].joints
    tracks = [
        joints[name] - joints["pelvis"] * (1, 0, 1) for name in ("left_wrist", "right_wrist", "left_ankle", "right_ankle", "pelvis", "head")
    ]
    numbers = [(track.mean(0)[1], *track.std(0), np.linalg.norm(np.diff(track, axis=0), axis=1).mean() * 8) for track in tracks]
    return np.asarray(np.array(numbers).ravel())


def test_a_class_can_be_told_from_the_motion_alone() -> None:
    """Nearest class mean, over seeds that did not make the means."""
    means = {name: np.mean([_features(name, motion) for motion in (0, 1, 2)], 0) for name in ACTIONS}
    for name in ACTIONS:
        for motion in (10, 11):
            mine = _features(name, motion)
            assert min(means, key=lambda other: float(np.linalg.norm(means[other] - mine))) == name


def test_actions_do_what_they_are_called() -> None:
    assert len(ACTIONS) >= 8
    hips = {name: moved(name, 1, 170)[1].joints["pelvis"][:, 1] for name in ACTIONS}
    assert hips["BodyWeightSquats"].min() < hips["BodyWeightSquats"].max() - 0.14
    assert hips["Lunges"].min() < hips["Lunges"].max() - 0.1
    jack = moved("JumpingJack", 1, 60)[1].joints
    apart = np.linalg.norm(jack["left_ball"] - jack["right_ball"], axis=1)
    high = np.minimum(jack["left_wrist"][:, 1], jack["right_wrist"][:, 1])
    assert np.corrcoef(apart, high)[0, 1] > 0.8  # arms up when the feet are apart
    assert high.max() > jack["head"][:, 1].max()
    punch = moved("Punch", 1, 120)[0]
    assert np.corrcoef(punch["left_forward"], punch["right_forward"])[0, 1] < 0.2  # one fist at a time
    golf = moved("GolfSwing", 1, 120)[1].joints
    assert np.linalg.norm(golf["left_wrist"] - golf["right_wrist"], axis=1).max() < 0.09  # both hands on the grip
    spin = moved("SalsaSpin", 1, 120)[0]
    assert np.ptp(spin["yaw"]) > 2 * np.pi - 0.2


def test_easing_starts_and_ends_at_rest_and_keys_are_met() -> None:
    share = np.linspace(0, 1, 1001)
    value = ease(share)
    assert np.abs(np.diff(value)[[0, -1]]).max() < 1e-6
    np.testing.assert_allclose(value + value[::-1], 1, atol=1e-12)
    np.testing.assert_allclose(keyed(np.array([0.0, 0.25, 1.25, -0.75]), [(0.0, 1.0), (0.25, 3.0)], 1.0), [1, 3, 3, 3], atol=1e-12)
    np.testing.assert_allclose(glide(np.array([-1.0, 0.5, 9.0]), [-5, 0, 2], [1.0, 2.0, 4.0], 1.0), [1, 1.5, 4])
    assert set(REST) == set(POSE)
