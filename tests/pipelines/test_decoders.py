"""Ways of asking for frames: whichever is taken, a frame index is the same picture; and a decoder that hangs or dies is replaced."""

from __future__ import annotations

import dataclasses
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pipelines import clip_frames, video_stream
from pipelines.clip import Clip, Frames
from pipelines.clip_frames import pattern_of
from pipelines.decord_process import CLIPS_PER_PROCESS, DecordProcess
from pipelines.errors import ClipError
from pipelines.video import decode_frames, encode_video, iterate_clip, iterate_frames, probe, read_video
from pipelines.video_stream import Packet, needed_packets

DECORD_TOLERANCE = 3.0  # mean absolute difference, of 255: another FFmpeg, which converts the colours with other rounding


def moving(frames: int, seed: int, height: int = 96, width: int = 128) -> Frames:
    """Texture that moves and changes, so that every frame differs from every other."""
    rng = np.random.default_rng(seed)
    ground = np.kron(rng.integers(30, 200, (height // 8 + 8, width // 8 + 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    video = np.stack([ground[n % 60 : n % 60 + height, (2 * n) % 60 : (2 * n) % 60 + width] for n in range(frames)])
    for number in range(frames):
        video[number, :8, : 8 + number % 100] = 250
    return video


def written(path: Path, frames: Frames, codec: str = "libx264", container: str | None = None, **options: str) -> Path:
    """A video file, 24 frames a second."""
    with av.open(str(path), "w", format=container) as out:
        stream = out.add_stream(codec, rate=24, options={"g": "16", "bf": "3", **options})
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        for image in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        out.mux(stream.encode(None))
    return path


def clip_of(path: Path, start: int, end: int, **changes: Any) -> Clip:
    """Frames start to end of a file, by their stamps."""
    with video_stream.opened(path) as (container, stream):
        stamps = video_stream.sorted_stamps(video_stream.list_packets(container, stream, path.name))
    info = probe(path)
    assert stamps is not None
    after = [*stamps, 2 * stamps[-1] - stamps[-2]]
    clip = Clip(dataset="d", clip_id="c", video_id=path.name, uri=str(path), start_frame=start, end_frame=end, start_pts=stamps[start],
                end_pts=after[end], time_base=info.time_base, fps=info.fps, width=info.width, height=info.height)  # fmt: skip
    return dataclasses.replace(clip, **changes)


CODINGS = {
    "h264": ("a.mp4", "libx264", None, {}),
    "h264_open_groups": ("a.mp4", "libx264", None, {"x264-params": "open-gop=1:scenecut=0"}),
    "h264_b_pyramid": ("a.mkv", "libx264", "matroska", {"x264-params": "b-pyramid=normal:bframes=4:b-adapt=0"}),
    "hevc_open_groups": ("a.mp4", "libx265", None, {"x265-params": "log-level=none:open-gop=1:keyint=16:pools=1"}),
    "mpeg4": ("a.avi", "mpeg4", None, {}),
    "mpeg2": ("a.mkv", "mpeg2video", None, {}),
    "vp9": ("a.webm", "libvpx-vp9", None, {"deadline": "realtime", "cpu-used": "8"}),
    "mpegts": ("a.ts", "libx264", "mpegts", {}),
}


@pytest.mark.parametrize("coding", CODINGS)
def test_single_frames_are_those_of_the_whole_in_every_coding(tmp_path: Path, coding: str) -> None:
    name, codec, container, options = CODINGS[coding]
    path = written(tmp_path / name, moving(80, 1), codec, container, **options)
    whole = read_video(path)
    assert len(whole) == 80
    for start, end in ((0, 80), (15, 70), (31, 66)):
        clip = clip_of(path, start, end)
        assert np.array_equal(decode_frames(clip), whole[start:end]), (start, end)
        for wanted in ([0, end - start - 1], list(range(0, end - start, 7)), [33, 2, 14], [20, 19, 21, 1]):
            got = decode_frames(clip, wanted)
            assert np.array_equal(got, whole[start:end][wanted]), (start, end, wanted)


def test_single_frames_decode_little(tmp_path: Path) -> None:
    path = written(tmp_path / "a.mp4", moving(160, 2), **{"x264-params": "scenecut=0"})

    with video_stream.opened(path) as (container, stream):
        packets = video_stream.list_packets(container, stream, "a")
    stamps = sorted(packet.pts for packet in packets if packet.pts is not None)
    assert sum(needed_packets(packets, {stamps[16], stamps[96]})) == 2  # key frames alone
    assert sum(needed_packets(packets, {stamps[20]})) <= 16  # one group


def test_a_frame_shown_before_its_key_frame_needs_the_group_before() -> None:
    packets = [Packet(0, True), Packet(2, False), Packet(1, False), Packet(5, True), Packet(3, False), Packet(4, False), Packet(6, False)]
    assert needed_packets(packets, {4}) == [True, True, True, True, True, True, False]
    assert needed_packets(packets, {6}) == [False, False, False, True, True, True, True]
    assert needed_packets(packets, {2}) == [True, True, False, False, False, False, False]


def test_the_pattern_of_a_request(tmp_path: Path) -> None:
    clip = clip_of(written(tmp_path / "a.mp4", moving(40, 3)), 0, 40)
    assert pattern_of(clip, range(40)) == "whole"
    assert pattern_of(dataclasses.replace(clip, start_frame=5), range(35)) == "range"
    assert pattern_of(clip, [0, 20, 39]) == "sparse"
    assert pattern_of(clip, [7]) == "whole"


def test_indices_outside_the_clip_are_the_programmers_error(tmp_path: Path) -> None:
    clip = clip_of(written(tmp_path / "a.mp4", moving(20, 3)), 5, 15)
    for wrong in ([10], [-1], [0, 9, 12]):
        with pytest.raises(IndexError, match="has 10 frames"):
            decode_frames(clip, wrong)
    assert decode_frames(clip, []).shape == (0, 96, 128, 3)
    assert np.array_equal(*(decode_frames(clip, [3, 3])))


def test_a_crop_is_that_part_of_the_full_frame(tmp_path: Path) -> None:
    path = written(tmp_path / "a.mp4", moving(30, 4))
    whole = read_video(path)
    clip = clip_of(path, 8, 24, crop=(11, 7, 50, 31), width=50, height=31)
    assert np.array_equal(decode_frames(clip), whole[8:24, 7:38, 11:61])
    assert np.array_equal(decode_frames(clip, [9, 1]), whole[[17, 9], 7:38, 11:61])
    assert np.array_equal(np.concatenate(list(iterate_clip(clip, 5))), whole[8:24, 7:38, 11:61])
    with pytest.raises(ClipError) as caught:
        decode_frames(dataclasses.replace(clip, crop=(100, 0, 50, 31)))
    assert caught.value.code == "bad_annotation"


@pytest.mark.parametrize("chunk", [1, 7, 16, 100])
def test_chunks_are_the_clip(tmp_path: Path, chunk: int) -> None:
    clip = clip_of(written(tmp_path / "a.mp4", moving(30, 5)), 10, 26)
    chunks = list(iterate_clip(clip, chunk))
    assert [len(part) for part in chunks] == [min(chunk, 16 - at) for at in range(0, 16, chunk)]
    assert np.array_equal(np.concatenate(chunks), decode_frames(clip))
    with pytest.raises(ValueError, match="chunk=0"):
        next(iterate_clip(clip, 0))


def _folder(path: Path, frames: Frames, ending: str = "png") -> Path:
    from PIL import Image

    path.mkdir()
    for number, image in enumerate(frames, start=1):
        Image.fromarray(image).save(path / f"{number}.{ending}")
    return path


def test_a_folder_of_numbered_images_is_a_video(tmp_path: Path) -> None:
    frames = moving(12, 6)
    folder = _folder(tmp_path / "images", frames)  # 10.png comes after 9.png
    (folder / "notes.txt").write_text("not an image")
    info = probe(folder, Fraction(30))
    assert (info.width, info.height, info.frames, info.fps, info.container, info.codec) == (128, 96, 12, Fraction(30), "frames", "png")
    assert info.time_base == Fraction(1, 30)
    assert np.array_equal(read_video(folder), frames)
    assert [stamp for _, stamp, _ in iterate_frames(folder)] == [None] * 12
    clip = Clip(dataset="d", clip_id="c", video_id="v", uri=str(folder), start_frame=2, end_frame=12, start_pts=None, end_pts=None,
                time_base=info.time_base, fps=info.fps, width=128, height=96)  # fmt: skip
    assert np.array_equal(decode_frames(clip), frames[2:])
    assert np.array_equal(decode_frames(clip, [9, 0]), frames[[11, 2]])
    cut = dataclasses.replace(clip, crop=(4, 5, 20, 10), width=20, height=10)
    assert np.array_equal(np.concatenate(list(iterate_clip(cut, 4))), frames[2:, 5:15, 4:24])
    with pytest.raises(ClipError, match="2 of 12 frames"):
        decode_frames(dataclasses.replace(clip, end_frame=14))


def test_folders_that_cannot_be_used_say_why(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "images", moving(4, 7))
    (tmp_path / "none").mkdir()
    with pytest.raises(ClipError, match="no frame rate"):
        probe(folder)
    with pytest.raises(ClipError) as caught:
        probe(tmp_path / "none", Fraction(30))
    assert caught.value.code == "no_frames"
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:500])
    with pytest.raises(ClipError, match=r"3\.png is no whole image"):
        read_video(folder)
    _folder(tmp_path / "small", moving(1, 8, 48, 64))
    (folder / "3.png").write_bytes((tmp_path / "small" / "1.png").read_bytes())
    with pytest.raises(ClipError, match=r"3\.png is 64x48, others are 128x96"):
        read_video(folder)


def test_both_decoders_agree_frame_by_frame(tmp_path: Path) -> None:
    pytest.importorskip("decord")
    path = written(tmp_path / "a.mp4", moving(60, 9))
    clip = clip_of(path, 13, 49)
    ours = decode_frames(clip, decoder="pyav").astype(np.int16)
    theirs = decode_frames(clip, decoder="decord")
    assert np.abs(ours - theirs).mean(axis=(1, 2, 3)).max() < DECORD_TOLERANCE
    wanted = [30, 4, 17]
    assert np.array_equal(decode_frames(clip, wanted, decoder="decord"), theirs[wanted])


def test_both_decoders_agree_on_real_footage(media: Path) -> None:
    pytest.importorskip("decord")
    compared = []
    for path in sorted((media / "videos").iterdir()):
        clip = clip_of(path, 5, min(45, probe(path).frames))
        wanted = [0, clip.num_frames // 3, clip.num_frames - 1]
        ours = decode_frames(clip, wanted, decoder="pyav").astype(np.int16)
        try:
            theirs = decode_frames(clip, wanted, decoder="decord")
        except ClipError:  # it does not open some files; then it must say so, and not answer with other frames
            continue
        compared.append(path.name)
        assert np.abs(ours - theirs).mean(axis=(1, 2, 3)).max() < DECORD_TOLERANCE, path.name
    assert len(compared) >= 6, compared


def test_decord_is_not_asked_where_it_would_count_or_turn_otherwise(media: Path) -> None:
    clip = clip_of(media / "videos" / "nasa_rotated_meta.mp4", 2, 6)
    with pytest.raises(ClipError, match=r"rotation|not installed"):
        decode_frames(clip, decoder="decord")


def test_the_other_decoder_takes_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("decord")
    clip = clip_of(written(tmp_path / "a.mp4", moving(24, 10)), 4, 20)
    whole = decode_frames(clip)

    def fails(*_: object) -> Frames:
        raise ClipError("decode_error", "c", "made to fail", "nothing")

    monkeypatch.setitem(clip_frames._READERS, "pyav", fails)
    assert np.abs(decode_frames(clip).astype(np.int16) - whole).mean() < DECORD_TOLERANCE
    monkeypatch.setitem(clip_frames._READERS, "decord", fails)
    with pytest.raises(ClipError, match="made to fail"):
        decode_frames(clip)


def test_a_damaged_file_fails_in_both(tmp_path: Path) -> None:
    encode_video(tmp_path / "a.mp4", moving(60, 11), Fraction(24))
    clip = clip_of(tmp_path / "a.mp4", 0, 60)
    data = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(ClipError) as caught:
        decode_frames(clip)
    assert caught.value.code in ("decode_error", "truncated")


def _child(tmp_path: Path, body: str) -> DecordProcess:
    (tmp_path / "child.py").write_text(f"import sys, time, json, os\nline = sys.stdin.readline()\n{body}\n")
    return DecordProcess([sys.executable, str(tmp_path / "child.py")])


def test_a_child_that_hangs_is_killed_and_one_that_dies_is_an_error(tmp_path: Path) -> None:
    hanging = _child(tmp_path, "time.sleep(600)")
    with pytest.raises(ClipError) as caught:
        hanging.frames(Path("a.mp4"), [0], "c", limit_s=0.5)
    assert caught.value.code == "timeout"
    assert hanging._child is None
    for body in ("os._exit(1)", 'print(json.dumps({"frames": 3, "shape": [1, 4, 4, 3]}), flush=True)'):  # at once; before the pixels
        dying = _child(tmp_path, body)
        with pytest.raises(ClipError) as caught:
            dying.frames(Path("a.mp4"), [0], "c", limit_s=20.0)
        assert caught.value.code == "worker_died"


@pytest.mark.slow
def test_the_child_is_replaced_before_its_leak_grows(tmp_path: Path) -> None:
    pytest.importorskip("decord")
    path = written(tmp_path / "a.mp4", moving(8, 12))
    process = DecordProcess()
    seen = set()
    for _ in range(CLIPS_PER_PROCESS + 2):
        process.frames(path, [0, 3], "c")
        assert process._child is not None
        seen.add(process._child.pid)
    assert len(seen) == 2
    with pytest.raises(ClipError, match="decord"):
        process.frames(tmp_path / "absent.mp4", [0], "c")
    process.close()
