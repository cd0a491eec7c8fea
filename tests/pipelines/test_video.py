"""Video files: frames, ranges, rotation, uneven stamps, and every kind of broken file."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pipelines.clip import Clip, Frames
from pipelines.errors import ClipError
from pipelines.video import decode_frames, encode_video, iterate_frames, probe, read_video


def scene(frames: int, seed: int, height: int = 96, width: int = 128) -> Frames:
    """A textured background with a square that moves: nothing in it is a cut."""
    rng = np.random.default_rng(seed)
    ground = np.kron(rng.integers(40, 216, (height // 16, width // 16, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    video = np.repeat(ground[None], frames, axis=0)
    for number in range(frames):
        video[number, 30:60, 5 + number % 60 : 35 + number % 60] = (250, 240, 30)
    return video


def write_with_stamps(path: Path, frames: Frames, stamps: list[int], **options: Any) -> None:
    """An mp4 whose frames have the given stamps in milliseconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "16", "g": "10"})
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for image, stamp in zip(frames, stamps, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = stamp, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def clip_of(path: Path, start: int, end: int, *, pts: bool) -> Clip:
    """Frames start to end of a file, found by stamp or by counting."""
    stamps = [stamp for _, stamp, _ in iterate_frames(path)]
    info = probe(path)
    first, last = (stamps[start], [*stamps, 2 * stamps[-1] - stamps[-2]][end]) if pts else (None, None)  # type: ignore[operator,list-item]
    return Clip(dataset="d", clip_id="c", video_id=path.name, uri=str(path), start_frame=start, end_frame=end, start_pts=first, end_pts=last,
                time_base=info.time_base, fps=info.fps, width=info.width, height=info.height)  # fmt: skip


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    frames = scene(20, 0)
    encode_video(tmp_path / "a.mp4", frames, Fraction(24))
    back = read_video(tmp_path / "a.mp4")
    assert back.shape == frames.shape
    assert np.abs(back.astype(int) - frames).mean() < 4.0
    info = probe(tmp_path / "a.mp4")
    assert (info.frames, info.fps, info.width, info.height, info.variable_frame_rate) == (20, Fraction(24), 128, 96, False)


def test_equal_frames_give_equal_bytes_and_leave_no_partial_file(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        encode_video(tmp_path / name, scene(12, 1, 64, 64), Fraction(24), comment="same")
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]


def test_odd_sizes_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="even sizes"):
        encode_video(tmp_path / "a.mp4", np.zeros((2, 5, 4, 3), np.uint8), Fraction(24))


@pytest.mark.parametrize("pts", [True, False])
@pytest.mark.parametrize(("start", "end"), [(0, 7), (13, 31), (39, 40)])
def test_a_range_is_exactly_the_frames_of_the_whole(tmp_path: Path, start: int, end: int, pts: bool) -> None:
    write_with_stamps(tmp_path / "a.mp4", scene(40, 2), [40 * i for i in range(40)])
    whole = read_video(tmp_path / "a.mp4")
    clip = clip_of(tmp_path / "a.mp4", start, end, pts=pts)
    assert np.array_equal(decode_frames(clip), whole[start:end])
    assert np.array_equal(decode_frames(clip, [0]), whole[start : start + 1])


def test_chosen_frames_come_in_the_order_that_was_asked(tmp_path: Path) -> None:
    write_with_stamps(tmp_path / "a.mp4", scene(20, 3), [40 * i for i in range(20)])
    whole = read_video(tmp_path / "a.mp4")
    assert np.array_equal(decode_frames(clip_of(tmp_path / "a.mp4", 5, 15, pts=True), [9, 0, 4]), whole[[14, 5, 9]])


def test_uneven_stamps_are_a_variable_rate_and_ranges_stay_exact(tmp_path: Path) -> None:
    stamps = np.cumsum([0] + [20 if i % 3 else 90 for i in range(29)]).tolist()
    write_with_stamps(tmp_path / "a.mp4", scene(30, 4), stamps)
    assert probe(tmp_path / "a.mp4").variable_frame_rate
    whole = read_video(tmp_path / "a.mp4")
    assert len(whole) == 30
    assert np.array_equal(decode_frames(clip_of(tmp_path / "a.mp4", 11, 23, pts=True)), whole[11:23])


def test_a_clip_that_promises_more_frames_than_decode_is_an_error(tmp_path: Path) -> None:
    encode_video(tmp_path / "a.mp4", scene(10, 5), Fraction(24))
    clip = clip_of(tmp_path / "a.mp4", 0, 10, pts=False)
    with pytest.raises(ClipError) as caught:
        decode_frames(Clip(**{**{name: getattr(clip, name) for name in clip.__slots__}, "end_frame": 14}))
    assert caught.value.code == "decode_error"
    assert "4 of 14 frames" in caught.value.reason


