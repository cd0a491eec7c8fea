"""What each network is run on: counted at the network itself, not at the rows that it leaves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from eval.networks import MetricNetworks
from eval.score import score

GROUP = {"protocol": "demo_standin", "dataset": "performers_test", "split": "test"}


class Counted:
    """A loaded network; adds the frames, windows or pairs that it answers for."""

    def __init__(self, run: Any, name: str, counts: Counter[str]) -> None:
        self.run, self.name, self.counts = run, name, counts

    def __call__(self, *inputs: Any) -> Any:
        out = self.run(*inputs)
        self.counts[self.name] += len(out)
        return out

    def by_region(self, prediction: Any, truth: Any, masks: Any) -> Any:
        self.counts[self.name] += len(prediction)
        return self.run.by_region(prediction, truth, masks)


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    found: Counter[str] = Counter()
    load_once = MetricNetworks._once

    def counted(self: MetricNetworks, role: str, load: Callable[[Any], Any]) -> Any:
        return Counted(load_once(self, role, load), role, found)

    monkeypatch.setattr(MetricNetworks, "_once", counted)
    return found


def test_only_what_is_new_goes_through_a_network(make_lake: Callable[..., Any], counts: Counter[str]) -> None:
    def scored(prediction_id: str) -> tuple[int, int, int]:
        """(frames of FID, windows of FVD, pairs of LPIPS) that were run."""
        counts.clear()
        score(tiny.lake, **GROUP, prediction_id=prediction_id)
        assert set(counts) <= {"fid", "fvd", "lpips", "face", "face_second", "pose"}
        return counts["fid"], counts["fvd"], counts["lpips"]

    def brighter(by: int) -> Callable[[np.ndarray], np.ndarray]:
        return lambda truth: np.clip(truth.astype(int) + by, 0, 255).astype(np.uint8)

    tiny = make_lake(clips=2, frames=18, size=16)  # 17 frames count, one window
    first = tiny.add_method("first", brighter(3))
    assert scored(first) == (2 * 2 * 17, 2 * 2, 2 * 17)  # generated and true side of both clips
    assert scored(tiny.add_method("second", brighter(9))) == (2 * 17, 2, 2 * 17)  # its own side only
    assert tiny.add_method("first", brighter(30), only=tiny.clip_ids[:1]) == first
    assert scored(first) == (17, 1, 17)  # the clip that changed, its own side
    assert scored(first) == (0, 0, 0)
