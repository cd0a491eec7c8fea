"""One person moved by another: what is measured without a true clip, and that nothing else is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

import eval.cross_table
import eval.protocols
from eval.benchmark import benchmark
from eval.cross_identity import NO_TRUTH, OWN_MOTION, cross_sides, followed_points, reference_picture, seen
from eval.geometry import centred_crop
from eval.metrics import METRICS
from eval.predictions import import_predictions
from eval.protocols import CROSS_IDENTITY, CROSS_IDENTITY_DEMO, DEMO_STANDIN
from eval.report import write_report
from eval.score import score
from eval.table import benchmark_table, table_text
from models.fitting import centre_box, fit_points
from pipelines.clip import Frames
from pipelines.errors import UserError
from pipelines.prediction_manifest import PredictionManifest, predicted_clip, write_manifest
from pipelines.video import encode_video
from tests.small_clips import noise


def no_network(role: str, frames: Frames) -> np.ndarray:
    pytest.fail(f"{role} was not asked for")


def changed(frames: Frames, amount: np.ndarray) -> Frames:
    """Each frame brighter by its amount."""
    return np.clip(frames.astype(int) + amount[:, None, None, None], 0, 255).astype(np.uint8)


def test_flicker_is_what_goes_there_and_back() -> None:
    still = np.full((7, 8, 10, 3), 100, np.uint8)
    own = METRICS["flicker_own"]
    for amount, expected in [(np.zeros(7, int), 0.0), (np.arange(7) * 5, 0.0), (np.array([0, 6] * 3 + [0]), 6.0)]:
        sides = cross_sides(changed(still, amount), None, None, no_network)
        values = own.values(sides)
        assert np.isnan(values[[0, -1]]).all()  # without a neighbour on one side
        assert np.allclose(values[1:-1], expected)
    random = noise(5)
    values = own.values(cross_sides(random, None, None, no_network))
    p = random.astype(float)
    assert np.allclose(values[1:-1], np.abs(p[2:] - 2 * p[1:-1] + p[:-2]).mean(axis=(1, 2, 3)) / 2)  # in other words


def test_identity_is_measured_against_the_reference_picture_alone() -> None:
    reference, prediction = noise(1, 16, 16), noise(4, 16, 16)
    axes = np.eye(3, dtype=np.float32)

    def features(role: str, frames: Frames) -> np.ndarray:
        assert role == "face"
        return axes[:1] if len(frames) == 1 else np.stack([axes[0], axes[1], np.full(3, np.nan, np.float32), 2 * axes[0] + 2 * axes[1]])

    values = METRICS["csim"].values(cross_sides(prediction, reference, None, features))
    assert np.allclose(values[[0, 1, 3]], [1, 0, np.sqrt(0.5)])
    assert np.isnan(values[2])  # no face in this frame
    assert np.isnan(METRICS["csim"].values(cross_sides(prediction, None, None, features))).all()  # nobody says what it was shown


def _person(seed: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """A standing body that sways: [T, 133, 2] px and [T, 133] scores; 17 joints."""
    rng = np.random.default_rng(seed)
    joints = np.array([(50, 18), (48, 16), (52, 16), (46, 17), (54, 17), (40, 32), (60, 32), (32, 44), (68, 44), (28, 56), (72, 56), (44, 58),
                       (56, 58), (43, 75), (57, 75), (42, 92), (58, 92)], np.float32)  # fmt: skip
    points = np.zeros((frames, 133, 2), np.float32)
    points[:, :17] = joints + rng.normal(0, 2, (frames, 17, 2))
    scores = np.zeros((frames, 133), np.float32)
    scores[:, :17] = 1
    return points, scores


@pytest.mark.parametrize("size", [(100, 100), (50, 50), (200, 100)])
def test_the_target_stands_where_the_method_was_told_to(size: tuple[int, int]) -> None:
    points, scores = _person(0, 3)
    target = followed_points(points, scores, points[0], scores[0], clip_size=(100, 100), size=size, kind="none")
    assert np.array_equal(target[..., :2], points)  # untouched
    reference, reference_scores = _person(1, 1)
    got = followed_points(points, scores, reference[0], reference_scores[0], clip_size=(100, 100), size=size)
    from pipelines.retarget import retarget

    placed = fit_points(reference[0], centre_box(100, 100, size), size)  # as the generator places it
    want = retarget("limb", points, scores, placed, reference_scores[0])
    np.testing.assert_allclose(got[:, :17, :2], want[:, :17], atol=1e-3 * max(size))
    np.testing.assert_array_equal(got[..., 2], scores)


def test_crops_are_the_generators() -> None:
    for whole, aspect in [((100, 60), (1, 1)), ((60, 100), (16, 9)), ((72, 96), (72, 96))]:
        assert centred_crop(whole, aspect) == pytest.approx(centre_box(whole[1], whole[0], aspect))
    frame = noise(1, 40, 60)[0]
    assert np.array_equal(reference_picture(frame, (40, 40))[0], frame[:, 10:50])


def test_pose_error_is_zero_where_the_body_is_as_told_and_grows_with_its_distance() -> None:
    points, scores = _person(0, 4)
    target = followed_points(points, scores, points[0], scores[0], clip_size=(100, 100), size=(100, 100), kind="none")
    for shift in (0.0, 3.0):
        moved = target + np.array([shift, 0, 0])
        sides = cross_sides(noise(4, 100, 100), noise(1, 100, 100), target, lambda role, frames, moved=moved: moved.reshape(4, -1))
        height = np.ptp(points[:, :17, 1], axis=1)
        np.testing.assert_allclose(METRICS["pose_error"].values(sides), 100 * shift / height, atol=1e-6)


def test_seen_keeps_frames_without_a_face_empty() -> None:
    rows = seen(np.array([[1, 2], [np.nan, np.nan]], np.float32))
    assert rows[0].tolist() == [1, 2]
    assert rows[1].size == 0


# --- in a lake ------------------------------------------------------------------------------------------------------


@pytest.fixture
def crossed(make_lake: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> tuple[Any, str]:
    """A lake of two people, each moved by the other, and a protocol without networks."""
    plain = replace(CROSS_IDENTITY_DEMO, name="cross_plain", networks={}, metrics=("flicker_own",))
    paired = replace(DEMO_STANDIN, name="self_plain", networks={}, metrics=("psnr",))
    added = MappingProxyType({**eval.protocols.PROTOCOLS, "cross_plain": plain, "self_plain": paired})
    for module in (eval.protocols, eval.cross_table):
        monkeypatch.setattr(module, "PROTOCOLS", added)
    tiny = make_lake(clips=2, frames=6, size=32)
    return tiny, add_crossed(tiny)


def add_crossed(tiny: Any, frames: Mapping[str, Frames] | None = None, length: int = 6) -> str:
    folder = tiny.lake.root / "generated" / "crossed"
    a, b = tiny.clip_ids
    entries = []
    for mine, driver in ((a, b), (b, a)):
        made = (frames or tiny.truth)[mine][:length]
        encode_video(folder / f"{mine}.mp4", made, Fraction(12))
        entry = predicted_clip(folder / f"{mine}.mp4", clip_id=mine, frames=len(made), reference_frame=0)
        entries.append(replace(entry, driving_clip_id=driver))
    named = {"method": "other", "variant": "", "seed": 0, "checkpoint_id": "", "sampler": '{"retarget": "limb"}'}
    write_manifest(folder, PredictionManifest(**named, dataset=tiny.dataset, split=tiny.split, clips=tuple(entries), driving="cross"))
    return import_predictions(tiny.lake, folder).prediction_id


def scored(tiny: Any, prediction_id: str, protocol: str) -> Any:
    return score(tiny.lake, protocol=protocol, dataset=tiny.dataset, split=tiny.split, prediction_id=prediction_id)


def test_ground_truth_metrics_are_skipped_and_say_why(crossed: tuple[Any, str]) -> None:
    tiny, prediction_id = crossed
    report = scored(tiny, prediction_id, "self_plain")
    assert (report.scored, report.failed, report.missing) == (0, [], {"truth": NO_TRUTH})
    assert not tiny.lake.rows("scores")
    with pytest.raises(UserError, match="no predictions for"):
        benchmark(tiny.lake, protocol="self_plain", dataset=tiny.dataset, split=tiny.split)
    own = tiny.add_method("copy_reference", lambda truth: np.repeat(truth[:1], len(truth), 0))
    scored(tiny, own, "self_plain")
    rows = benchmark(tiny.lake, protocol="self_plain", dataset=tiny.dataset, split=tiny.split).to_pylist()
    assert {row["prediction_id"] for row in rows} == {own}  # crossed clips stand in no column that needs a true clip
    skipped = scored(tiny, own, "cross_plain")
    assert (skipped.clips, skipped.scored, skipped.missing) == (0, 0, {"driving": OWN_MOTION})
    with pytest.raises(UserError, match="no predictions 'nobody'"):
        scored(tiny, "nobody", "cross_plain")


def test_scores_are_kept_until_something_behind_them_changes(crossed: tuple[Any, str]) -> None:
    tiny, prediction_id = crossed
    report = scored(tiny, prediction_id, "cross_plain")
    assert (report.clips, report.scored, report.cached, report.failed) == (2, 2, 0, [])
    rows = {row["clip_id"]: row for row in tiny.lake.rows("scores")}
    assert {len(row["per_frame"]) for row in rows.values()} == {6}
    assert all(row["count"] == 4 and row["sum"] > 0 for row in rows.values())
    assert (scored(tiny, prediction_id, "cross_plain").cached, scored(tiny, prediction_id, "cross_plain").scored) == (2, 0)
    (value,) = benchmark(tiny.lake, protocol="cross_plain", dataset=tiny.dataset, split=tiny.split).to_pylist()
    assert value["value"] == pytest.approx(sum(row["sum"] for row in rows.values()) / 8)
    assert (value["clips"], value["frames"]) == (2, 8)
    still = {clip_id: np.repeat(frames[:1], 6, 0) for clip_id, frames in tiny.truth.items()}
    add_crossed(tiny, still)
    assert benchmark(tiny.lake, protocol="cross_plain", dataset=tiny.dataset, split=tiny.split).to_pylist()[0]["value"] is None
    assert scored(tiny, prediction_id, "cross_plain").scored == 2
    (value,) = benchmark(tiny.lake, protocol="cross_plain", dataset=tiny.dataset, split=tiny.split).to_pylist()
    assert value["value"] < 0.5


def test_a_clip_of_another_length_than_its_driver_fails(crossed: tuple[Any, str]) -> None:
    tiny, _ = crossed
    prediction_id = add_crossed(tiny, length=5)
    report = scored(tiny, prediction_id, "cross_plain")
    assert [code for _, code, _ in report.failed] == ["frame_count"] * 2
    assert {row["status"] for row in tiny.lake.rows("scores")} == {"failed"}
    (value,) = benchmark(tiny.lake, protocol="cross_plain", dataset=tiny.dataset, split=tiny.split).to_pylist()
    assert (value["value"], "2 of 2 clips missing (frame_count: 2)" in value["note"]) == (None, True)


def test_the_demos_networks_fill_the_table(crossed: tuple[Any, str]) -> None:
    tiny, prediction_id = crossed
    report = scored(tiny, prediction_id, "cross_identity_demo")
    assert report.scored == 2
    rows = benchmark(tiny.lake, protocol="cross_identity_demo", dataset=tiny.dataset, split=tiny.split).to_pylist()
    found = {row["metric"]: row for row in rows}
    assert set(found) == set(CROSS_IDENTITY.metrics)
    at_hand = {metric for metric in found if METRICS[metric].role in (None, *report.networks)}
    assert {"flicker_own", "pose_error"} <= at_hand
    for metric, row in found.items():
        if metric not in at_hand:
            assert "not at hand" in row["note"]
    text = table_text(benchmark_table(rows))
    assert "Flicker (own)" in text
    assert "PSNR" not in text


def test_the_report_has_a_section_of_its_own(crossed: tuple[Any, str], tmp_path: Path) -> None:
    tiny, prediction_id = crossed
    own = tiny.add_method("copy_reference", lambda truth: np.repeat(truth[:1], len(truth), 0))
    named = {"dataset": tiny.dataset, "split": tiny.split}
    for made, protocol in ((own, "self_plain"), (prediction_id, "cross_plain")):
        scored(tiny, made, protocol)
        benchmark(tiny.lake, protocol=protocol, **named)
    page = write_report(tiny.lake, protocol="self_plain", **named, path=tmp_path / "report.html", max_clips=0)
    text = page.read_text(encoding="utf-8")
    section = text.split("<h2>Driven by another person</h2>")[1].split("<h2>")[0]
    assert "Flicker (own)" in section
    assert "PSNR" not in section
    assert "cross_plain" in (tmp_path / "report.md").read_text(encoding="utf-8")
    other = write_report(tiny.lake, protocol="cross_plain", **named, path=tmp_path / "crossed.html", max_clips=0)
    assert "<h2>Driven by another person</h2>" not in other.read_text(encoding="utf-8")
