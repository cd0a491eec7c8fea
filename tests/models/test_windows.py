"""Windows cover every frame, and fusing what agrees changes nothing."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from models.windows import flat_weights, fuse_windows, uniform_windows

SIZES = [(24, 4), (8, 2), (5, 0), (4, 3), (1, 0)]


@pytest.mark.parametrize(("length", "overlap"), SIZES)
@pytest.mark.parametrize("closed_loop", [False, True])
def test_every_frame_is_covered_and_none_is_outside(length: int, overlap: int, closed_loop: bool) -> None:
    for frames in {1, max(1, length - 1), length, length + 1, 5 * length + 3}:
        windows = uniform_windows(frames, length, overlap, closed_loop=closed_loop)
        assert {frame for window in windows for frame in window} == set(range(frames))
        assert {len(window) for window in windows} == {min(length, frames)}


@pytest.mark.parametrize(("length", "overlap"), SIZES)
def test_neighbours_share_at_least_the_overlap(length: int, overlap: int) -> None:
    windows = uniform_windows(5 * length + 3, length, overlap)
    for left, right in pairwise(windows):
        assert len(set(left) & set(right)) >= overlap
        assert left[0] < right[0]
    assert all(window == list(range(window[0], window[0] + length)) for window in windows)
    assert windows[-1][-1] == 5 * length + 2  # the tail is right-aligned, nothing wraps round


def test_a_closed_loop_joins_the_last_frames_to_the_first() -> None:
    windows = uniform_windows(10, 4, 1, closed_loop=True)
    assert windows[-1] == [9, 0, 1, 2]
    assert all(0 not in window or 9 not in window for window in uniform_windows(10, 4, 1))


@pytest.mark.parametrize(("length", "overlap"), [(4, 4), (4, 5), (4, -1)])
def test_an_impossible_overlap_is_refused(length: int, overlap: int) -> None:
    with pytest.raises(ValueError, match="overlap"):
        uniform_windows(10, length, overlap)


@pytest.mark.parametrize("frames", [3, 4, 11])
def test_fusing_equal_predictions_changes_nothing(frames: int) -> None:
    clip, windows = torch.randn(frames, 2, 3), torch.tensor(uniform_windows(frames, 4, 1))
    weights = torch.arange(1.0, windows.shape[1] + 1)
    torch.testing.assert_close(fuse_windows(clip[windows], windows, weights, frames), clip)


def test_a_fused_frame_is_the_weighted_mean_of_its_windows() -> None:
    windows = torch.tensor([[0, 1, 2], [2, 3, 4]])
    predictions = torch.tensor([[1.0, 1.0, 1.0], [4.0, 4.0, 4.0]])[..., None]
    fused = fuse_windows(predictions, windows, torch.tensor([1.0, 1.0, 2.0]), 5).flatten()
    assert fused.tolist() == pytest.approx([1, 1, (2 * 1 + 1 * 4) / 3, 4, 4])
    assert fuse_windows(predictions, windows, flat_weights(3), 5).flatten()[2].item() == pytest.approx(2.5)


def test_an_uncovered_frame_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"frames \[2\] are in no window"):
        fuse_windows(torch.zeros(1, 2, 1), torch.tensor([[0, 1]]), flat_weights(2), 3)
