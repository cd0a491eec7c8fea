"""Who says where face, hands and background are: networks do, and `truth` only where there is nothing else, which the score then says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest

from eval.benchmark import benchmark
from eval.clip_regions import RegionIndex
from eval.score import score
from pipelines.masks import encode_rle

PROTOCOL = "demo_standin"
REGIONAL = "l1_background"


def _mask(tiny: Any, clip_id: str, extractor: str, **more: Any) -> None:
    """A body mask of `extractor` in every frame of a clip: the left half."""
    body = np.zeros((tiny.size, tiny.size), bool)
    body[:, : tiny.size // 2] = True
    key = {"dataset": tiny.dataset, "clip_id": clip_id, "extractor": extractor, "version": 1, "weights_digest": "none", **more}
    tiny.lake.write(
        "body_masks", [{**key, "frame": t, "rle": encode_rle(body), "height": tiny.size, "width": tiny.size} for t in range(tiny.frames)]
    )


def _only_truth(tiny: Any) -> None:
    """As if `truth` alone had looked for bodies."""
    rows = tiny.lake.rows("body_masks")
    tiny.lake.delete("body_masks", pc.field("extractor") == "planted")
    tiny.lake.write("body_masks", [{**row, "extractor": "truth"} for row in rows])


def _scored(tiny: Any, prediction_id: str) -> dict[str, dict[str, Any]]:
    """clip id -> the row of scores of REGIONAL, after scoring."""
    score(tiny.lake, protocol=PROTOCOL, dataset=tiny.dataset, split=tiny.split, prediction_id=prediction_id)
    return {row["clip_id"]: row for row in tiny.lake.rows("scores", pc.field("metric") == REGIONAL)}


def _note(tiny: Any) -> str:
    table = benchmark(tiny.lake, protocol=PROTOCOL, dataset=tiny.dataset, split=tiny.split).to_pylist()
    (row,) = [row for row in table if row["metric"] == REGIONAL]
    return row["note"] or ""


@pytest.fixture
def tiny(make_lake: Callable[..., Any]) -> Any:
    return make_lake(clips=2)


def test_what_a_network_found_is_scored_though_truth_is_there(tiny: Any) -> None:
    prediction_id = tiny.add_method("half", lambda truth: truth // 2)
    before = _scored(tiny, prediction_id)
    for clip_id in tiny.clip_ids:
        _mask(tiny, clip_id, "truth")
    after = _scored(tiny, prediction_id)
    assert after == before
    assert {row["region_from"] for row in after.values()} == {"planted"}
    assert "truth" not in _note(tiny)


def test_scores_with_truth_alone_say_so(tiny: Any) -> None:
    prediction_id = tiny.add_method("half", lambda truth: truth // 2)
    found = _scored(tiny, prediction_id)
    _only_truth(tiny)
    drawn = _scored(tiny, prediction_id)
    assert {row["region_from"] for row in drawn.values()} == {"truth"}
    assert {row["weights_digest"] for row in drawn.values()}.isdisjoint(row["weights_digest"] for row in found.values())
    assert "region from truth in 2 of 2 clips" in _note(tiny)
    whole = tiny.lake.rows("scores", pc.field("metric") == "l1")
    assert {row["region_from"] for row in whole} == {None}


def test_truth_does_not_fill_in_for_a_network_that_saw_nobody(tiny: Any) -> None:
    first, second = tiny.clip_ids
    _only_truth(tiny)
    _mask(tiny, first, "seen_by_a_network")
    index = RegionIndex(tiny.lake, tiny.dataset, ["background"])
    assert index.extractor("background", first) == "seen_by_a_network"
    assert index.extractor("background", second) is None
    assert index.digest("background", second) is None
    tiny.add_method("half", lambda truth: truth // 2)
    assert "nothing says where: 1" in _note(tiny)


def test_of_two_networks_the_first_name_counts_and_of_two_versions_the_newer(tiny: Any) -> None:
    clip_id = tiny.clip_ids[0]
    _mask(tiny, clip_id, "zeta")
    before = RegionIndex(tiny.lake, tiny.dataset, ["background"])
    assert before.extractor("background", clip_id) == "planted"
    assert before.extractor(None, clip_id) is None
    _mask(tiny, clip_id, "planted", version=2)
    after = RegionIndex(tiny.lake, tiny.dataset, ["background"])
    assert after.digest("background", clip_id) != before.digest("background", clip_id)
