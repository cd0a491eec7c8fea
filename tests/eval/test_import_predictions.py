"""Clips of other labs: every layout gives the same numbers as its frames, and what does not fit is said before scoring."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from eval.import_predictions import import_foreign, pair_folder, score_folder, write_lossless
from eval.metrics.l1 import L1
from pipelines.errors import MissingWeightsError, UserError
from pipelines.video import decode_frames, encode_video, read_video

GROUP = {"dataset": "performers_test", "split": "test", "protocol": "demo_standin"}


def worse(frames: np.ndarray) -> np.ndarray:
    return np.clip(frames.astype(int) + 9, 0, 255).astype(np.uint8)


def write_frames(folder: Path, frames: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for i, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{i:06d}.png")


def l1_sums(tiny: Any, prediction_id: str) -> dict[str, float]:
    return {r["clip_id"]: r["sum"] for r in tiny.lake.rows("scores") if r["metric"] == "l1" and r["prediction_id"] == prediction_id}


def test_frames_strips_and_video_ids_give_the_exact_numbers(make_lake: Callable[..., Any], tmp_path: Path) -> None:
    tiny, shown = make_lake(clips=3, frames=6), []
    clips = tiny.lake.clips("performers_test", "test")
    made = {clip.clip_id: worse(decode_frames(clip)) for clip in clips}
    a, b, c = clips
    write_frames(tmp_path / "in" / a.clip_id / "frames", made[a.clip_id])
    write_frames(tmp_path / "in" / b.video_id, made[b.clip_id])
    Image.fromarray(np.concatenate(list(made[c.clip_id]), axis=1)).save(tmp_path / "in" / f"{c.clip_id}.png")
    report = score_folder(tiny.lake, tmp_path / "in", method="other", **GROUP, show=shown.append)
    assert (report.scored, report.failed) == (3, [])
    assert shown == ["3 of 3 clips can be scored"]
    assert L1.per_frame is not None
    for clip in clips:
        want = L1.per_frame(made[clip.clip_id][1:], decode_frames(clip)[1:]).sum()
        assert l1_sums(tiny, report.prediction_id)[clip.clip_id] == pytest.approx(want, abs=1e-15)
    assert {(r["lossy"], r["reason"]) for r in tiny.lake.rows("predictions")} == {(False, None)}
    again = score_folder(tiny.lake, tmp_path / "in", method="other", **GROUP, show=shown.append)
    assert (again.prediction_id, again.scored, again.cached) == (report.prediction_id, 0, 3)


def test_lossy_input_and_truth_sharpness_stand_beside_the_scores(make_lake: Callable[..., Any], tmp_path: Path) -> None:
    tiny, shown = make_lake(clips=2, frames=6), []
    a, b = tiny.lake.clips("performers_test", "test")
    (tmp_path / "in").mkdir()
    encode_video(tmp_path / "in" / f"{a.clip_id}.mp4", decode_frames(a), a.fps)
    drawn = decode_frames(b)
    drawn[:, :8, :8] = np.arange(6, dtype=np.uint8)[:, None, None, None] * 40  # a GIF joins frames that its palette makes equal
    images = [Image.fromarray(frame) for frame in drawn]
    images[0].save(tmp_path / "in" / f"{b.clip_id}.gif", save_all=True, append_images=images[1:], duration=80)
    (tmp_path / "in" / f"{b.clip_id}.json").write_text(json.dumps({"ref_index": 2, "uses_truth_sharpness": True, "steps": 25}))
    report = score_folder(tiny.lake, tmp_path / "in", method="other", **GROUP, show=shown.append)
    assert (report.scored, report.failed, shown) == (2, [], ["2 of 2 clips can be scored; 2 lossy"])
    flags = {(r["clip_id"], r["lossy"], r["truth_sharpness"]) for r in tiny.lake.rows("scores")}
    assert flags == {(a.clip_id, True, False), (b.clip_id, True, True)}
    again = score_folder(tiny.lake, tmp_path / "in", method="other", **GROUP, uses_truth_sharpness=True, show=shown.append)
    assert (again.scored, again.cached) == (1, 1)  # what is said about a clip has changed, so its scores are written again
    assert {r["truth_sharpness"] for r in tiny.lake.rows("scores")} == {True}
    rows = {r["clip_id"]: r for r in tiny.lake.rows("predictions")}
    assert [(rows[c.clip_id]["lossy"], rows[c.clip_id]["reference_frame"]) for c in (a, b)] == [(True, 0), (True, 2)]
    assert rows[a.clip_id]["sampler"] == "steps 25"


def test_everything_that_does_not_fit_is_named(make_lake: Callable[..., Any], tmp_path: Path) -> None:
    tiny, folder = make_lake(clips=6, frames=6), tmp_path / "in"
    clips = tiny.lake.clips("performers_test", "test")
    truth = [decode_frames(clip) for clip in clips]
    write_frames(folder / clips[0].clip_id, truth[0][:4])
    write_frames(folder / clips[1].clip_id, truth[1][:, :, :20])
    write_frames(folder / clips[2].clip_id, truth[2])
    (folder / clips[2].clip_id / "meta.json").write_text('{"ref_index": 6}')
    write_frames(folder / "stranger", truth[0])
    (folder / f"{clips[3].clip_id}.mp4").write_bytes(b"no video")
    write_frames(folder / clips[4].clip_id, np.pad(truth[4], ((0, 0), (2, 3), (4, 1), (0, 0))))
    (folder / clips[4].clip_id / "meta.json").write_text('{"padding": [4, 2, 1, 3]}')
    pairing = pair_folder(tiny.lake, folder, **GROUP)
    found = {finding.name: finding.problem for finding in pairing.findings}
    assert found == {clips[0].clip_id: "wrong length", clips[1].clip_id: "wrong size", clips[2].clip_id: "reference frame",
                     clips[3].clip_id: "unreadable", clips[5].clip_id: "missing", "stranger": "extra"}  # fmt: skip
    assert list(pairing.matched) == [clips[4].clip_id]
    assert not tiny.lake.rows("predictions")
    assert "4 frames, the true clip has 6" in pairing.text()
    report = score_folder(tiny.lake, folder, method="other", **GROUP, show=lambda _: None)
    assert l1_sums(tiny, report.prediction_id)[clips[4].clip_id] == 0.0


@pytest.mark.parametrize(
    "meta", ['{"color": 1}', "[", '{"crop_box_in_source": 5}', '{"ref_index": true}', '{"uses_truth_sharpness": 1}', '{"seed": "5"}']
)
def test_a_bad_meta_json_is_an_error(make_lake: Callable[..., Any], tmp_path: Path, meta: str) -> None:
    tiny = make_lake(clips=1, frames=2)
    write_frames(tmp_path / "in" / "000", tiny.truth[tiny.clip_ids[0]])
    (tmp_path / "in" / "000" / "meta.json").write_text(meta)
    with pytest.raises(UserError, match=r"meta\.json"):
        pair_folder(tiny.lake, tmp_path / "in", **GROUP)


def test_folders_that_cannot_be_used(make_lake: Callable[..., Any], tmp_path: Path) -> None:
    tiny = make_lake(clips=1, frames=2)
    with pytest.raises(UserError, match="no such folder"):
        pair_folder(tiny.lake, tmp_path / "none", **GROUP)
    (tmp_path / "in").mkdir()
    with pytest.raises(UserError, match="strip"):
        pair_folder(tiny.lake, tmp_path / "in", **GROUP)
    write_frames(tmp_path / "in" / "stranger", tiny.truth[tiny.clip_ids[0]])
    with pytest.raises(UserError, match="no clip can be scored"):
        score_folder(tiny.lake, tmp_path / "in", method="x", **GROUP, show=lambda _: None)
    with pytest.raises(UserError, match="no usable clips"):
        pair_folder(tiny.lake, tmp_path / "in", **{**GROUP, "split": "other"})


def test_lossless_means_the_same_bytes(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (5, 17, 23, 3), dtype=np.uint8)
    write_lossless(tmp_path / "a.ffv1.mkv", frames, Fraction(30000, 1001))
    assert np.array_equal(read_video(tmp_path / "a.ffv1.mkv"), frames)
    assert [path.name for path in tmp_path.iterdir()] == ["a.ffv1.mkv"]


def _as(mode: str, frame: np.ndarray) -> Image.Image:
    """The frame in another mode of Pillow."""
    if mode == "I;16":
        return Image.fromarray(frame[..., 0].astype(np.uint16) * 257)
    image = Image.fromarray(frame).convert(mode.removesuffix(" half"))
    if mode == "RGBA half":
        image.putalpha(128)
    return image


@pytest.mark.parametrize(
    ("mode", "said"),
    [("L", ""), ("RGBA", ""), ("P", ""), ("RGBA half", "partly transparent"), ("I;16", "more than 8 bits")],
)
def test_images_of_other_modes_are_read_right_or_refused(make_lake: Callable[..., Any], tmp_path: Path, mode: str, said: str) -> None:
    tiny = make_lake(clips=1, frames=4)
    (clip,) = tiny.lake.clips("performers_test", "test")
    truth = decode_frames(clip)
    images = [_as(mode, frame) for frame in worse(truth)]
    (tmp_path / "in" / clip.clip_id).mkdir(parents=True)
    for i, image in enumerate(images):
        image.save(tmp_path / "in" / clip.clip_id / f"{i:06d}.png")
    if said:
        with pytest.raises(UserError, match="no clip can be scored"):
            score_folder(tiny.lake, tmp_path / "in", method="other", **GROUP, show=lambda text: None if said in text else pytest.fail(text))
        return
    report = score_folder(tiny.lake, tmp_path / "in", method="other", **GROUP, show=lambda _: None)
    assert L1.per_frame is not None
    expected = L1.per_frame(np.stack([np.asarray(image.convert("RGB")) for image in images[1:]]), truth[1:]).sum()
    assert l1_sums(tiny, report.prediction_id)[clip.clip_id] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("frames", "cut"), [(1, 0), (2, 1), (5, 1)])
def test_one_frame_and_odd_sizes(make_lake: Callable[..., Any], tmp_path: Path, frames: int, cut: int) -> None:
    tiny = make_lake(clips=1, frames=frames, size=32)
    (clip,) = tiny.lake.clips("performers_test", "test")
    write_frames(tmp_path / "in" / clip.clip_id, worse(decode_frames(clip))[:, cut:, cut:])
    report = score_folder(tiny.lake, tmp_path / "in", method="other", **{**GROUP, "protocol": "standin_128"}, show=lambda _: None)
    if frames == 1:  # the only frame is the reference
        assert [(code, "no frame is left" in reason) for _, code, reason in report.failed] == [("too_short", True)]
        assert {row["status"] for row in tiny.lake.rows("scores")} == {"failed"}
    else:
        assert report.failed == []
        assert {row["metric"]: row["count"] for row in tiny.lake.rows("scores")}["psnr"] == frames - 1


@pytest.mark.parametrize(("mode", "said"), [("RGBA half", "partly transparent"), ("I;16", "more than 8 bits")])
def test_strips_are_read_as_carefully(make_lake: Callable[..., Any], tmp_path: Path, mode: str, said: str) -> None:
    tiny, shown = make_lake(clips=1, frames=4), []
    (clip,) = tiny.lake.clips("performers_test", "test")
    (tmp_path / "in").mkdir()
    _as(mode, np.concatenate(list(decode_frames(clip)), axis=1)).save(tmp_path / "in" / f"{clip.clip_id}.png")
    with pytest.raises(UserError, match="no clip can be scored"):
        score_folder(tiny.lake, tmp_path / "in", method="other", **GROUP, show=shown.append)
    assert said in shown[0]


def test_missing_networks_are_said_before_anything_is_read(
    make_lake: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("ROTOSCOPE_WEIGHTS", str(tmp_path / "empty"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    tiny, shown = make_lake(clips=1, frames=2, size=16), []
    write_frames(tmp_path / "in" / "000", tiny.truth[tiny.clip_ids[0]])
    with pytest.raises(MissingWeightsError, match="lpips"):
        score_folder(tiny.lake, tmp_path / "in", method="x", **{**GROUP, "protocol": "disco"}, show=shown.append)
    assert shown == tiny.lake.rows("predictions") == []


def test_a_protocol_that_resizes_predictions_takes_them_from_a_folder(make_lake: Callable[..., Any], tmp_path: Path) -> None:
    tiny = make_lake(clips=1, frames=4)
    (clip,) = tiny.lake.clips("performers_test", "test")
    write_frames(tmp_path / "in" / clip.clip_id, decode_frames(clip)[:, ::2, ::2])
    group = {name: GROUP[name] for name in ("dataset", "split")}
    assert list(pair_folder(tiny.lake, tmp_path / "in", protocol="hia_native", **group).matched) == [clip.clip_id]
    assert not pair_folder(tiny.lake, tmp_path / "in", protocol="demo_standin", **group).matched


def test_frames_must_be_numbered_without_a_gap(make_lake: Callable[..., Any], tmp_path: Path) -> None:
    tiny, folder = make_lake(clips=6, frames=4, size=16), tmp_path / "in"
    clips = tiny.lake.clips("performers_test", "test")
    for clip in clips:
        write_frames(folder / clip.clip_id, decode_frames(clip))
    gap, stranger, twice, late, one, named = [folder / clip.clip_id for clip in clips]
    (gap / "000002.png").rename(gap / "000009.png")
    (stranger / "000003.png").rename(stranger / "grid.png")
    (twice / "000003.png").rename(twice / "2.png")
    for i in range(4):
        (late / f"00000{i}.png").rename(late / f"{i + 7}.png")
        (named / f"00000{i}.png").rename(named / f"00337_{i}png.png")
    for i in (3, 2, 1, 0):
        (one / f"00000{i}.png").rename(one / f"00000{i + 1}.png")
    pairing = pair_folder(tiny.lake, folder, **GROUP)
    found = {finding.name: finding.problem for finding in pairing.findings}
    assert found == {gap.name: "wrong length", twice.name: "wrong length", late.name: "wrong length", stranger.name: "unreadable"}
    assert sorted(pairing.matched) == sorted([one.name, named.name])
    assert "grid.png is not numbered as 000000.png is" in pairing.text()
    assert "the images count 0, 1, 3 ...; 2 is not where it should be" in pairing.text()


def test_why_a_clip_was_refused_stands_in_its_rows(make_lake: Callable[..., Any], tmp_path: Path) -> None:
    tiny, folder, shown = make_lake(clips=3, frames=4, size=32), tmp_path / "in", []
    good, short, absent = tiny.lake.clips("performers_test", "test")
    write_frames(folder / good.clip_id, decode_frames(good)[..., :1].repeat(3, axis=3))
    for path in (folder / good.clip_id).iterdir():
        Image.open(path).convert("L").save(path)
    write_frames(folder / short.clip_id, decode_frames(short)[:3])
    report = score_folder(tiny.lake, folder, method="other", **GROUP, show=shown.append)
    assert f"grayscale: {good.clip_id}" in shown[0]
    assert {clip: code for clip, code, _ in report.failed} == {short.clip_id: "frame_count", absent.clip_id: "missing_prediction"}
    rows = {row["clip_id"]: row for row in tiny.lake.rows("predictions")}
    assert {clip: row["status"] for clip, row in rows.items()} == {good.clip_id: "ok", short.clip_id: "failed"}
    assert rows[short.clip_id]["reason"] == "wrong length: 3 frames, the true clip has 4"
    Image.fromarray(decode_frames(short)[3]).save(folder / short.clip_id / "000003.png")
    mended = score_folder(tiny.lake, folder, method="other", **GROUP, show=shown.append)
    assert (mended.scored, mended.cached, [clip for clip, *_ in mended.failed]) == (1, 1, [absent.clip_id])


def test_what_meta_json_says_of_method_and_seed_counts(make_lake: Callable[..., Any], tmp_path: Path) -> None:
    tiny, folder = make_lake(clips=2, frames=3, size=16), tmp_path / "in"
    clips = tiny.lake.clips("performers_test", "test")
    for clip in clips:
        write_frames(folder / clip.clip_id, decode_frames(clip))
        (folder / clip.clip_id / "meta.json").write_text('{"method": "champ", "seed": 5, "fps": 12}')
    named = {**GROUP, "show": lambda _: None}
    with pytest.raises(UserError, match="says 'champ'"):
        import_foreign(tiny.lake, folder, method="disco", **named)
    made = import_foreign(tiny.lake, folder, method="champ", **named)
    assert (made.seed, made.sampler) == (0, "seed 5")  # the seed given names the prediction, the one that was said is kept beside it
    assert import_foreign(tiny.lake, folder, method="champ", seed=5, **named).sampler == ""
    kept = tiny.lake.root / "generated" / "imported" / made.prediction_id / f"{clips[0].clip_id}.meta.json"
    assert json.loads(kept.read_text())["fps"] == 12
