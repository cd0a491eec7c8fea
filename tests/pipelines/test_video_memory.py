"""Memory does not follow a video's length: an hour in 3840x2160 is clipped within 2 GB."""

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

_LIMIT = 2 << 30
_MEASURE = """
import json, sys
from fractions import Fraction
from pathlib import Path
from pipelines.clip import Clip
from pipelines.split import SplitRule, split_video
from pipelines.video import iterate_clip, probe

def peak_kb():  # of this program alone: getrusage also counts what the parent held before the fork
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))

path = Path(sys.argv[1])
info = probe(path)
video = {"dataset": "d", "video_id": "v", "uri": str(path), "split": None, "subject": None, "sha256": "0" * 64, "frames": info.frames,
         "fps_num": info.fps.numerator, "fps_den": info.fps.denominator, "time_base_num": info.time_base.numerator,
         "time_base_den": info.time_base.denominator, "width": info.width, "height": info.height}
rows = split_video(video, path, SplitRule(max_seconds=float(sys.argv[2])))
split_kb = peak_kb()
clip = Clip.from_row(rows[-1])
held = sum(len(chunk) for chunk in iterate_clip(clip, 8))
print(json.dumps({"rows": len(rows), "ok": all(row["status"] == "ok" for row in rows), "frames": info.frames, "seconds": info.duration_s,
                  "clip": clip.num_frames, "held": held, "split": split_kb << 10,
                  "all": peak_kb() << 10}))
"""


def long_video(path: Path, repeats: int, fps: int, group: int = 12) -> None:
    """A 3840x2160 video made of one encoded group of pictures, repeated: cheap to write, and decoded like any other."""
    rng = np.random.default_rng(0)
    with av.open(str(path.with_suffix(".one.mp4")), "w") as out:
        stream = out.add_stream("libx264", rate=fps, options={"preset": "ultrafast", "g": str(group), "crf": "35"})
        stream.width, stream.height, stream.pix_fmt = 3840, 2160, "yuv420p"
        stripes = np.kron(rng.integers(60, 180, (27, 2, 3)), np.ones((80, 48, 1))).astype(np.uint8)
        ground = np.tile(stripes, (1, 40, 1))  # 96 px wide, moved by 8 px a frame: after 12 frames it begins again, without a cut
        for number in range(group):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(ground, number * 8, axis=1), format="rgb24")))
        out.mux(stream.encode(None))
    with av.open(str(path.with_suffix(".one.mp4"))) as source, av.open(str(path), "w") as out:
        stream = source.streams.video[0]
        copy = out.add_stream_from_template(stream)
        copy.time_base = stream.time_base
        length = int(group * Fraction(1, fps) / stream.time_base)
        packets = [(bytes(p), p.pts, p.dts, p.is_keyframe) for p in source.demux(stream) if p.size]
        for number in range(repeats):
            for data, pts, dts, key in packets:
                packet = av.Packet(data)
                packet.pts, packet.dts, packet.is_keyframe, packet.time_base = (
                    pts + number * length,
                    dts + number * length,
                    key,
                    stream.time_base,
                )
                packet.stream = copy
                out.mux(packet)


def _measured(path: Path, max_seconds: float) -> dict[str, float]:
    done = subprocess.run([sys.executable, "-c", _MEASURE, str(path), str(max_seconds)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_a_long_clip_of_large_frames_is_read_in_little_memory(tmp_path: Path) -> None:
    """96 frames of 3840x2160 are 2.4 GB as RGB; splitting and then streaming them stays far below."""
    long_video(tmp_path / "a.mp4", 8, 24)
    result = _measured(tmp_path / "a.mp4", 10.0)
    assert (result["frames"], result["rows"], result["clip"], result["held"]) == (96, 1, 96, 96)
    assert result["ok"]
    assert result["all"] < _LIMIT * 0.6


@pytest.mark.slow
def test_an_hour_of_large_frames_is_clipped_within_two_gigabytes(tmp_path: Path) -> None:
    """An hour at one frame a second; the decoder's work is that of 3600 frames, its memory that of any rate."""
    long_video(tmp_path / "a.mp4", 300, 1)
    result = _measured(tmp_path / "a.mp4", 120.0)
    assert (result["frames"], result["seconds"]) == (3600, 3600.0)
    assert result["rows"] == 30
    assert result["all"] < _LIMIT
