"""score() and benchmark() end to end on a small lake."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest

from eval.benchmark import benchmark, rescore_differences
from eval.metrics import METRICS
from eval.networks import MetricNetworks
from eval.predictions import import_predictions
from eval.protocols import DEMO_STANDIN, protocol_named
from eval.score import score
from eval.score_digest import per_clip_metrics
from pipelines.errors import MissingWeightsError, UserError
from pipelines.lake import digest_rows
from pipelines.video import read_video

GROUP = {"protocol": "demo_standin", "dataset": "performers_test", "split": "test"}
# feature rows of a clip of 18 frames, of which 17 count and hold one window
GENERATED = 3 * 17 + 18 + 1  # FID's network and two face recognisers; key points of every frame; one window
TRUE = 17 + 2 + 18 + 1  # the recognisers look at the reference alone


def soften(truth: Any) -> Any:
    return (truth // 2 + 60).astype(np.uint8)


def test_scores_and_benchmark_of_two_methods(scored: Any) -> None:
    tiny, ids = scored
    rows = tiny.lake.rows("scores")
    assert len(rows) == 2 * 3 * len(per_clip_metrics(DEMO_STANDIN))
    assert {row["status"] for row in rows} == {"ok"}
    between = {"flicker", "flicker_background", "flicker_still"}  # one value per pair of frames
    faces = {"csim", "csim_second"}  # only frames in which a network sees a face, which a drawn figure hardly has
    assert all(row["per_frame"][0] is None and len(row["per_frame"]) == 18 for row in rows)
    assert all(row["count"] == 17 - (row["metric"] in between) for row in rows if row["metric"] not in faces)
    assert all(0 <= row["count"] <= 17 for row in rows)
    table = {(row["method"], row["metric"]): row for row in benchmark(tiny.lake, **GROUP).to_pylist()}
    assert set(table) == {(method, metric) for method in ids for metric in DEMO_STANDIN.metrics}
    for metric in ("l1", "lpips", "fid", "fvd"):
        assert table["soft", metric]["value"] < table["copy_reference", metric]["value"]
    for metric in ("psnr", "ssim"):
        assert table["soft", metric]["value"] > table["copy_reference", metric]["value"]
        assert table["soft", metric]["low"] <= table["soft", metric]["value"] <= table["soft", metric]["high"]
    assert table["soft", "fvd"]["windows"] == 3
    assert table["soft", "fid"]["frames"] == 51
    assert table["soft", "fvd"]["low"] is None
    assert "no interval" in table["soft", "fvd"]["note"]


def test_benchmark_is_sum_of_sums_over_sum_of_counts(scored: Any) -> None:
    tiny, ids = scored
    table = {(row["prediction_id"], row["metric"]): row["value"] for row in benchmark(tiny.lake, **GROUP).to_pylist()}
    generated = tiny.lake.rows("predictions", pc.field("prediction_id") == ids["soft"])
    truth = {row["clip_id"]: read_video(tiny.lake.path(row["uri"])) for row in tiny.lake.rows("clips")}
    values = [METRICS["psnr"].per_frame(read_video(tiny.lake.path(row["uri"]))[1:], truth[row["clip_id"]][1:]) for row in generated]
    assert table[ids["soft"], "psnr"] == pytest.approx(np.concatenate(values).mean(), rel=1e-12)


def test_a_second_call_computes_nothing(scored: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny, ids = scored
    benchmark(tiny.lake, **GROUP)
    before = {name: tiny.lake.version(name) for name in ("scores", "metric_features", "history")}
    values = digest_rows("benchmark", tiny.lake.read("benchmark"))
    monkeypatch.setattr("eval.clip_scorer.decode_frames", _never)
    monkeypatch.setattr("eval.clip_scorer.read_video", _never)
    report = score(tiny.lake, **GROUP, prediction_id=ids["soft"])
    assert (report.scored, report.cached, report.features, report.failed) == (0, 3, 0, [])
    benchmark(tiny.lake, **GROUP)
    assert {name: tiny.lake.version(name) for name in before} == before
    assert digest_rows("benchmark", tiny.lake.read("benchmark")) == values


def _never(*_: Any, **__: Any) -> Any:
    raise AssertionError("a video was decoded again")


def test_truth_features_are_made_once(make_lake: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = make_lake(clips=2)
    first = score(tiny.lake, **GROUP, prediction_id=tiny.add_method("a", soften))
    second = score(tiny.lake, **GROUP, prediction_id=tiny.add_method("b", soften))
    assert (first.features, second.features) == (2 * (GENERATED + TRUE), 2 * GENERATED)


def test_each_clip_is_decoded_once(make_lake: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    import eval.clip_scorer as module

    tiny, opened = make_lake(clips=2), []
    prediction_id, real = tiny.add_method("a", soften), module.decode_frames
    monkeypatch.setattr(module, "decode_frames", lambda clip: (opened.append(clip.clip_id), real(clip))[1])
    score(tiny.lake, **GROUP, prediction_id=prediction_id)
    assert sorted(opened) == sorted(tiny.clip_ids)


def test_changing_one_clip_computes_one_clip(scored: Any) -> None:
    tiny, ids = scored
    benchmark(tiny.lake, **GROUP)
    assert tiny.add_method("soft", soften, only=tiny.clip_ids[:1]) == ids["soft"]
    report = score(tiny.lake, **GROUP, prediction_id=ids["soft"])
    assert (report.scored, report.cached, report.features) == (1, 2, GENERATED)
    benchmark(tiny.lake, **GROUP)
    texts = [row["what_changed"] for row in tiny.lake.rows("history", pc.field("prediction_id") == ids["soft"]) if row["metric"] == "l1"]
    assert len(texts) == 2
    assert texts[0].startswith("first value")
    assert "predictions changed" in texts[1]


def test_ignoring_the_cache_gives_the_same_numbers(scored: Any) -> None:
    tiny, ids = scored
    old, features = tiny.lake.rows("scores"), tiny.lake.read("metric_features")
    report = score(tiny.lake, **GROUP, prediction_id=ids["soft"], ignore_cache=True)
    assert (report.scored, report.features) == (3, 3 * (GENERATED + TRUE))
    assert rescore_differences(old, tiny.lake.rows("scores")) == []
    assert digest_rows("metric_features", features) == digest_rows("metric_features", tiny.lake.read("metric_features"))


def test_rescore_finds_a_number_that_moved(scored: Any) -> None:
    tiny, _ = scored
    old = tiny.lake.rows("scores")
    moved = [dict(row) for row in old]
    index = next(i for i, row in enumerate(moved) if row["metric"] == "l1")
    moved[index]["sum"] = math.nextafter(moved[index]["sum"], math.inf)
    assert len(rescore_differences(old, moved)) == 1
    moved[index]["prediction_sha256"] = "other bytes"
    assert rescore_differences(old, moved) == []
    assert rescore_differences(old, old[1:]) == [rescore_differences(old[:1], [])[0]]


def _bad_size(truth: Any) -> Any:
    return np.pad(truth, ((0, 0), (0, 2), (0, 0), (0, 0)))


@pytest.mark.parametrize(("make", "code"), [(lambda t: t[:-4], "frame_count"), (_bad_size, "frame_size")])
def test_a_clip_that_does_not_fit_is_a_row(make_lake: Callable[..., Any], make: Any, code: str) -> None:
    tiny = make_lake(clips=2)
    bad = tiny.clip_ids[0]
    whole = {id(tiny.truth[bad])}
    prediction_id = tiny.add_method("a", lambda truth: make(truth) if id(truth) in whole else truth)
    report = score(tiny.lake, **GROUP, prediction_id=prediction_id)
    assert [(clip, found) for clip, found, _ in report.failed] == [(bad, code)]
    failed = tiny.lake.rows("scores", pc.field("clip_id") == bad)
    assert {row["code"] for row in failed} == {code}
    assert {row["sum"] for row in failed} == {None}
    row = benchmark(tiny.lake, **GROUP).to_pylist()[0]
    assert row["clips"] == 1
    assert "1 of 2 clips missing" in row["note"]


def test_missing_changed_and_vanished_files_are_rows(make_lake: Callable[..., Any]) -> None:
    tiny = make_lake(clips=3)
    prediction_id = tiny.add_method("a", soften)
    gone, changed, dropped = tiny.clip_ids
    rows = {row["clip_id"]: row for row in tiny.lake.rows("predictions")}
    tiny.lake.path(rows[gone]["uri"]).unlink()
    tiny.lake.path(rows[changed]["uri"]).write_bytes(b"other bytes")
    tiny.lake.delete("predictions", pc.field("clip_id") == dropped)
    report = score(tiny.lake, **GROUP, prediction_id=prediction_id)
    assert {clip: code for clip, code, _ in report.failed} == {
        gone: "missing_prediction",
        changed: "unreadable",
        dropped: "missing_prediction",
    }
    assert all(row["value"] is None and row["note"] for row in benchmark(tiny.lake, **GROUP).to_pylist())


def test_a_repaired_clip_replaces_its_failure(make_lake: Callable[..., Any]) -> None:
    tiny = make_lake(clips=1)
    prediction_id = tiny.add_method("a", lambda truth: truth[:-1])
    score(tiny.lake, **GROUP, prediction_id=prediction_id)
    assert tiny.add_method("a", soften) == prediction_id
    report = score(tiny.lake, **GROUP, prediction_id=prediction_id)
    assert report.failed == []
    assert {row["status"] for row in tiny.lake.rows("scores")} == {"ok"}


def test_a_clip_shorter_than_a_window_has_no_fvd(make_lake: Callable[..., Any]) -> None:
    tiny = make_lake(clips=2, frames=10)
    score(tiny.lake, **GROUP, prediction_id=tiny.add_method("a", soften))
    table = {row["metric"]: row for row in benchmark(tiny.lake, **GROUP).to_pylist()}
    assert table["fvd"]["value"] is None
    assert "0 windows" in table["fvd"]["note"]
    assert table["fid"]["frames"] == 18
    assert table["fid"]["value"] is not None


def test_a_clip_of_one_frame_is_a_row(make_lake: Callable[..., Any]) -> None:
    tiny = make_lake(clips=1, frames=1)
    report = score(tiny.lake, **GROUP, prediction_id=tiny.add_method("a", soften))
    assert [code for _, code, _ in report.failed] == ["too_short"]


def test_equal_clips_score_perfectly(make_lake: Callable[..., Any]) -> None:
    tiny = make_lake(clips=2)
    prediction_id = tiny.add_method("a", soften)
    for row in tiny.lake.rows("predictions"):  # the same file as the truth, so lossy coding does not matter
        clip = tiny.lake.rows("clips", pc.field("clip_id") == row["clip_id"])[0]
        tiny.lake.write("predictions", [{**row, "uri": clip["uri"], "sha256": clip["video_sha256"]}])
    score(tiny.lake, **GROUP, prediction_id=prediction_id)
    table = {row["metric"]: row["value"] for row in benchmark(tiny.lake, **GROUP).to_pylist()}
    exact = {"l1": 0.0, "psnr": 100.0, "psnr_overflow": 100.0, "ssim": 1.0, "lpips": 0.0}
    assert {metric: table[metric] for metric in exact} == exact
    assert table["fid"] == pytest.approx(0, abs=1e-9)
    assert table["fvd"] == pytest.approx(0, abs=1e-9)


def test_user_errors_say_what_there_is(make_lake: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = make_lake(clips=1)
    prediction_id = tiny.add_method("a", soften)
    with pytest.raises(UserError, match="demo_standin"):
        score(tiny.lake, protocol="nope", dataset=tiny.dataset, split="test", prediction_id=prediction_id)
    with pytest.raises(UserError, match="performers_test/test"):
        score(tiny.lake, **{**GROUP, "split": "train"}, prediction_id=prediction_id)
    with pytest.raises(UserError, match="no predictions"):
        score(tiny.lake, **GROUP, prediction_id="unknown")
    monkeypatch.delenv("ROTOSCOPE_WEIGHTS", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(MissingWeightsError, match="lpips_vgg16"):
        score(tiny.lake, **{**GROUP, "protocol": "standard"}, prediction_id=prediction_id)


def test_progress_counts_clips(make_lake: Callable[..., Any]) -> None:
    tiny, seen = make_lake(clips=2, frames=4), []
    score(
        tiny.lake,
        **GROUP,
        prediction_id=tiny.add_method("a", soften),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(1, 2), (2, 2)]


def test_networks_of_the_demo_are_at_hand() -> None:
    assert all(len(digest.split(".v")[0]) == 64 for digest in MetricNetworks(protocol_named("demo_standin")).digests.values())


def test_a_network_that_gives_nan_is_a_failed_row(make_lake: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = make_lake(clips=1, frames=4)
    prediction_id = tiny.add_method("a", soften)
    monkeypatch.setattr(MetricNetworks, "resized_function", lambda *_: lambda items: np.full((len(list(items)), 4), np.nan, np.float32))
    report = score(tiny.lake, **GROUP, prediction_id=prediction_id)
    assert [code for _, code, _ in report.failed] == ["extractor_failed"]
    assert tiny.lake.read("metric_features").num_rows == 0


def test_a_demo_size_method_is_scored_on_larger_footage(make_lake: Callable[..., Any]) -> None:
    tiny = make_lake(clips=2, frames=4, size=192)
    prediction_id = tiny.add_method("a", lambda truth: np.ascontiguousarray(truth[:, ::2, ::2]))
    small = score(tiny.lake, **{**GROUP, "protocol": "standin_128"}, prediction_id=prediction_id)
    assert (small.scored, small.failed) == (2, [])
    native = score(tiny.lake, **GROUP, prediction_id=prediction_id)
    assert {code for _, code, _ in native.failed} == {"frame_size"}


def test_another_reference_frame_is_another_score(make_lake: Callable[..., Any]) -> None:
    tiny = make_lake(clips=2)
    prediction_id = tiny.add_method("a", soften)
    score(tiny.lake, **GROUP, prediction_id=prediction_id)
    rows = tiny.lake.rows("predictions")
    tiny.lake.write("predictions", [{**row, "reference_frame": None} for row in rows])
    report = score(tiny.lake, **GROUP, prediction_id=prediction_id)
    assert (report.scored, report.cached) == (2, 0)
    counts = {row["metric"]: (row["frames"], row["windows"]) for row in benchmark(tiny.lake, **GROUP).to_pylist()}
    assert counts["l1"] == (2 * 18, None)
    assert counts["fid"] == (2 * 18, None)


def test_clips_that_are_no_longer_delivered_are_missing(make_lake: Callable[..., Any]) -> None:
    from pipelines.prediction_manifest import read_manifest, write_manifest

    tiny = make_lake(clips=3)
    prediction_id = tiny.add_method("a", soften)
    folder = tiny.lake.root / "generated" / "a-0"
    manifest = read_manifest(folder)
    write_manifest(folder, dataclasses.replace(manifest, clips=manifest.clips[:1]))
    assert import_predictions(tiny.lake, folder).prediction_id == prediction_id
    report = score(tiny.lake, **GROUP, prediction_id=prediction_id)
    assert (report.scored, [code for _, code, _ in report.failed]) == (1, ["missing_prediction"] * 2)


def test_clips_without_a_window_are_said(make_lake: Callable[..., Any]) -> None:
    tiny = make_lake(clips=2, frames=12)
    prediction_id = tiny.add_method("a", soften)
    score(tiny.lake, **GROUP, prediction_id=prediction_id)
    notes = {row["metric"]: row["note"] for row in benchmark(tiny.lake, **GROUP).to_pylist()}
    assert "shorter than a window of 16: 2" in notes["fvd"]


@pytest.mark.parametrize("reference", [-1, 18, 1000])
def test_a_reference_frame_outside_the_clip_is_an_error(reference: int) -> None:
    from pipelines.prediction_manifest import PredictedClip

    with pytest.raises(UserError, match=r"reference_frame is .* not in 0\.\.17"):
        PredictedClip(clip_id="c", file="c.mp4", sha256="", frames=18, reference_frame=reference)
