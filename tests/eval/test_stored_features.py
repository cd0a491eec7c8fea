"""Feature rows come out of the lake clip by clip, in the order of clip ids, whatever parts they lie in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import eval.stored_features
from eval.stored_features import StoredFeatures, Wanted
from pipelines.lake import Lake

NAMED = {"protocol": "p", "dataset": "d", "source": "truth", "extractor": "net", "weights_digest": "w"}
CLIPS, FRAMES, WIDTH = 40, 5, 6


def _rows(clip: int, **changed: Any) -> list[dict[str, Any]]:
    rng = np.random.default_rng(clip)
    same = {**NAMED, "version": 1, "clip_id": f"{clip:03d}", "source_sha256": f"sha{clip}", **changed}
    return [{**same, "frame": frame, "feature": rng.normal(size=WIDTH).astype(np.float32)} for frame in range(FRAMES)]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Clips in parts of any order; clip 7 of other bytes, clip 9 without a frame, and rows of other networks and sources."""
    lake = Lake(tmp_path_factory.mktemp("stored") / "lake").create()
    order = np.random.default_rng(0).permutation(CLIPS)
    for part in np.array_split(order, 3):
        rows = [row for clip in part for row in _rows(int(clip), **({"source_sha256": "old"} if clip == 7 else {}))]
        lake.write("metric_features", [row for row in rows if (row["clip_id"], row["frame"]) != ("009", 2)])
    lake.write("metric_features", _rows(3, source="method") + _rows(3, extractor="other") + _rows(3, protocol="q"))
    return lake


def _stored(lake: Lake) -> StoredFeatures:
    return StoredFeatures.of(lake.dataset("metric_features"), **NAMED)


WANTED = {f"{clip:03d}": Wanted(f"sha{clip}", range(FRAMES)) for clip in reversed(range(CLIPS + 1))}  # clip 40 has no rows


def test_clips_with_all_their_rows_are_complete(lake: Lake) -> None:
    assert _stored(lake).complete(WANTED) == [f"{clip:03d}" for clip in range(CLIPS) if clip not in (7, 9)]


@pytest.mark.parametrize("rows_at_a_time", [1, 12, 4096])
def test_rows_come_by_clip_and_frame(lake: Lake, rows_at_a_time: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eval.stored_features, "_ROWS", rows_at_a_time)
    ids = _stored(lake).complete(WANTED)
    found = list(_stored(lake).clips(WANTED, ids))
    assert len(found) == CLIPS - 2
    for clip_id, features in zip(ids, found, strict=True):
        np.testing.assert_array_equal(features, np.stack([row["feature"] for row in _rows(int(clip_id))]))


def test_only_wanted_frames_come(lake: Lake) -> None:
    wanted = {"009": Wanted("sha9", [0, 4])}
    assert _stored(lake).complete(wanted) == ["009"]
    (features,) = _stored(lake).clips(wanted, ["009"])
    np.testing.assert_array_equal(features, [_rows(9)[frame]["feature"] for frame in (0, 4)])


def test_a_clip_that_lost_a_row_in_between_is_an_error(lake: Lake) -> None:
    with pytest.raises(ValueError, match="clip 009: 4 feature rows"):
        list(_stored(lake).clips(WANTED, ["009"]))


def test_few_rows_are_in_memory_at_a_time(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eval.stored_features, "_ROWS", 2 * FRAMES)
    taken: list[int] = []
    table = StoredFeatures._batches

    def counted(self: StoredFeatures, *arguments: Any) -> Any:
        batches = list(table(self, *arguments))
        taken.append(sum(map(len, batches)))
        return iter(batches)

    monkeypatch.setattr(StoredFeatures, "_batches", counted)
    ids = [f"{clip:03d}" for clip in range(20) if clip not in (7, 9)]
    assert len(list(_stored(lake).clips(WANTED, ids))) == 18
    assert taken == [2 * FRAMES] * 9
