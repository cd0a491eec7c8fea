"""Extraction through Ray against a bare loop and against the common practice: `python -m benchmarks.extraction_speed`.

Three random ONNX networks look at performers' clips. Bare loop: decode a clip, call the same networks in batches, in one process.
Common practice, restated: one pass over the videos per feature, one frame at a time, the skeleton drawn and encoded as an mp4.
The sides run in turn, networks with one thread; Ray has one actor. That decoding ahead and committing run beside the networks is the
engine's doing and counts for it; its start-up is left out: seconds = (t(all clips) - t(one clip)) * n / (n - 1).
Gates: Ray >= 0.9 of the bare loop's clips per second; >= 3 times the common practice.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.random_networks import simcc_graph
from pipelines.clip import Clip, Frames
from pipelines.extract import Rows, extract
from pipelines.lake import Lake
from pipelines.performers import write_dataset
from pipelines.video import decode_frames, encode_video, iterate_frames

SIZE, TABLES = 64, ("poses", "hands", "clip_embeddings")


@dataclass
class OnnxNetwork:
    """Sums of one network's outputs per frame, as rows of one table."""

    path: str
    table: str
    batch_frames: int = 16
    version: int = 1

    @property
    def name(self) -> str:
        return f"random_{self.table}"

    @property
    def tables(self) -> tuple[str, ...]:
        return (self.table,)

    def weights_digest(self) -> str:
        return "random"

    def load(self, device: str) -> Callable[[Clip, Frames], Rows]:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(self.path, options, providers=["CPUExecutionProvider"])

        def run(clip: Clip, frames: Frames) -> Rows:
            values = np.concatenate([_call(session, frames[i : i + self.batch_frames]) for i in range(0, len(frames), self.batch_frames)])
            return {self.table: [_row(self.table, value) for value in values]}

        return run


def _call(session: Any, frames: Frames) -> Any:
    import cv2

    resized = np.stack([cv2.resize(image, (SIZE, SIZE)) for image in frames])
    x, y = session.run(None, {"images": resized.transpose(0, 3, 1, 2).astype(np.float32)})
    return np.stack([x.argmax(-1), y.argmax(-1)], -1).astype(np.float32).reshape(len(frames), -1)  # [T, 266]


def _row(table: str, value: Any) -> dict[str, Any]:
    column = {"poses": "keypoints", "hands": "sharpness", "clip_embeddings": "embedding"}[table]
    return {column: value.tolist()}


def networks(folder: Path) -> list[OnnxNetwork]:
    """One network per feature, random weights."""
    return [OnnxNetwork(str(simcc_graph(folder / f"{table}.onnx", (SIZE, SIZE), seed=i)), table) for i, table in enumerate(TABLES)]


def clips_of(folder: Path, count: int, frames: int, size: int = 192) -> list[Clip]:
    """Whole videos of performers."""
    videos = write_dataset(
        folder, name="speed", identities=range(count), test_identities=[], clips_per_identity=1, frames=frames, size=size
    )
    span: dict[str, Any] = {"start_frame": 0, "end_frame": frames, "start_pts": None, "end_pts": None}
    shape: dict[str, Any] = {"time_base": Fraction(1, 24), "fps": Fraction(24), "width": size, "height": size}
    return [
        Clip(dataset="speed", clip_id=f"c{i:05d}", video_id=v.path.name, uri=str(v.path), **span, **shape) for i, v in enumerate(videos)
    ]


def bare_loop(extractors: list[OnnxNetwork], clips: list[Clip], folder: Path) -> float:
    """Seconds: decode, call, and keep the rows in a list."""
    functions = [extractor.load("cpu") for extractor in extractors]
    started = time.perf_counter()
    kept = []
    for clip in clips:
        frames = decode_frames(clip)
        kept.append([function(clip, frames) for function in functions])
    return time.perf_counter() - started


def common_practice(extractors: list[OnnxNetwork], clips: list[Clip], folder: Path) -> float:
    """Seconds: a pass per feature, a frame at a time; keypoints as JSON text and drawn into an mp4."""
    import json

    functions = [OnnxNetwork(extractor.path, extractor.table, 1).load("cpu") for extractor in extractors]
    started = time.perf_counter()
    for extractor, function in zip(extractors, functions, strict=True):
        for clip in clips:
            rows = [function(clip, image[None])[extractor.table][0] for _, _, image in iterate_frames(Path(clip.uri))]
            (folder / f"{clip.clip_id}.{extractor.table}.json").write_text(json.dumps(rows))
            if extractor.table == "poses":
                encode_video(folder / f"{clip.clip_id}.pose.mp4", _drawn(rows, clip), clip.fps)
    return time.perf_counter() - started


def _drawn(rows: list[dict[str, Any]], clip: Clip) -> Frames:
    import cv2

    canvas = np.zeros((len(rows), clip.height, clip.width, 3), np.uint8)
    for image, row in zip(canvas, rows, strict=True):
        for x, y in np.reshape(row["keypoints"], (-1, 2)):
            cv2.circle(image, (int(x), int(y)), 3, (255, 255, 255), -1)
    return canvas


def through_ray(extractors: list[OnnxNetwork], clips: list[Clip], folder: Path) -> float:
    """Seconds of extract() with one actor, start-up left out, rows committed."""
    seconds = []
    for part in (clips[:1], clips):
        lake = Lake(Path(tempfile.mkdtemp(dir=folder))).create()
        from pipelines.engine import RayEngine

        with tempfile.TemporaryDirectory(prefix="rs", ignore_cleanup_errors=True) as temp:
            started = time.perf_counter()
            report = extract(extractors, part, lake, RayEngine(actors=1, num_cpus=1, temp_dir=Path(temp)), progress=False)
            seconds.append(time.perf_counter() - started)
        assert report.failed == 0, report.failures
    return (seconds[1] - seconds[0]) * len(clips) / (len(clips) - 1)


def assert_equal(extractors: list[OnnxNetwork], clips: list[Clip], folder: Path) -> None:
    """The networks called directly give the committed rows."""
    lake = Lake(folder / "equal").create()
    extract(extractors, clips, lake, "serial", progress=False)
    for extractor in extractors:
        function = extractor.load("cpu")
        direct = [
            {"frame": t, "clip_id": c.clip_id, **row} for c in clips for t, row in enumerate(function(c, decode_frames(c))[extractor.table])
        ]
        held = lake.rows(extractor.table, columns=["frame", "clip_id", *(set(direct[0]) - {"frame", "clip_id"})])
        assert held == direct, f"rows of {extractor.table} differ"


def main() -> None:
    """Print medians, ratios and gates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        extractors, clips = networks(folder), clips_of(folder / "videos", chosen.clips, chosen.frames)
        assert_equal(extractors, clips[:2], folder)
        seconds: dict[str, list[float]] = {}
        for _ in range(chosen.rounds):
            for side in (bare_loop, through_ray, common_practice):
                seconds.setdefault(side.__name__, []).append(side(extractors, clips, folder))
    bare, ray, common = (statistics.median(seconds[name]) for name in ("bare_loop", "through_ray", "common_practice"))
    print(
        f"extraction of {chosen.clips} clips x {chosen.frames} frames: bare {bare:.2f} s, Ray {ray:.2f} s, common practice {common:.2f} s; "
        f"Ray/bare {bare / ray:.2f} (gate >= 0.9 {'holds' if bare / ray >= 0.9 else 'FAILS'}), "
        f"Ray/common {common / ray:.2f} (gate >= 3 {'holds' if common / ray >= 3 else 'FAILS'}); rows equal"
    )


if __name__ == "__main__":
    main()
