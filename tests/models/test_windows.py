"""Windows cover every frame, and fusing what agrees changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch

from models.windows import (
    anchored_windows,
    draw_offset,
    flat_weights,
    fuse_windows,
    gaussian_weights,
    travelling_windows,
    triangular_weights,
    uniform_windows,
)


def fused(predictions: torch.Tensor, windows: list[list[int]], weights: torch.Tensor, frames: int) -> torch.Tensor:
    """[F, ...] of predictions [W, S, ...]."""
    return fuse_windows(zip(windows, predictions, strict=True), weights, torch.empty(frames, *predictions.shape[2:]))


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
    clip, windows = torch.randn(frames, 2, 3), uniform_windows(frames, 4, 1)
    weights = torch.arange(1.0, len(windows[0]) + 1)
    torch.testing.assert_close(fused(clip[torch.tensor(windows)], windows, weights, frames), clip)


def test_a_fused_frame_is_the_weighted_mean_of_its_windows() -> None:
    windows = [[0, 1, 2], [2, 3, 4]]
    predictions = torch.tensor([[1.0, 1.0, 1.0], [4.0, 4.0, 4.0]])[..., None]
    found = fused(predictions, windows, torch.tensor([1.0, 1.0, 2.0]), 5).flatten()
    assert found.tolist() == pytest.approx([1, 1, (2 * 1 + 1 * 4) / 3, 4, 4])
    assert fused(predictions, windows, flat_weights(3), 5).flatten()[2].item() == pytest.approx(2.5)


def test_an_uncovered_frame_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"frames \[2\] are in no window"):
        fused(torch.zeros(1, 2, 1), [[0, 1]], flat_weights(2), 3)


@pytest.mark.parametrize(("length", "overlap"), SIZES)
def test_travelling_windows_cover_every_frame_at_every_offset(length: int, overlap: int) -> None:
    for frames in {1, max(1, length - 1), length, length + 1, 5 * length + 3}:
        for offset in range(length - overlap):
            windows = travelling_windows(frames, length, overlap, offset)
            assert {frame for window in windows for frame in window} == set(range(frames))
            assert {len(window) for window in windows} == {min(length, frames)}
            assert len({tuple(window) for window in windows}) == len(windows)  # none is denoised twice


def test_travelling_windows_are_the_shifted_ones_moved_inside() -> None:
    assert [window[0] for window in travelling_windows(40, 16, 4, 0)] == [0, 12, 24]
    assert [window[0] for window in travelling_windows(40, 16, 4, 5)] == [0, 5, 17, 24]


def test_borders_travel_over_the_whole_clip() -> None:
    """Over all offsets every frame but the first is the first of some window or lies before the last start: no border is fixed."""
    starts = {window[0] for offset in range(12) for window in travelling_windows(40, 16, 4, offset)}
    assert starts == set(range(25))


def test_offsets_are_uniform_below_the_step() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = [draw_offset(16, 4, generator) for _ in range(2400)]
    counts = torch.bincount(torch.tensor(drawn), minlength=12)
    assert len(counts) == 12
    assert counts.min() > 140
    with pytest.raises(ValueError, match="offset=12"):
        travelling_windows(40, 16, 4, 12)


@pytest.mark.parametrize(("length", "overlap"), [(24, 4), (8, 2), (5, 1), (4, 3), (2, 1)])
def test_anchored_windows_cover_every_frame_and_hold_frame_0(length: int, overlap: int) -> None:
    for frames in {1, length - 1, length, length + 1, 5 * length + 3}:
        windows = anchored_windows(frames, length, overlap)
        assert {frame for window in windows for frame in window} == set(range(frames))
        assert {len(window) for window in windows} == {min(length, frames)}
        assert all(window[0] == 0 and len(set(window)) == len(window) for window in windows)


def test_an_anchor_takes_one_of_the_shared_frames() -> None:
    """Without any, [0, 1 … 4] and [0, 6 … 9] would leave frame 5 out."""
    for length in (1, 5):
        with pytest.raises(ValueError, match="overlap of at least 1"):
            anchored_windows(12, length, 0)


@pytest.mark.parametrize(
    ("sigma", "shares"), [(3.0, (0.966, 0.752, 0.248, 0.034)), (4.0, (0.867, 0.651, 0.349, 0.133)), (6.0, (0.70, 0.57, 0.43, 0.30))]
)
def test_gaussian_shares_of_an_overlap(sigma: float, shares: tuple[float, ...]) -> None:
    """HFCA's context scheduling, 24 frames, 4 shared: what the earlier window keeps of frames 20 to 23, after normalisation."""
    windows = uniform_windows(44, 24, 4)
    earlier = torch.tensor([1.0, 0.0])[:, None, None].expand(2, 24, 1)
    found = fused(earlier, windows, gaussian_weights(24, sigma), 44).flatten()
    assert found[20:24].tolist() == pytest.approx(shares, abs=1e-3 if sigma < 6 else 6e-3)
    assert found[:20].tolist() == [1.0] * 20
    assert found[24:].tolist() == [0.0] * 20


def test_120_frames_are_the_windows_of_hfca() -> None:
    assert [window[0] for window in uniform_windows(120, 24, 4)] == [0, 20, 40, 60, 80, 96]


@pytest.mark.parametrize("weights", [gaussian_weights, triangular_weights])
@pytest.mark.parametrize("frames", [3, 8, 21])
def test_weights_are_a_partition_of_unity(weights: Callable[[int], torch.Tensor], frames: int) -> None:
    clip = torch.randn(frames, 2)
    for windows in (uniform_windows(frames, 8, 2), travelling_windows(frames, 8, 2, 5), anchored_windows(frames, 8, 2)):
        torch.testing.assert_close(fused(clip[torch.tensor(windows)], windows, weights(len(windows[0])), frames), clip)


def test_weights_are_symmetric_and_highest_in_the_centre() -> None:
    for weights in (gaussian_weights(9), triangular_weights(9), gaussian_weights(400, 2.0)):
        torch.testing.assert_close(weights, weights.flip(0))
        assert int(weights.argmax()) in {len(weights) // 2, (len(weights) - 1) // 2}
        assert weights.min() > 0  # no slot is lost, however long the window
    with pytest.raises(ValueError, match="sigma=0"):
        gaussian_weights(9, 0.0)


def test_triangular_weights_are_those_of_the_paper() -> None:
    assert triangular_weights(4).tolist() == pytest.approx([0.25, 0.75, 0.75, 0.25])