def _code(path: Path) -> str:
    with pytest.raises(ClipError) as caught:
        probe(path)
    assert path.name in str(caught.value)
    return caught.value.code


def test_broken_files_say_how_they_are_broken(tmp_path: Path) -> None:
    encode_video(tmp_path / "whole.mp4", scene(60, 6), Fraction(24))  # the index comes first, as in files for the web
    data = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("words, no pictures")
    (tmp_path / "half.mp4").write_bytes(data[: len(data) * 2 // 3])
    (tmp_path / "no_index.mp4").write_bytes(data[:500])
    assert _code(tmp_path / "empty.mp4") == "empty_file"
    assert _code(tmp_path / "text.mp4") == "not_a_video"
    assert _code(tmp_path / "half.mp4") == "truncated"
    assert _code(tmp_path / "no_index.mp4") == "not_a_video"


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert _code(tmp_path / "sound.mp4") == "not_a_video"


def _turned(path: Path, source: Path) -> None:
    """A copy of an mp4 whose track header asks for a quarter turn clockwise: matrix (0 1; -1 0)."""
    data = bytearray(source.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version and flags (4), times and ids (20), reserved, layer, group, volume (16)
    one = (1 << 16).to_bytes(4, "big")
    zero, minus = bytes(4), ((-1 << 16) & 0xFFFFFFFF).to_bytes(4, "big")
    data[at : at + 36] = zero + one + zero + minus + zero + zero + zero + zero + (1 << 30).to_bytes(4, "big")
    path.write_bytes(data)


def test_rotation_metadata_is_applied(tmp_path: Path) -> None:
    encode_video(tmp_path / "plain.mp4", scene(6, 7), Fraction(24))
    _turned(tmp_path / "turned.mp4", tmp_path / "plain.mp4")
    plain, turned = read_video(tmp_path / "plain.mp4"), read_video(tmp_path / "turned.mp4")
    info = probe(tmp_path / "turned.mp4")
    assert (info.width, info.height, info.rotation_deg) == (96, 128, 90)
    assert np.array_equal(turned, np.rot90(plain, -1, axes=(1, 2)))  # clockwise


def test_real_rotated_and_badly_stamped_footage(media: Path) -> None:
    info = probe(media / "videos" / "nasa_rotated_meta.mp4")
    assert (info.width, info.height) == (270, 480)
    assert len(read_video(media / "videos" / "makeup_mpeg4.avi")) == 164
    assert probe(media / "videos" / "hamilton_cuts.mp4").fps == Fraction(2997, 100)
    codes = {path.name: _code(path) for path in sorted((media / "bad").iterdir())}
    assert codes == {
        "text_named.mp4": "not_a_video",
        "truncated_moov_first.mp4": "truncated",
        "truncated_no_moov.mp4": "not_a_video",
        "zero_byte.mp4": "empty_file",
    }


def _written(path: Path, frames: Frames, container: str | None, codec: str) -> None:
    """A healthy video in another container, a key frame every eight."""
    with av.open(str(path), "w", format=container) as out:
        stream = out.add_stream(codec, rate=24, options={"g": "8"})
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        for image in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("ending", "container", "codec"),
    [
        ("mkv", "matroska", "libx264"),
        ("mov", None, "libx264"),
        ("avi", None, "mpeg4"),
        ("flv", "flv", "flv1"),
        ("wmv", "asf", "wmv2"),
        ("ts", "mpegts", "libx264"),
        ("mpg", "mpeg", "mpeg1video"),
    ],
)
def test_ranges_are_exact_in_every_container(tmp_path: Path, ending: str, container: str | None, codec: str) -> None:
    path = tmp_path / f"a.{ending}"
    _written(path, scene(40, 8), container, codec)
    whole = read_video(path)
    assert len(whole) == 40
    for start in (10, 20, 30):
        assert np.array_equal(decode_frames(clip_of(path, start, start + 10, pts=True)), whole[start : start + 10]), start


def test_a_title_in_another_alphabet_is_no_fault(tmp_path: Path) -> None:
    encode_video(tmp_path / "a.mp4", scene(8, 9), Fraction(24), comment="AAAA in Paris")
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.count(b"AAAA") == 1
    (tmp_path / "b.mp4").write_bytes(data.replace(b"AAAA", b"Caf\xe9"))
    assert probe(tmp_path / "b.mp4").frames == 8


def test_an_unknown_codec_is_a_code(tmp_path: Path) -> None:
    encode_video(tmp_path / "a.mp4", scene(8, 9), Fraction(24))
    data = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "b.mp4").write_bytes(data.replace(b"avc1", b"zzzz").replace(b"avcC", b"zzzC"))
    assert _code(tmp_path / "b.mp4") == "not_a_video"
