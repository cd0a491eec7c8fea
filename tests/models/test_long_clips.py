"""Memory that does not grow with a clip: what is held while a long one is made, and the bench that measures it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.long_clip_memory import GATE, compare
from models.clip_dataset import PoseStyle, draw_poses, to_unit
from models.clip_sampling import DrawnPoses
from models.clip_signals import ClipSignals, PackedFrames, fit_signals
from models.cross_driving import LONG_CLIP_BYTES
from pipelines.masks import pack_array


def test_a_signals_pictures_lie_in_a_file_beyond_the_bound_and_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    masks = PackedFrames([pack_array(rng.integers(0, 256, (40, 40), dtype=np.uint8)) for _ in range(20)])
    signals = ClipSignals(frames=20, fps=24.0, body_mask=masks)
    mapped: list[int] = []
    real = np.memmap

    def watched(*arguments: object, **options: object) -> np.ndarray:
        mapped.append(1)
        made: np.ndarray = real(*arguments, **options)  # type: ignore[call-overload]
        return made

    monkeypatch.setattr(np, "memmap", watched)
    plain = fit_signals(signals, (0, 0, 40, 40), (32, 32))
    assert mapped == []
    held = fit_signals(signals, (0, 0, 40, 40), (32, 32), in_memory=20 * 32 * 32 * 4 - 1)
    assert mapped == [1]
    assert plain.body_mask is not None
    assert held.body_mask is not None
    assert torch.equal(plain.body_mask, held.body_mask)
    assert LONG_CLIP_BYTES == 8 << 20


def test_a_pose_is_drawn_once_and_kept_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every window is what drawing it afresh gives, in the style asked for; what is kept is a small part of the pictures."""
    drawn: list[int] = []
    monkeypatch.setattr("models.clip_sampling.draw_poses", lambda *asked: drawn.append(len(asked[0])) or draw_poses(*asked))
    rng = np.random.default_rng(0)
    points = (rng.uniform(32, 96, (30, 1, 2)) + rng.normal(0, 12, (30, 133, 2))).astype(np.float32)
    scores, style = rng.uniform(0.3, 1, (30, 133)).astype(np.float32), PoseStyle(style="confidence")
    poses = DrawnPoses(points, scores, (128, 96), style)
    windows = ([0, 1, 2], [2, 3, 4], [1, 9, 10], [9, 10, 11], [29, 0, 28, 27], [0, 1, 2, 3, 4, 5, 6], [6, 2, 6])
    for window in windows:
        torch.testing.assert_close(poses[window], to_unit(draw_poses(points[window], scores[window], (128, 96), style)), rtol=0, atol=0)
    asked = {frame for window in windows for frame in window}
    assert drawn == [1] * len(asked)
    assert len(poses._packed) < 0.1 * len(asked) * 128 * 96 * 3


@pytest.mark.slow
def test_the_bench_measures_both_lengths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ratios = compare(tmp_path, ["copy_reference"], [8, 600], 64)  # held whole, the longer one would take 7 MB
    assert ratios["copy_reference"] <= GATE
    assert "copy_reference: in use" in capsys.readouterr().out
