"""Clips as files: a copy begins where it says, an exact one holds the clip's frames and no other."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from pipelines.clip import Clip, Frames
from pipelines.clip_export import copy_clip, encode_clip, export_clip
from pipelines.errors import ClipError
from pipelines.video import decode_frames, probe, read_video

TICK = 512  # of an mp4 at 24 frames a second: 1/12288 s


def moving(frames: int) -> Frames:
    """A grey texture that pans: every frame differs, and halved colour planes lose nothing."""
    grey = np.kron(np.random.default_rng(0).integers(40, 216, (20, 30, 1)), np.ones((8, 8, 1))).astype(np.uint8)
    ground = np.repeat(grey, 3, axis=2)
    return np.stack([ground[n % 60 : n % 60 + 96, n : n + 128] for n in range(frames)])


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 frames at 24 a second, a key frame every 20, B-frames."""
    path = tmp_path_factory.mktemp("source") / "a.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=24, options={"g": "20", "bf": "3", "x264-params": "scenecut=0"})
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for image in moving(90):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        out.mux(stream.encode(None))
    return path


def clip_of(path: Path, start: int, end: int) -> Clip:
    return Clip(dataset="d", clip_id="c", video_id="v", uri=str(path), start_frame=start, end_frame=end, start_pts=start * TICK, end_pts=end * TICK,
                time_base=Fraction(1, 12288), fps=Fraction(24), width=128, height=96)  # fmt: skip


@pytest.mark.parametrize(("start", "end"), [(0, 17), (20, 60), (33, 50), (70, 90), (19, 21)])
def test_a_copy_is_the_clip_behind_its_lead_in(source: Path, tmp_path: Path, start: int, end: int) -> None:
    clip = clip_of(source, start, end)
    made = export_clip(clip, tmp_path / "c.mp4", "copy")
    assert (made.frames, made.lead_in_frames) == (end - start, start % 20)
    assert made.start_s == pytest.approx(made.lead_in_frames / 24)
    with av.open(str(made.path), options={"ignore_editlist": "1"}) as container:
        held = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert len(held) == made.lead_in_frames + made.frames + made.tail_frames
    assert np.array_equal(held[made.lead_in_frames :][: made.frames], decode_frames(clip))
    # who honours the edit list sees the clip from its first frame on
    assert np.array_equal(read_video(made.path)[: made.frames], decode_frames(clip))
    assert made.tail_frames <= 3


@pytest.mark.parametrize(("start", "end"), [(0, 17), (33, 50), (89, 90)])
def test_an_exact_file_holds_exactly_the_clip(source: Path, tmp_path: Path, start: int, end: int) -> None:
    clip = clip_of(source, start, end)
    made = export_clip(clip, tmp_path / "e.mp4", "exact")
    back, asked = read_video(made.path), decode_frames(clip)
    assert back.shape == asked.shape
    assert np.abs(back.astype(int) - asked).mean() < 5.0
    assert probe(made.path).fps == 24
    assert [path.name for path in tmp_path.iterdir()] == ["e.mp4"]


def test_exact_crops_and_keeps_uneven_stamps(source: Path, tmp_path: Path) -> None:
    clip = dataclasses.replace(clip_of(source, 12, 30), crop=(9, 4, 51, 33), width=51, height=33)
    encode_clip(clip, tmp_path / "e.mp4")
    back = read_video(tmp_path / "e.mp4")
    assert back.shape == (18, 32, 50, 3)
    assert np.abs(back.astype(int) - decode_frames(clip)[:, :32, :50]).mean() < 8.0
    stamps = np.cumsum([0] + [20 if n % 3 else 90 for n in range(29)]).tolist()
    with av.open(str(tmp_path / "v.mp4"), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for image, stamp in zip(moving(30), stamps, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = stamp, Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with av.open(str(tmp_path / "v.mp4")) as container:
        base, held = container.streams.video[0].time_base, [frame.pts for frame in container.decode(video=0)]
    uneven = dataclasses.replace(clip_of(tmp_path / "v.mp4", 5, 20), start_pts=held[5], end_pts=held[20], time_base=base, fps=Fraction(22))
    encode_clip(uneven, tmp_path / "u.mp4")
    with av.open(str(tmp_path / "u.mp4")) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert np.allclose(times, [float((held[n] - held[5]) * base) for n in range(5, 20)], atol=2e-3)


def test_what_cannot_be_copied_says_so_and_leaves_nothing(source: Path, tmp_path: Path) -> None:
    clip = clip_of(source, 10, 20)
    for changed in ({"crop": (0, 0, 16, 16)}, {"start_pts": None, "end_pts": None}, {"end_pts": 24 * TICK}):
        with pytest.raises(ClipError, match="mode exact"):
            copy_clip(dataclasses.replace(clip, **changed), tmp_path / "c.mp4")
    with pytest.raises(ClipError):
        encode_clip(dataclasses.replace(clip, end_frame=95, end_pts=95 * TICK), tmp_path / "e.mp4")
    assert list(tmp_path.iterdir()) == []


def test_real_footage(media: Path, tmp_path: Path) -> None:
    path = media / "videos" / "hamilton_cuts.mp4"
    with av.open(str(path)) as container:
        stamps = [frame.pts for frame in container.decode(video=0)]
    info = probe(path)
    clip = dataclasses.replace(clip_of(path, 82, 120), start_pts=stamps[82], end_pts=stamps[120], time_base=info.time_base, fps=info.fps,
                               width=info.width, height=info.height)  # fmt: skip
    asked = decode_frames(clip)
    assert np.array_equal(read_video(copy_clip(clip, tmp_path / "c.mp4").path)[: len(asked)], asked)
    back = read_video(encode_clip(clip, tmp_path / "e.mp4").path)
    assert back.shape == asked.shape
    assert np.abs(back.astype(int) - asked).mean() < 4.0
