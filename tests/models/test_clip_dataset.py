"""Clips as tensors: geometry is applied to pixels and points alike, and a batch depends on nothing but its number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.clip_dataset import (
    ClipStore,
    PoseStyle,
    TrainingClip,
    centre_box,
    draw_pairs,
    draw_poses,
    draw_windows,
    fit_frames,
    fit_points,
    random_box,
    to_frames,
    to_signed,
    to_unit,
)
from models.latents import LatentCodec
from pipelines.clip import Clip


def _dot(height: int, width: int, x: int, y: int) -> np.ndarray:
    image = np.zeros((1, height, width, 3), np.uint8)
    image[0, y - 2 : y + 3, x - 2 : x + 3] = 255
    return image


@pytest.mark.parametrize(("height", "width", "size"), [(48, 48, (32, 32)), (60, 100, (32, 32)), (100, 60, (64, 48)), (40, 40, (80, 80))])
def test_points_stay_on_the_pixels_they_mark(height: int, width: int, size: tuple[int, int]) -> None:
    x, y = width // 2 + 3, height // 2 - 4
    for box in (centre_box(width, height, size), random_box(width, height, size, np.random.default_rng(0))):
        bright = fit_frames(_dot(height, width, x, y), box, size)[0, ..., 0].astype(float)
        assert bright.shape == size
        rows, columns = np.indices(bright.shape)
        found = np.array([(columns * bright).sum(), (rows * bright).sum()]) / bright.sum()
        np.testing.assert_allclose(fit_points(np.array([x, y], np.float32), box, size), found, atol=0.35)


def test_a_random_box_lies_in_the_centred_one_and_keeps_its_aspect() -> None:
    left, top, width, height = centre_box(100, 60, (32, 48))
    rng = np.random.default_rng(0)
    for _ in range(50):
        x, y, w, h = random_box(100, 60, (32, 48), rng)
        assert left <= x <= x + w <= left + width + 1e-6
        assert top <= y <= y + h <= top + height + 1e-6
        assert w / h == pytest.approx(48 / 32)
        assert 0.9 <= w / width <= 1


def test_pixel_ranges_go_there_and_back() -> None:
    frames = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=-1)
    np.testing.assert_array_equal(to_frames(to_signed(frames)), frames)
    assert (to_signed(frames).min(), to_signed(frames).max()) == (-1, 1)
    assert (to_unit(frames).min(), to_unit(frames).max()) == (0, 1)


def test_pairs_are_far_apart_in_one_video(make_clip: Callable[..., TrainingClip]) -> None:
    clips = [make_clip("long", frames=20), make_clip("short", frames=4)]
    rng = np.random.default_rng(0)
    seen = set()
    for index, reference, targets in draw_pairs(clips, 300, 2, rng, distance=8):
        frames = clips[index].clip.num_frames
        seen.add(index)
        assert reference in clips[index].references
        assert all(0 <= target < frames for target in targets)
        if index == 0:
            assert all(abs(target - reference) >= 8 for target in targets)
    assert seen == {0, 1}


def test_references_are_eligible_frames_only(make_clip: Callable[..., TrainingClip]) -> None:
    whole = make_clip("picky")
    clip = TrainingClip(clip=whole.clip, keypoints=whole.keypoints, scores=whole.scores, references=(5, 7))
    rng = np.random.default_rng(0)
    drawn = [reference for _, reference, _ in [*draw_pairs([clip], 50, 1, rng, 3), *draw_windows([clip], 50, 4, 1, rng)]]
    assert set(drawn) == {5, 7}


@pytest.mark.parametrize(("length", "stride"), [(4, 1), (4, 2), (4, 9), (12, 1), (16, 4)])
def test_windows_are_evenly_spaced_inside_the_clip(clips: list[TrainingClip], length: int, stride: int) -> None:
    starts = set()
    for _, _, targets in draw_windows(clips, 100, length, stride, np.random.default_rng(0)):
        steps = np.diff(targets)
        assert len(targets) == length
        assert 0 <= targets[0] <= targets[-1] < 12
        if (length - 1) * stride < 12:
            assert set(steps) == {stride}
        else:
            assert set(steps) <= {(11 // (length - 1)), 11 // (length - 1) + 1}  # closer, because the clip is short
        starts.add(targets[0])
    assert len(starts) == 12 - min((length - 1) * stride, 11)  # every place that fits is used


def test_a_batch_depends_on_its_draw_alone(clips: list[TrainingClip], codec: LatentCodec) -> None:
    chosen = [(0, 2, [5, 9]), (1, 0, [11, 3])]
    first = ClipStore(clips, (32, 32), codec).batch(chosen, np.random.default_rng(0))
    store = ClipStore(clips, (32, 32), codec)
    store.batch([(1, 1, [1, 1])], np.random.default_rng(7))  # warm cache, other generator
    second = store.batch(chosen, np.random.default_rng(8))
    for name in ("reference_image", "reference_latent", "latents", "pose"):
        assert torch.equal(getattr(first, name), getattr(second, name))
    assert first.latents.shape == (2, 2, 16, 8, 8)
    assert first.pose.shape == (4, 3, 32, 32)
    assert not torch.equal(first.pose[0], first.pose[1])


def test_one_crop_serves_target_pose_and_reference(clips: list[TrainingClip], codec: LatentCodec) -> None:
    """With the target equal to the reference, an augmented batch must show the same picture twice."""
    store = ClipStore(clips, (32, 32), codec, augment=True)
    batches = [store.batch([(0, 4, [4])], np.random.default_rng(seed)) for seed in (0, 0, 1)]
    for batch in batches:
        torch.testing.assert_close(batch.reference_latent, batch.latents[:, 0], rtol=0, atol=0)
    assert torch.equal(batches[0].latents, batches[1].latents)
    assert not torch.equal(batches[0].latents, batches[2].latents)
    assert not torch.equal(batches[0].pose, batches[2].pose)


def test_poses_must_match_the_frames(clips: list[TrainingClip]) -> None:
    with pytest.raises(ValueError, match="11 poses for 12 frames"):
        TrainingClip(clip=clips[0].clip, keypoints=clips[0].keypoints[:11], scores=clips[0].scores[:11], references=(0,))


def test_kept_latents_are_those_that_were_encoded(clips: list[TrainingClip], codec: LatentCodec, tmp_path: Path) -> None:
    """Bit for bit, or a resumed run would not give the loss of an undisturbed one."""
    chosen, rng = [(0, 2, [5, 9])], np.random.default_rng(0)
    plain = ClipStore(clips, (32, 32), codec).batch(chosen, rng)
    for _ in range(2):  # written, then read
        kept = ClipStore(clips, (32, 32), codec, cache=tmp_path / "latents").batch(chosen, rng)
        assert torch.equal(kept.latents, plain.latents)
        assert torch.equal(kept.reference_latent, plain.reference_latent)
    assert [path.name for path in (tmp_path / "latents").iterdir()] == ["red-32x32.safetensors"]


def test_an_augmented_store_keeps_nothing(clips: list[TrainingClip], codec: LatentCodec, tmp_path: Path) -> None:
    ClipStore(clips, (32, 32), codec, augment=True, cache=tmp_path / "latents").batch([(0, 0, [1])], np.random.default_rng(0))
    assert not (tmp_path / "latents").exists()


def test_a_single_target_is_always_as_far_as_the_clip_allows(make_clip: Callable[..., TrainingClip]) -> None:
    clip, rng = make_clip("brief", frames=9), np.random.default_rng(0)
    for _, reference, (target,) in draw_pairs([clip], 300, 1, rng, distance=30):
        assert abs(target - reference) == max(reference, 8 - reference)


def test_draws_depend_on_the_generator_alone(clips: list[TrainingClip]) -> None:
    for draw in (lambda rng: draw_pairs(clips, 4, 2, rng, 3), lambda rng: draw_windows(clips, 4, 5, 2, rng)):
        assert draw(np.random.default_rng([7, 3])) == draw(np.random.default_rng([7, 3]))
        assert draw(np.random.default_rng([7, 3])) != draw(np.random.default_rng([7, 4]))


def test_a_reference_outside_of_the_window_is_none_of_its_frames(clips: list[TrainingClip]) -> None:
    rng = np.random.default_rng(0)
    for _, reference, targets in draw_windows(clips, 100, 5, 2, rng, outside=True):
        assert reference not in targets
    for _, reference, targets in draw_windows(clips, 20, 12, 1, rng, outside=True):  # every frame is in the window
        assert reference in targets


def test_poses_are_drawn_in_the_style_of_the_store(clips: list[TrainingClip], codec: LatentCodec) -> None:
    faint = replace(clips[0], scores=np.full((12, 133), 0.5, np.float32))
    plain, bare = PoseStyle(style="confidence"), PoseStyle(face=False, hands=False)
    shown = [
        ClipStore([faint], (32, 32), codec, pose_style=style).batch([(0, 0, [3])], np.random.default_rng(0)) for style in (plain, bare)
    ]
    points = fit_points(faint.keypoints[[3]], centre_box(48, 48, (32, 32)), (32, 32))
    for batch, style in zip(shown, (plain, bare), strict=True):
        assert torch.equal(batch.pose, to_unit(draw_poses(points, faint.scores[[3]], (32, 32), style)))
    usual = to_unit(draw_poses(points, faint.scores[[3]], (32, 32)))
    assert shown[0].pose.mean() < 0.7 * usual.mean()  # colours times scores
    assert not torch.equal(usual, shown[1].pose)


def test_an_augmented_batch_decodes_no_more_than_it_shows(
    clips: list[TrainingClip], codec: LatentCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.video import decode_frames

    asked: list[list[int]] = []

    def decode(clip: Clip, frames: list[int]) -> np.ndarray:
        asked.append(frames)
        return decode_frames(clip, frames)

    monkeypatch.setattr("models.clip_dataset.decode_frames", decode)
    batch = ClipStore(clips, (32, 32), codec, augment=True).batch([(0, 4, [9, 2, 9])], np.random.default_rng(0))
    assert asked == [[2, 4, 9]]
    assert batch.latents.shape == (1, 3, 16, 8, 8)
    assert torch.equal(batch.latents[0, 0], batch.latents[0, 2])
