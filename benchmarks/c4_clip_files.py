"""C4: twelve clips per video as files. Peers, restated with PyAV: one decode-and-encode per clip from the key frame before it (what Open-Sora
asks of ffmpeg), and one pass over the whole video that encodes everything and starts a new file at every edge (video2dataset's segments).

All encode with x264 `veryfast`, crf 18; neither makes RGB of a frame, as ffmpeg does not.

python -m benchmarks.c4_clip_files [--videos 5] [--rounds 3]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np

from benchmarks.generated_video import clip_of, shots, write
from benchmarks.side_by_side import alternate, report
from pipelines.clip import Clip
from pipelines.clip_export import copy_clip, encode_clip
from pipelines.clip_frames import read_clip
from pipelines.video import probe

OPTIONS = {"preset": "veryfast", "crf": "18"}
SECONDS, CLIPS, LENGTH_S, FPS = 60, 12, 4, 30


def _encoder(out: Any, like: Any) -> Any:
    stream = out.add_stream("libx264", rate=FPS, options=OPTIONS)
    stream.width, stream.height, stream.pix_fmt = like.width, like.height, "yuv420p"
    return stream


def per_clip(clip: Clip, path: Path) -> None:
    """Open, seek to the key frame before, decode up to the clip, encode it."""
    with av.open(clip.uri) as source, av.open(str(path), "w", options={"movflags": "+faststart"}) as out:
        stream = source.streams.video[0]
        stream.thread_type = "AUTO"
        source.seek(clip.start_pts or 0, stream=stream, backward=True)
        target = _encoder(out, stream)
        for frame in source.decode(stream):
            if frame.pts < (clip.start_pts or 0):
                continue
            if frame.pts >= (clip.end_pts or 0):
                break
            frame.pts, frame.pict_type = frame.pts - (clip.start_pts or 0), 0
            out.mux(target.encode(frame))
        out.mux(target.encode(None))


def segments(clips: list[Clip], folder: Path) -> None:
    """Decode and encode all; a file for every stretch between edges, wanted or not."""
    edges = {edge for clip in clips for edge in (clip.start_frame, clip.end_frame)}
    out: Any = None
    target: Any = None
    with av.open(clips[0].uri) as source:
        stream = source.streams.video[0]
        stream.thread_type = "AUTO"
        start = 0
        for number, frame in enumerate(source.decode(stream)):
            if out is None or number in edges:
                if out is not None:
                    out.mux(target.encode(None))
                    out.close()
                out, start = av.open(str(folder / f"s{number:06d}.mp4"), "w"), frame.pts
                target = _encoder(out, stream)
            frame.pts, frame.pict_type = frame.pts - start, 0
            out.mux(target.encode(frame))
        out.mux(target.encode(None))
        out.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, clips = Path(name), []
        for number in range(options.videos):
            path = write(folder / f"{number}.mp4", shots(SECONDS, CLIPS, 1280, 720, seed=number * 50), 1280, 720)
            every = SECONDS // CLIPS * FPS
            clips += [clip_of(path, at * every + 15, at * every + 15 + LENGTH_S * FPS) for at in range(CLIPS)]
        out = folder / "out"
        out.mkdir()
        _check(clips[3], out)
        videos = [clips[at : at + CLIPS] for at in range(0, len(clips), CLIPS)]
        sides: dict[str, Callable[[], object]] = {
            "copy": lambda: [copy_clip(clip, out / f"{clip.clip_id}.mp4") for clip in clips],
            "exact": lambda: [encode_clip(clip, out / f"{clip.clip_id}.mp4") for clip in clips],
            "per_clip": lambda: [per_clip(clip, out / f"{clip.clip_id}.mp4") for clip in clips],
            "segments": lambda: [segments(mine, out) for mine in videos],
        }
        seconds = alternate(sides, options.rounds)
    ratios = {
        "per_clip/copy": (seconds["per_clip"] / seconds["copy"], 20.0),
        "per_clip/exact": (seconds["per_clip"] / seconds["exact"], 1.0),
        "segments/exact": (seconds["segments"] / seconds["exact"], 1.0),
    }
    report(f"C4 {len(clips)} clip files", seconds, ratios, "equal frame counts; copied frames equal the source's")


def _check(clip: Clip, out: Path) -> None:
    made = encode_clip(clip, out / "exact.mp4")
    per_clip(clip, out / "peer.mp4")
    assert probe(made.path).frames == probe(out / "peer.mp4").frames == clip.num_frames
    copied = copy_clip(clip, out / "copy.mp4")
    whole = clip_of(copied.path, 0, probe(copied.path).frames)
    assert np.array_equal(read_clip(whole, range(clip.num_frames)), read_clip(clip, range(clip.num_frames)))


if __name__ == "__main__":
    main()
