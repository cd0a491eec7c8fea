"""Pixel metrics: exact, and equal to the field's own code."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from eval.metrics import METRICS
from eval.metrics.fvd import cut_windows
from eval.metrics.l1 import l1, l1_disco
from eval.metrics.psnr import psnr
from eval.metrics.psnr_overflow import FLOOR_DB, psnr_overflow
from eval.metrics.ssim import gray, ssim
from eval.uncertainty import bootstrap_ratio

SIZES = [(7, 7), (32, 48), (97, 65)]


def _pair(height: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    truth = cv2.GaussianBlur(generator.integers(0, 256, (height, width, 3), dtype=np.uint8), (0, 0), 2)
    noise = generator.normal(0, 25, truth.shape)
    return np.clip(truth + noise, 0, 255).astype(np.uint8)[None], truth[None]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_ssim_equals_scikit_image(height: int, width: int) -> None:
    prediction, truth = _pair(height, width)
    expected = structural_similarity(gray(prediction[0]), gray(truth[0]))
    assert ssim(prediction, truth)[0] == pytest.approx(expected, abs=1e-12)


def test_ssim_equals_scikit_image_at_the_extremes() -> None:
    black, white = np.zeros((1, 16, 16, 3), np.uint8), np.full((1, 16, 16, 3), 255, np.uint8)
    assert ssim(black, white)[0] == pytest.approx(structural_similarity(black[0, ..., 0], white[0, ..., 0]), abs=1e-12)
    assert ssim(white, white)[0] == 1.0


def test_gray_equals_opencv_for_every_corner_and_many_colours() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    np.testing.assert_array_equal(gray(colours), cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY))


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_l1_and_psnr_equal_plain_float_arithmetic(height: int, width: int) -> None:
    prediction, truth = _pair(height, width)
    difference = prediction[0].astype(np.float64) - truth[0]
    assert l1(prediction, truth)[0] == pytest.approx(np.abs(difference).mean() / 255, rel=1e-14)
    assert l1_disco(prediction, truth)[0] == pytest.approx((np.abs(difference) / (height * width)).mean(), rel=1e-12)
    assert psnr(prediction, truth)[0] == pytest.approx(20 * np.log10(255 / np.sqrt((difference**2).mean())), rel=1e-13)


def test_overflow_psnr_equals_uint8_arithmetic() -> None:
    prediction, truth = _pair(40, 40)
    wrapped = ((prediction[0] - truth[0]) ** 2).astype(np.uint8)  # what DisCo's code did
    assert psnr_overflow(prediction, truth)[0] == pytest.approx(20 * np.log10(255 / np.sqrt(wrapped.mean())), rel=1e-13)


def test_overflow_psnr_never_goes_under_its_floor() -> None:
    """For every difference that two pixels can have, and for random frames."""
    assert pytest.approx(24.168, abs=1e-3) == FLOOR_DB
    for difference in range(256):
        prediction, truth = np.full((1, 8, 8, 3), difference, np.uint8), np.zeros((1, 8, 8, 3), np.uint8)
        assert psnr_overflow(prediction, truth)[0] >= FLOOR_DB - 1e-12
    generator = np.random.default_rng(1)
    noise = generator.integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    assert FLOOR_DB < psnr_overflow(noise[:1], noise[1:])[0] < 30
    assert psnr(noise[:1], noise[1:])[0] < 10


@pytest.mark.parametrize("metric", [m for m in METRICS.values() if m.per_frame], ids=lambda m: m.id)
def test_equal_frames_are_perfect_and_damage_costs(metric: object) -> None:
    prediction, truth = _pair(32, 32)
    perfect = {"l1": 0.0, "psnr": 100.0, "psnr_overflow": 100.0, "ssim": 1.0}[metric.id]  # type: ignore[attr-defined]
    assert metric.per_frame(truth, truth)[0] == perfect  # type: ignore[attr-defined]
    value = metric.per_frame(prediction, truth)[0]  # type: ignore[attr-defined]
    assert value < perfect if metric.better == "up" else value > perfect  # type: ignore[attr-defined]
    assert metric.low <= value <= metric.high  # type: ignore[attr-defined]


@pytest.mark.parametrize("metric", [m for m in METRICS.values() if m.per_frame], ids=lambda m: m.id)
def test_frames_are_independent(metric: object) -> None:
    pairs = [_pair(16, 16, seed) for seed in range(3)]
    together = metric.per_frame(*(np.concatenate(side) for side in zip(*pairs, strict=True)))  # type: ignore[attr-defined]
    np.testing.assert_array_equal(together, [metric.per_frame(*pair)[0] for pair in pairs])  # type: ignore[attr-defined]


def test_metrics_refuse_what_is_no_pair_of_frames() -> None:
    good = np.zeros((2, 8, 8, 3), np.uint8)
    for bad in (good[:1], good.astype(np.float32), good[..., 0], np.zeros((2, 8, 8, 4), np.uint8), good[:0]):
        with pytest.raises(ValueError, match="must"):
            psnr(bad, good)
    with pytest.raises(ValueError, match="7x7"):
        ssim(good[:, :6], good[:, :6])


def test_windows_are_cut_where_they_start() -> None:
    frames = np.arange(10, dtype=np.uint8)[:, None, None, None].repeat(3, -1)
    np.testing.assert_array_equal(cut_windows(frames, [1, 5], 4)[:, :, 0, 0, 0], [[1, 2, 3, 4], [5, 6, 7, 8]])
    with pytest.raises(ValueError, match="do not fit"):
        cut_windows(frames, [7], 4)


def test_bootstrap_holds_the_estimate_and_is_repeatable() -> None:
    sums, counts = np.array([1.0, 4.0, 2.0, 8.0, 3.0]), np.array([2, 5, 2, 6, 4])
    low, high = bootstrap_ratio(sums, counts) or (0, 0)
    assert low < sums.sum() / counts.sum() < high
    assert (low, high) == bootstrap_ratio(sums, counts)
    assert bootstrap_ratio([1.0], [2]) is None
    assert bootstrap_ratio([2.0, 4.0, 6.0], [1, 2, 3]) == (2.0, 2.0)


def test_bootstrap_covers_the_truth() -> None:
    generator, hits = np.random.default_rng(0), 0
    for _ in range(60):
        sums = generator.normal(5, 1, 40)
        low, high = bootstrap_ratio(sums, np.ones(40)) or (0, 0)
        hits += low <= 5 <= high
    assert hits >= 52  # 95 % of 60 is 57; 52 is four standard deviations of luck


def test_ssim_and_psnr_on_real_frames(media: Path) -> None:
    pictures = sorted((media / "images").rglob("*.jpg"))[:4]
    if not pictures:
        pytest.skip("no pictures in the test media")
    for path in pictures:
        truth = cv2.imread(str(path))[..., ::-1].copy()[None]
        prediction = cv2.GaussianBlur(truth[0], (0, 0), 1.5)[None]
        assert ssim(prediction, truth)[0] == pytest.approx(structural_similarity(gray(prediction[0]), gray(truth[0])), abs=1e-12)
        assert psnr(prediction, truth)[0] == pytest.approx(cv2.PSNR(prediction[0], truth[0]), abs=1e-9)
