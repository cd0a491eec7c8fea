"""Metrics beyond whole frames: regions, neighbouring frames, embeddings, key points. Theorems and independent libraries."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from eval.metrics import METRICS
from eval.metrics.l1 import l1, l1_disco
from eval.metrics.psnr import psnr
from eval.metrics.similarity import cosines
from eval.metrics.ssim import gray, ssim
from eval.metrics.warping_error import occluded, pair_error, runs
from eval.round_trip import padded_to_square, through_gif, through_mp4
from eval.sides import Sides
from pipelines.clip import Frames
from pipelines.extractors.lpips import StandinLpips

T, H, W = 5, 40, 48


def noise(seed: int, frames: int = T) -> Frames:
    return np.random.default_rng(seed).integers(0, 256, (frames, H, W, 3), dtype=np.uint8)


def sides_of(prediction: Frames, truth: Frames, **more: Any) -> Sides:
    named = {"counted": list(range(1, len(truth))), "reference_frame": 0, "distance": lambda: StandinLpips().load("cpu", (-1.0, 1.0))}
    return Sides(prediction=prediction, truth=truth, **{**named, **more})


def box_masks(x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
    masks = np.zeros((T, H, W), bool)
    masks[:, y1:y2, x1:x2] = True
    return masks


# --- regions ---------------------------------------------------------------------------------------------------------


def test_a_region_that_is_the_frame_has_the_frames_values() -> None:
    sides = sides_of(noise(0), noise(1), regions={"face": np.ones((T, H, W), bool)})
    for name in ("l1", "psnr", "ssim", "lpips"):
        whole, part = METRICS[name].values(sides), METRICS[f"{name}_face"].values(sides)
        np.testing.assert_allclose(part, whole, rtol=1e-6 if name == "lpips" else 1e-12)
        assert np.isnan(part[0])
        assert np.isfinite(part[1:]).all()


def test_a_region_sees_only_itself() -> None:
    truth, prediction = noise(2), noise(2)
    prediction[:, :10] = 255 - prediction[:, :10]
    prediction[:, 30:, 20:] = noise(3)[:, 30:, 20:]
    regions = {"face": box_masks(5, 12, 30, 28), "background": box_masks(20, 30, W, H)}
    sides = sides_of(prediction, truth, regions=regions)
    assert (METRICS["l1_face"].values(sides)[1:] == 0).all()
    assert (METRICS["psnr_face"].values(sides)[1:] == 100).all()
    crop = (slice(1, None), slice(30, H), slice(20, W))
    np.testing.assert_allclose(METRICS["l1_background"].values(sides)[1:], l1(prediction[crop], truth[crop]), rtol=1e-12)
    np.testing.assert_allclose(METRICS["psnr_background"].values(sides)[1:], psnr(prediction[crop], truth[crop]), rtol=1e-12)
    for t in range(1, T):
        _, full = structural_similarity(gray(prediction[t]), gray(truth[t]), full=True)
        inside = regions["background"][t].copy()
        inside[:3] = inside[-3:] = False
        inside[:, :3] = inside[:, -3:] = False
        assert METRICS["ssim_background"].values(sides)[t] == pytest.approx(full[inside].mean(), abs=1e-12)
    assert METRICS["lpips_face"].values(sides)[1:].max() < METRICS["lpips_background"].values(sides)[1:].min()


def test_a_frame_without_the_region_has_no_value() -> None:
    masks = box_masks(4, 4, 20, 20)
    masks[2] = False
    sides = sides_of(noise(0), noise(1), regions={"hands": masks})
    for name in ("l1", "psnr", "ssim", "lpips"):
        np.testing.assert_array_equal(np.isnan(METRICS[f"{name}_hands"].values(sides)), [True, False, True, False, False])


def test_l1_of_the_disco_family_is_divided_by_the_pixels_twice() -> None:
    a, b = noise(0), noise(1)
    values = METRICS["l1"].values(sides_of(a, b, l1_over_pixels=True))
    np.testing.assert_array_equal(values[1:], l1_disco(a[1:], b[1:]))
    per_pixel = np.abs(a.astype(np.float64) - b).mean(axis=(1, 2, 3)) / (H * W)
    np.testing.assert_allclose(values[1:], per_pixel[1:], rtol=1e-14)


# --- neighbouring frames ---------------------------------------------------------------------------------------------


def test_flicker_of_equal_clips_is_zero_and_of_an_alternating_one_its_step() -> None:
    truth = np.full((T, H, W, 3), 100, np.uint8)
    assert np.nanmax(METRICS["flicker"].values(sides_of(truth, truth))) == 0
    blinking = truth + np.array([0, 6, 0, 6, 0], np.uint8)[:, None, None, None]
    values = METRICS["flicker"].values(sides_of(blinking, truth))
    np.testing.assert_array_equal(np.isnan(values), [True, False, False, False, True])
    assert set(values[1:4]) == {6.0}


def test_flicker_of_a_still_copy_is_the_true_motion() -> None:
    truth = noise(4)
    copy = np.repeat(truth[:1], T, axis=0)
    expected = np.abs(np.diff(truth.astype(np.int64), axis=0)).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(METRICS["flicker"].values(sides_of(copy, truth))[1:4], expected[1:4], rtol=1e-12)


def test_flicker_of_what_stands_still_leaves_motion_and_shadows_out() -> None:
    """A pixel that moves in the truth does not count, whatever is generated there; in the others it is the generated change alone."""
    truth = np.full((5, 8, 8, 3), 100, np.uint8)
    truth[:, :4] += (np.arange(5, dtype=np.uint8) * 20)[:, None, None, None]  # the upper half brightens
    truth[::2, 4:] += 10  # within what still means
    prediction = np.full((5, 8, 8, 3), 90, np.uint8)
    prediction[::2, :4] = 0
    prediction[::2, 4:] += 3
    np.testing.assert_array_equal(METRICS["flicker_still"].values(sides_of(prediction, truth))[1:4], 3.0)
    copy = np.repeat(truth[:1], 5, axis=0)
    assert np.nanmax(METRICS["flicker_still"].values(sides_of(copy, truth))) == 0
    truth[::2, 4:] += 1
    assert np.isnan(METRICS["flicker_still"].values(sides_of(prediction, truth))).all()


def test_background_flicker_leaves_the_person_out() -> None:
    truth, prediction = np.full((T, H, W, 3), 90, np.uint8), np.full((T, H, W, 3), 90, np.uint8)
    prediction[::2, 10:20, 10:20] = 250
    values = METRICS["flicker_background"].values(sides_of(prediction, truth, regions={"background": ~box_masks(10, 10, 20, 20)}))
    assert np.nanmax(values) == 0
    assert np.nanmin(METRICS["flicker"].values(sides_of(prediction, truth))) > 0


def test_runs_that_the_reference_interrupts_have_no_pair_across_it() -> None:
    sides = sides_of(noise(0), noise(1), counted=[0, 1, 3, 4])
    assert sides.pairs == [0, 3]
    assert np.isfinite(METRICS["flicker"].values(sides)).sum() == 2


def test_sharpness_of_the_hands() -> None:
    truth, boxes = noise(5), [[(4, 4, 24, 24)]] * 3 + [[], [(10, 10, 30, 36), (0, 0, 9, 9)]]
    soft = np.stack([cv2.GaussianBlur(frame, (5, 5), 1.5) for frame in truth])
    ratio, agreement = (METRICS[name].values(sides_of(soft, truth, hand_boxes=boxes)) for name in ("hand_sharpness", "blur_agreement"))
    np.testing.assert_array_equal(np.isnan(ratio), [True, False, False, True, False])
    assert np.nanmax(ratio) < 0.2
    np.testing.assert_allclose(agreement, ratio)
    swapped = sides_of(truth, soft, hand_boxes=boxes)
    np.testing.assert_allclose(METRICS["hand_sharpness"].values(swapped), 1 / ratio)
    np.testing.assert_allclose(METRICS["blur_agreement"].values(swapped), agreement)
    assert np.nanmin(METRICS["blur_agreement"].values(sides_of(truth, truth, hand_boxes=boxes))) == 1


# --- embeddings ------------------------------------------------------------------------------------------------------


def with_features(generated: Any, true: Any, **more: Any) -> Sides:
    held = {"prediction": dict(enumerate(generated)), "truth": dict(enumerate(true))}
    return sides_of(noise(0), noise(1), features=lambda role, side: held[side], **more)


def test_cosines_against_the_reference_and_from_frame_to_frame() -> None:
    rng = np.random.default_rng(0)
    generated, true = rng.normal(size=(T, 8)), rng.normal(size=(T, 8))
    generated[3] = 5 * true[0]
    values = METRICS["csim"].values(with_features(generated, true))
    assert values[3] == pytest.approx(1)
    assert values[1] == pytest.approx(generated[1] @ true[0] / np.linalg.norm(generated[1]) / np.linalg.norm(true[0]))
    assert np.isnan(values[0])
    still = METRICS["frame_consistency"].values(with_features(np.repeat(generated[:1], T, 0), true))
    np.testing.assert_allclose(still[1:4], 100)
    assert np.isnan(still[4])


def test_frames_without_a_face_are_left_out() -> None:
    generated: list[Any] = [np.ones(4)] * T
    generated[2] = np.zeros(0)
    values = METRICS["csim"].values(with_features(generated, [np.ones(4)] * T))
    np.testing.assert_array_equal(np.isnan(values), [True, False, True, False, False])
    assert np.isnan(METRICS["csim"].values(with_features(generated, [np.zeros(0)] * T))).all()
    assert np.isnan(METRICS["clip_i"].values(with_features(generated, generated, reference_frame=None))).all()
    assert np.isnan(cosines(np.zeros((1, 3)), np.ones((1, 3)))).all()


# --- key points ------------------------------------------------------------------------------------------------------


def points(joints: int, seed: int = 0) -> np.ndarray:
    xy = np.random.default_rng(seed).uniform(5, 35, (T, joints, 2))
    return np.concatenate([xy, np.ones((T, joints, 1))], axis=2)


def flat(one: np.ndarray) -> list[np.ndarray]:
    return list(one.reshape(T, -1))


def test_a_shifted_pose_has_the_shift_in_percent_of_the_height() -> None:
    true = points(133)
    true[:, 0, 1], true[:, 1, 1] = 0, 40  # 40 px high
    moved = true + np.array([3, 4, 0])
    np.testing.assert_allclose(METRICS["pose_error"].values(with_features(flat(moved), flat(true)))[1:], 100 * 5 / 40)
    moved[2, :, 2] = 0.1  # nobody seen
    assert np.isnan(METRICS["pose_error"].values(with_features(flat(moved), flat(true)))[2])


def test_akd_mkr_aed_as_pose_evaluation_defines_them() -> None:
    true = points(18)
    moved = true + np.array([2, -4, 0])
    moved[1, :3, 2] = 0
    np.testing.assert_allclose(METRICS["akd"].values(with_features(flat(moved), flat(true)))[1:], 3)  # mean of |2| and |-4|
    np.testing.assert_allclose(METRICS["mkr"].values(with_features(flat(moved), flat(true)))[1:], [3 / 18, 0, 0, 0])
    gone = [np.zeros(0)] * T
    assert np.isnan(METRICS["akd"].values(with_features(gone, flat(true)))).all()
    assert (METRICS["mkr"].values(with_features(gone, flat(true)))[1:] == 1).all()
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(T, 6)), rng.normal(size=(T, 6))
    np.testing.assert_allclose(METRICS["aed"].values(with_features(a, b))[1:], np.linalg.norm(a - b, axis=1)[1:] ** 2)


# --- warping ---------------------------------------------------------------------------------------------------------


def test_a_shifted_picture_with_its_own_flow_has_no_warping_error() -> None:
    wide = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (H, W + 8, 3), dtype=np.uint8), (0, 0), 2)
    first, second = (np.float32(part) / 255 for part in (wide[:, 4 : 4 + W], wide[:, :W]))  # everything moves 4 px to the right
    flow = np.zeros((2, H, W), np.float32)
    flow[0] = 4
    inside = pair_error(first[:, : W - 4], second[:, : W - 4], flow[..., : W - 4], -flow[..., : W - 4])
    still = pair_error(first, second, 0 * flow, 0 * flow)
    assert pair_error(first, first, 0 * flow, 0 * flow) == 0
    assert inside < 0.25 * still  # what is left lies at the right border, where the picture ends
    brighter = np.full((2, H, W, 3), 100 / 255, np.float32)
    brighter[1] = 110 / 255
    assert pair_error(*brighter, 0 * flow, 0 * flow) == pytest.approx(3 * (10 / 255) ** 2, rel=1e-6)  # summed over channels


def test_a_shift_of_less_than_a_pixel_is_sampled_where_it_is() -> None:
    ramp = np.repeat(np.linspace(0, 1, W, dtype=np.float32)[None, :, None], H, axis=0).repeat(3, axis=2)
    step = 1 / (W - 1)
    flow = np.zeros((2, H, W), np.float32)
    for shift in (0.01, 0.3, 2.7):
        flow[0] = shift
        inside = (slice(None), slice(0, W - 3))
        warped = pair_error(ramp[inside] + np.float32(shift * step), ramp[inside], flow[:, *inside], -flow[:, *inside])
        assert warped < 3 * (3 * step) ** 2 * 3 / W  # all of it lies in the last columns, where the picture ends
        assert pair_error(ramp[inside], ramp[inside], 0 * flow[:, *inside], 0 * flow[:, *inside]) == 0
    torch = pytest.importorskip("torch")
    image = np.random.default_rng(0).random((6, 7, 3)).astype(np.float32)
    away = np.random.default_rng(1).normal(scale=2, size=(2, 6, 7)).astype(np.float32)
    from eval.metrics.warping_error import _warped

    rows, columns = np.indices((6, 7), dtype=np.float64)
    grid = np.stack([2 * (columns + away[0]) / 6 - 1, 2 * (rows + away[1]) / 5 - 1], axis=-1)
    expected = torch.nn.functional.grid_sample(
        torch.from_numpy(image.transpose(2, 0, 1)[None].astype(np.float64)),
        torch.from_numpy(grid[None]),
        align_corners=True,
        padding_mode="border",
    )[0].numpy()
    np.testing.assert_allclose(_warped(image, away).transpose(2, 0, 1), expected, atol=1e-12)


def test_pixels_without_a_match_and_edges_of_motion_are_not_counted() -> None:
    flow = np.zeros((2, H, W), np.float32)
    flow[0] = 5
    assert not occluded(flow, -flow).any()  # back is the opposite
    assert occluded(flow, flow).all()
    edge = np.zeros((2, H, W), np.float32)
    edge[0, :, W // 2 :] = 5
    np.testing.assert_array_equal(np.flatnonzero(occluded(edge, -edge).any(axis=0)), [W // 2 - 1])
    assert np.isnan(pair_error(*(np.float32(noise(seed)[0]) / 255 for seed in (0, 1)), flow, flow))


def test_pairs_are_looked_at_in_runs() -> None:
    assert [*runs([1, 2, 3, 5, 6, 9], 8)] == [range(1, 4), range(5, 7), range(9, 10)]
    assert [*runs([*range(20)], 8)] == [range(8), range(8, 16), range(16, 20)]
    assert [*runs([], 8)] == []


def test_the_first_flow_leads_to_the_next_frame() -> None:
    """A picture that moves by a pixel a frame: with the flows in the wrong order nothing would match."""

    class Moving:
        step = 1.0

        def both_ways(self, frames: Frames) -> Any:
            there = np.zeros((len(frames) - 1, 2, H, W), np.float32)
            there[:, 0] = self.step
            return there, -there

        def images(self, frames: Frames) -> Any:
            return np.float32(frames.transpose(0, 3, 1, 2)) / 255

    class Backwards(Moving):
        step = -1.0

    prediction = np.stack([np.roll(noise(1)[0], t, axis=1) for t in range(6)])
    right, wrong = (METRICS["warping_error"].values(sides_of(prediction, noise(1), flow=way))[1:4] for way in (Moving, Backwards))
    assert (right < 0.25 * wrong).all()  # what remains is the border


def test_the_flow_network_sees_neighbours_once() -> None:
    seen = []

    class Still:
        def both_ways(self, frames: Frames) -> Any:
            seen.append(frames.copy())
            still = np.zeros((len(frames) - 1, 2, H // 2, W // 2), np.float32)
            return still, still

        def images(self, frames: Frames) -> Any:
            return np.float32(frames[:, ::2, ::2].transpose(0, 3, 1, 2)) / 255

    prediction = noise(6)
    values = METRICS["warping_error"].values(sides_of(prediction, noise(1), flow=Still))
    assert len(seen) == 1
    np.testing.assert_array_equal(seen[0], prediction[1:5])
    np.testing.assert_array_equal(np.isnan(values), [True, False, False, False, True])
    half = prediction[:, ::2, ::2] / 255
    np.testing.assert_allclose(values[1:4], 3 * ((half[2:] - half[1:-1]) ** 2).mean(axis=(1, 2, 3)), rtol=1e-5)


# --- lossy files -----------------------------------------------------------------------------------------------------


def test_a_gif_keeps_pictures_of_few_colours_and_an_mp4_keeps_the_length() -> None:
    flat_colours = np.repeat(np.repeat(noise(7)[:, ::8, ::8], 8, 1), 8, 2)
    np.testing.assert_array_equal(through_gif(flat_colours), flat_colours)
    assert len(np.unique(through_gif(noise(8))[0].reshape(-1, 3), axis=0)) <= 256
    back = through_mp4(flat_colours)
    assert back.shape == (T, 48, 48, 3)  # sides are multiples of 16
    wide = through_mp4(np.full((16, 64, 64, 3), 77, np.uint8))
    assert wide.shape == (16, 64, 64, 3)
    assert np.abs(wide.astype(int) - 77).max() <= 3


def test_padding_is_black_and_centred() -> None:
    padded = padded_to_square(np.full((2, 5, 8, 3), 9, np.uint8))
    assert padded.shape == (2, 8, 8, 3)
    np.testing.assert_array_equal(padded[0, :, 0, 0], [0, 9, 9, 9, 9, 9, 0, 0])


def test_ssim_of_the_whole_frame_did_not_change() -> None:
    a, b = noise(0), noise(1)
    expected = [structural_similarity(gray(p), gray(q)) for p, q in zip(a, b, strict=True)]
    np.testing.assert_allclose(ssim(a, b), expected, atol=1e-12)
