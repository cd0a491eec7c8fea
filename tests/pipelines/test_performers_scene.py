"""How performers are filmed: motion blur, framing, aspect and other people in the scene."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pipelines.performers import UPPER_BODY, Bystander, Framing, Performance, Truth, perform


@pytest.fixture(scope="module")
def clip() -> Performance:
    return perform(3, 7, frames=12)


def _inner(mask: npt.NDArray[np.bool_], margin: int = 2) -> npt.NDArray[np.bool_]:
    import cv2

    return np.asarray(cv2.erode(mask.astype(np.uint8), np.ones((2 * margin + 1,) * 2, np.uint8)) > 0)


def test_blur_keeps_the_mean_and_softens_hands(clip: Performance) -> None:
    blurred = perform(3, 7, frames=12, blur=0.8)
    np.testing.assert_allclose(blurred.frames.mean((1, 2, 3)), clip.frames.mean((1, 2, 3)), atol=0.6)
    assert blurred.truth.hand_sharpness.mean() < clip.truth.hand_sharpness.mean()
    for field in fields(Truth):
        if field.name != "hand_sharpness":  # the middle of the shutter's time is the sharp frame
            np.testing.assert_array_equal(getattr(blurred.truth, field.name), getattr(clip.truth, field.name))
    still = _inner(~np.any(clip.truth.mask, axis=0), 6)
    still[100:] = False
    np.testing.assert_array_equal(blurred.frames[:, still], clip.frames[:, still])


def test_a_blurred_shorter_clip_is_a_prefix() -> None:
    first, longer = (perform(5, 5, frames=frames, size=64, blur=0.5) for frames in (3, 6))
    np.testing.assert_array_equal(first.frames, longer.frames[:3])


def test_somebody_in_front_hides_the_main_person() -> None:
    alone = perform(2005, 3, frames=4).truth
    crossed = perform(2005, 3, frames=4, others=[Bystander(identity=2006, motion=8, offset=0.1, scale=1.1)]).truth
    np.testing.assert_array_equal(alone.keypoints, crossed.keypoints)
    assert (crossed.mask <= alone.mask).all()
    assert crossed.mask.sum() < 0.9 * alone.mask.sum()
    assert (crossed.scores <= alone.scores).all()
    assert (crossed.scores < alone.scores).any()
    assert crossed.persons.tolist() == [2] * 4
    assert alone.persons.tolist() == [1] * 4
    hidden = alone.mask & ~crossed.mask
    assert (crossed.depth[hidden] < alone.depth[hidden]).mean() > 0.97  # what hides is nearer


def test_somebody_behind_changes_nothing_of_the_main_persons_planes() -> None:
    alone, other = perform(2005, 3, frames=3), Bystander(identity=2006, motion=8, offset=-0.25, scale=0.85)
    together = perform(2005, 3, frames=3, others=[other])
    for name in ("mask", "labels", "iuv", "scores", "keypoints"):
        np.testing.assert_array_equal(getattr(alone.truth, name), getattr(together.truth, name))
    assert (alone.frames != together.frames).any()
    behind = np.isfinite(together.truth.depth) & ~together.truth.mask
    assert behind.sum() > 500
    assert together.truth.depth[behind].min() > 0.5


def test_upper_body_framing_shows_hips_up_and_a_larger_face() -> None:
    full, upper = (perform(2007, 2, frames=2, framing=framing).truth for framing in (Framing(), UPPER_BODY))
    assert np.ptp(upper.face_box[0, 1::2]) > 1.7 * np.ptp(full.face_box[0, 1::2])
    assert (upper.scores[:, 15:23] == 0).all()  # ankles and feet are outside
    assert (upper.scores[:, [0, 5, 6]] > 0).all()
    assert (upper.keypoints[:, 11:13, 1] > 100).all()
    assert upper.mask[:, -1].any()
    assert (upper.face_box[:, 1] > 0).all()


@pytest.mark.parametrize("size", [(96, 64), (64, 160), (256, 192)])
def test_frames_of_any_aspect(size: tuple[int, int]) -> None:
    performance = perform(2008, 2, frames=2, size=size)
    assert performance.frames.shape == (2, *size, 3)
    assert performance.truth.iuv.shape == (2, *size, 3)
    assert performance.truth.flow.shape == (1, *size, 2)
    square = perform(2008, 2, frames=2, size=size[0]).truth
    shift = np.array([(size[1] - size[0]) / 2, 0])
    np.testing.assert_allclose(performance.truth.keypoints, square.keypoints + shift, atol=1e-3)


def test_equal_arguments_give_equal_frames_and_truth() -> None:
    arguments: dict[str, Any] = {
        "frames": 3, "size": (96, 128), "blur": 0.5, "framing": UPPER_BODY, "background": 3,
        "others": [Bystander(identity=4, motion=9, offset=0.3)],
    }  # fmt: skip
    first, second = (perform(2012, 6, **arguments) for _ in range(2))
    np.testing.assert_array_equal(first.frames, second.frames)
    for field in fields(Truth):
        np.testing.assert_array_equal(getattr(first.truth, field.name), getattr(second.truth, field.name))


@pytest.mark.parametrize(
    "wrong", [{"blur": 1.5}, {"size": (128, 63)}, {"size": 2048}, {"others": [Bystander(identity=-1, motion=0, offset=0)]}]
)
def test_what_cannot_be_filmed_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        perform(0, 0, frames=1, **wrong)
