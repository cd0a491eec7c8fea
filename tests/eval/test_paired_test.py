"""Paired tests: exact where they can be, level kept under no difference, Holm as published."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from eval.paired_test import EXACT_CLIPS, SIGNIFICANT, clips_needed, compare, holm, permutation_p, smallest_p


def rows(prediction_id: str, values: list[float], metric: str = "l1", **changed: Any) -> list[dict[str, Any]]:
    row = {"protocol": "standard", "split": "test", "prediction_id": prediction_id, "metric": metric, "status": "ok", "truth_sha256": "t"}
    return [{**row, "clip_id": f"{i:03d}", "sum": value * 16, "count": 16, **changed} for i, value in enumerate(values)]


def test_the_exact_test_is_scipys() -> None:
    x = np.random.default_rng(0).normal(0.4, 1, 11)
    theirs = stats.permutation_test((x,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert permutation_p(x) == pytest.approx(theirs.pvalue, abs=1e-12)


def test_the_sampled_test_agrees_with_the_t_test() -> None:
    x = np.random.default_rng(1).normal(0.3, 1, 60)
    assert permutation_p(x) == pytest.approx(stats.ttest_1samp(x, 0).pvalue, abs=0.01)


def test_without_a_difference_one_in_twenty_is_significant() -> None:
    draws = np.random.default_rng(2).standard_t(3, (400, 10))
    assert np.mean([permutation_p(x) <= 0.05 for x in draws]) == pytest.approx(0.05, abs=0.03)


def test_zero_one_sided_and_bad_input() -> None:
    assert permutation_p(np.zeros(5)) == 1.0
    assert permutation_p([1.0] * 5) == pytest.approx(2 / 32)
    for bad in ([], [1.0, np.nan]):
        with pytest.raises(ValueError, match="finite"):
            permutation_p(bad)


def test_holm_by_hand_and_monotone() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_better_follows_the_direction_of_the_metric() -> None:
    low, high = [0.1 + 0.01 * i for i in range(10)], [0.3 + 0.012 * i for i in range(10)]
    a, b = rows("a", low) + rows("a", high, "psnr"), rows("b", high) + rows("b", low, "psnr")
    assert [c.verdict for c in compare(a, b)] == ["better", "better"]
    assert [c.verdict for c in compare(b, a)] == ["worse", "worse"]
    assert [c.verdict for c in compare(a, [{**r, "prediction_id": "c"} for r in a])] == ["no difference shown"] * 2
    assert compare(a, b)[0].p_holm == pytest.approx(2 * compare(a, b)[0].p_value)


def test_few_clips_and_frames_are_said() -> None:
    (found,) = compare(rows("a", [1.0] * 5, count=2), rows("b", [2.0] * 5, count=2))
    assert found.verdict == "no difference shown"
    assert "too few" in found.warnings[0]
    assert "fewer than 8" in found.warnings[1]


def test_the_smallest_p_is_that_of_equal_signs() -> None:
    for clips in (1, 5, EXACT_CLIPS):
        assert smallest_p(clips) == pytest.approx(permutation_p([1.0] * clips), abs=1e-12)
    assert smallest_p(EXACT_CLIPS + 6) <= permutation_p([1.0] * (EXACT_CLIPS + 6))


def test_the_warning_comes_exactly_where_nothing_can_be_significant() -> None:
    for metrics in (["l1"], ["l1", "psnr", "ssim", "lpips"]):
        needed = clips_needed(len(metrics))
        for clips in (needed - 1, needed):
            a, b = ([row for m in metrics for row in rows(name, [value] * clips, m)] for name, value in (("a", 1.0), ("b", 2.0)))
            found = compare(a, b)
            assert [any("too few" in w for w in c.warnings) for c in found] == [clips < needed] * len(metrics)
            assert [c.p_holm <= SIGNIFICANT for c in found] == [clips >= needed] * len(metrics)
            assert all(c.least_p <= c.p_holm for c in found)
    assert clips_needed(1) == 6
    assert "at least 6 clips" in compare(a[:1], b[:1])[0].warnings[0]


def test_a_metric_that_judges_nobody_is_not_tested() -> None:
    a, b = (rows(name, [1.0, 2.0, 3.0], "psnr_overflow") + rows(name, [1.0, 2.0, 3.0]) for name in "ab")
    assert [c.metric for c in compare(a, b)] == ["l1"]


def test_a_clip_counts_with_the_frames_that_both_have() -> None:
    """A face that one of them misses in some frames costs those frames, not the clip."""
    seen, missed = [1.0, 2.0, 3.0, None], [None, 1.0, 1.0, 5.0]
    a, b = rows("a", [0.0], sum=6.0, count=3, per_frame=seen), rows("b", [0.0], sum=7.0, count=3, per_frame=missed)
    (found,) = compare(a, b)
    assert (found.clips, found.frames) == (1, 2)
    assert found.difference == pytest.approx((2.0 + 3.0) / 2 - (1.0 + 1.0) / 2)
    nothing = rows("b", [0.0], sum=5.0, count=1, per_frame=[None, None, None, 5.0])
    assert compare(a, nothing) == []


def test_without_values_of_frames_only_clips_with_the_same_frames_count() -> None:
    a, b = rows("a", [1.0, 2.0, 3.0, 4.0]), rows("b", [1.5, 2.5, 3.5])
    b[0]["status"], b[1]["count"] = "failed", 15
    (found,) = compare(a, b)
    assert (found.clips, found.frames) == (1, 16)
    assert found.difference == pytest.approx(-0.5)
    assert compare(a, rows("b", [1.0], "psnr")) == []
    for wrong in (rows("b", [1.0], protocol="disco"), rows("b", [1.0]) + rows("c", [1.0])):
        with pytest.raises(ValueError, match="several"):
            compare(a, wrong)
