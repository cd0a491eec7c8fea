"""Fades, parts of a file, crops, folders of images: what becomes an edge and what a clip then holds."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pipelines import split
from pipelines.clip import Clip, Frames, clip_id_of
from pipelines.clip_rows import rule_digest
from pipelines.cuts import mean_luma
from pipelines.fades import merge_fades, ramp
from pipelines.lake import Lake
from pipelines.sources.scan import scan_file
from pipelines.split import SplitRule, find_cuts, index_part, index_video, split_video
from pipelines.video import decode_frames, encode_video, iterate_frames, probe, read_video

RULE = SplitRule()


def shot(frames: int, seed: int) -> Frames:
    """A textured background with a moving square, [T, 96, 128, 3]."""
    ground = np.kron(np.random.default_rng(seed).integers(40, 236, (6, 8, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    video = np.repeat(ground[None], frames, axis=0)
    for number in range(frames):
        video[number, 30:60, 5 + number % 60 : 35 + number % 60] = (250, 240, 30)
    return video


def faded(frames: Frames, *, into: int = 0, out: int = 0) -> Frames:
    """Linear fades: `into` frames from black at the start, `out` frames to black at the end."""
    gain = np.ones(len(frames))
    if into:
        gain[:into] = np.arange(into) / into
    if out:
        gain[-out:] = np.arange(out)[::-1] / out
    return np.round(frames * gain[:, None, None, None]).astype(np.uint8)


def black(frames: int) -> Frames:
    return np.zeros((frames, 96, 128, 3), np.uint8)


@pytest.mark.parametrize("length", [6, 12, 30])
@pytest.mark.parametrize("between", [1, 5, 20])
def test_a_fade_through_black_is_one_edge_in_the_middle_of_the_black(length: int, between: int) -> None:
    frames = np.concatenate([faded(shot(50, 1), out=length), black(between), faded(shot(50, 2), into=length)])
    dark = [number for number, image in enumerate(frames) if mean_luma(image) <= RULE.fade_level]
    (edge,) = find_cuts(frames, RULE)
    assert edge == (dark[0] + dark[-1] + 1) // 2
    assert 49 <= edge <= 50 + between + 1


def test_a_fade_on_one_side_ends_at_the_hard_cut_on_the_other() -> None:
    frames = np.concatenate([faded(shot(50, 1), out=15), black(10), shot(50, 2)])
    assert find_cuts(frames, RULE) == [60]
    frames = np.concatenate([shot(50, 1), black(10), faded(shot(50, 2), into=15)])
    assert find_cuts(frames, RULE) == [50]


def test_black_between_hard_cuts_stays_a_shot_of_its_own() -> None:
    assert find_cuts(np.concatenate([shot(40, 1), black(20), shot(40, 2)]), RULE) == [40, 60]


def test_fades_at_the_ends_of_a_video_are_no_edges() -> None:
    frames = np.concatenate([black(10), faded(shot(60, 3), into=12, out=12), black(10)])
    assert find_cuts(frames, RULE) == []


def test_a_cut_beside_a_fade_stays() -> None:
    frames = np.concatenate([shot(40, 1), faded(shot(30, 2), out=12), black(4), faded(shot(40, 3), into=12)])
    first, fade = find_cuts(frames, RULE)
    assert first == 40
    assert 68 <= fade <= 76


def test_fades_survive_the_codec(tmp_path: Path) -> None:
    frames = np.concatenate([faded(shot(50, 1), out=20), black(8), faded(shot(50, 2), into=20)])
    encode_video(tmp_path / "a.mp4", frames, Fraction(24))
    (edge,) = index_video(tmp_path / "a.mp4", RULE).cuts
    assert 50 <= edge <= 58


def test_a_slope_is_told_from_a_step() -> None:
    assert ramp([0, 20, 40, 60, 80, 80, 80, 80], 4) == 4
    assert ramp([0, 100, 100, 100, 100], 4) == 0
    assert ramp([0, 100, 101, 102, 103, 104], 4) == 0  # a hard cut, then a scene that grows brighter
    assert ramp([0, 20, 40, 60, 80, 200, 200], 4) == 4  # a slope, then a cut
    assert merge_fades([3], [50.0] * 3 + [0.0] * 3, SplitRule(fade_level=-1)) == [3]


def test_thresholds_are_part_of_the_rule_that_clips_carry() -> None:
    digests = {rule_digest(rule) for rule in (RULE, SplitRule(fade_level=5), SplitRule(fade_frames=8), SplitRule(adaptive_ratio=2.5))}
    assert len(digests) == 4
    with pytest.raises(ValueError, match="fade_frames"):
        SplitRule(fade_frames=1)


def _row(path: Path, **columns: Any) -> dict[str, Any]:
    info = probe(path)
    return {
        "dataset": "d", "video_id": path.name, "uri": str(path), "split": "train", "subject": None, "sha256": "0" * 64, "frames": info.frames,
        "fps_num": info.fps.numerator, "fps_den": info.fps.denominator, "time_base_num": info.time_base.numerator,
        "time_base_den": info.time_base.denominator, "width": info.width, "height": info.height, **columns,
    }  # fmt: skip


def _ranges(rows: list[dict[str, Any]]) -> list[tuple[int, int]]:
    return [(row["start_frame"], row["end_frame"]) for row in rows]


@pytest.fixture
def three_shots(tmp_path: Path) -> Path:
    """90 frames at 24 a second, cut at 30 and 60."""
    encode_video(tmp_path / "a.mp4", np.concatenate([shot(30, seed) for seed in (1, 2, 3)]), Fraction(24))
    return tmp_path / "a.mp4"


def test_a_part_of_a_file_is_split_at_the_cuts_inside_it(three_shots: Path) -> None:
    rows = split_video(_row(three_shots, range_start_s=10 / 24, range_end_s=75 / 24), three_shots, RULE)
    assert _ranges(rows) == [(10, 30), (30, 60), (60, 75)]
    whole = read_video(three_shots)
    for row in rows:
        assert np.array_equal(decode_frames(Clip.from_row(row)), whole[row["start_frame"] : row["end_frame"]])
        assert row["start_s"] == pytest.approx(row["start_frame"] / 24, abs=1e-6)


@pytest.mark.parametrize(
    ("start_s", "end_s", "expected"), [(None, 0.5, [(0, 12)]), (2.5, None, [(60, 90)]), (1.26, 2.49, [(30, 60)]), (3.0, 99.0, [(72, 90)])]
)
def test_ranges_may_be_open_and_mean_the_nearest_frames(
    three_shots: Path, start_s: float | None, end_s: float | None, expected: list[tuple[int, int]]
) -> None:
    assert _ranges(split_video(_row(three_shots, range_start_s=start_s, range_end_s=end_s), three_shots, RULE)) == expected


def test_a_part_is_found_without_decoding_the_rest(three_shots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    original = split.small_picture
    monkeypatch.setattr(split, "small_picture", lambda frame, width: seen.append(frame.pts) or original(frame, width))
    part = index_part(three_shots, RULE, 62 / 24, 80 / 24, Fraction(24))
    assert (part.start, part.end, part.cuts) == (62, 80, [])
    assert len(seen) == 80 - 62 + 16
    assert index_part(three_shots, RULE, 25 / 24, 35 / 24, Fraction(24)).cuts == [30]


def test_parts_of_files_without_an_index_are_the_same(tmp_path: Path, three_shots: Path) -> None:
    with av.open(str(three_shots)) as source, av.open(str(tmp_path / "a.ts"), "w", format="mpegts") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    for path in (three_shots, tmp_path / "a.ts"):
        rows = split_video(_row(path, fps_num=24, fps_den=1, range_start_s=1.0, range_end_s=3.0), path, RULE)
        assert _ranges(rows) == [(24, 30), (30, 60), (60, 72)]
        assert rows[0]["status"] == "dropped"
        assert np.array_equal(decode_frames(Clip.from_row(rows[1])), read_video(path)[30:60])


def test_a_part_outside_the_video_is_a_row_with_the_reason(three_shots: Path) -> None:
    for start_s, end_s in ((50.0, 60.0), (2.0, 1.0)):
        (row,) = split_video(_row(three_shots, range_start_s=start_s, range_end_s=end_s), three_shots, RULE)
        assert (row["status"], row["code"]) == ("failed", "bad_annotation")
        assert "3.75 s" in row["reason"]


def test_a_crop_travels_with_the_clip_and_its_id(three_shots: Path) -> None:
    crop = [16, 8, 64, 48]
    rows = split_video(_row(three_shots, crop=crop), three_shots, RULE)
    assert _ranges(rows) == [(0, 30), (30, 60), (60, 90)]
    assert rows[0]["clip_id"] == clip_id_of("0" * 64, 0, 30, crop) != clip_id_of("0" * 64, 0, 30)
    clip = Clip.from_row(rows[1])
    assert (clip.width, clip.height, clip.crop) == (64, 48, (16, 8, 64, 48))
    assert np.array_equal(decode_frames(clip), read_video(three_shots)[30:60, 8:56, 16:80])
    (row,) = split_video(_row(three_shots, crop=[100, 0, 64, 48]), three_shots, RULE)
    assert (row["status"], row["code"]) == ("failed", "bad_annotation")


def test_a_folder_of_images_is_split_like_a_video(tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "images"
    folder.mkdir()
    for number, image in enumerate(np.concatenate([shot(20, 1), shot(15, 2)])):
        Image.fromarray(image).save(folder / f"{number:04d}.png")
    info = probe(folder, Fraction(30))
    video = {"dataset": "d", "video_id": "v", "uri": str(folder), "split": None, "subject": None, "sha256": "1" * 64, "frames": info.frames,
             "fps_num": 30, "fps_den": 1, "time_base_num": 1, "time_base_den": 30, "width": 128, "height": 96}  # fmt: skip
    rows = split_video(video, folder, RULE)
    assert _ranges(rows) == [(0, 20), (20, 35)]
    assert [(row["start_pts"], row["start_s"]) for row in rows] == [(None, 0.0), (None, pytest.approx(20 / 30))]
    assert np.array_equal(decode_frames(Clip.from_row(rows[1])), shot(15, 2))
    part = split_video({**video, "range_start_s": 10 / 30, "range_end_s": 1.0}, folder, RULE)
    assert _ranges(part) == [(10, 20), (20, 30)]


def _check_ends(rows: list[dict[str, Any]], path: Path) -> None:
    """Every clip's decode is that slice of the whole decode, by picture and by stamp."""
    stamps, pictures = zip(*((stamp, image) for _, stamp, image in iterate_frames(path)), strict=True)
    assert [frame for row in rows for frame in range(row["start_frame"], row["end_frame"])] == list(range(len(stamps)))
    for row in rows:
        start, end = row["start_frame"], row["end_frame"]
        if row["start_pts"] is not None:
            assert row["start_pts"] == stamps[start]
            assert stamps[end - 1] < row["end_pts"]
            assert end == len(stamps) or stamps[end] == row["end_pts"]
        frames = decode_frames(Clip.from_row(row))
        assert len(frames) == end - start
        assert np.array_equal(frames[0], pictures[start])
        assert np.array_equal(frames[-1], pictures[end - 1])


def test_ends_are_exact_by_stamps_after_cutting(tmp_path: Path) -> None:
    encode_video(tmp_path / "a.mp4", np.concatenate([shot(n, n) for n in (23, 40, 31)]), Fraction(30000, 1001))
    lake = Lake(tmp_path / "lake").create()
    video = {"subject": None, **scan_file(lake, tmp_path / "a.mp4", dataset="d", video_id="a", split="all"), "uri": str(tmp_path / "a.mp4")}
    rows = split_video(video, tmp_path / "a.mp4", SplitRule(max_seconds=0.7))
    assert {23, 63} <= {row["start_frame"] for row in rows}
    _check_ends(rows, tmp_path / "a.mp4")


def test_ends_are_exact_on_real_footage(media: Path) -> None:
    for name in ("hamilton_cuts.mp4", "makeup_mpeg4.avi", "fashion_turn.gif", "nasa_rotated_meta.mp4"):
        path = media / "videos" / name
        _check_ends(split_video(_row(path), path, SplitRule(max_seconds=2.0, min_frames=1)), path)
