"""C13: people and whole-body keypoints, ours against rtmlib, on the same random ONNX graphs: `python -m benchmarks.c13_rtmlib`.

Both sides find the boxes of every frame and the 133 keypoints of the same people, on the CPU, with the same number of
threads; keypoints must be equal to 1e-3 px. Only what is around the networks differs, so the ratio falls towards 1 as the networks
grow (--width).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rtmlib import YOLOX, RTMPose

from benchmarks.random_networks import simcc_graph, yolox_graph
from pipelines.boxes import People
from pipelines.clip import Frames
from pipelines.extractors.dwpose import in_batches
from pipelines.extractors.person_box import PeopleFinder, Yolox
from pipelines.extractors.simcc import SimCC

POSE_SIZE, BOX_SIZE = (384, 288), (416, 416)  # height, width
MOST = 2  # people per frame whose poses are estimated
BIAS = -3.0  # of the random detector: it sees some twenty people per frame, as a trained one in a street

Poses = list[npt.NDArray[np.float32]]  # [people, 133, 2] per frame


def clip(frames: int, height: int = 540, width: int = 960) -> Frames:
    """Smooth noise: the networks' random features vary over it, and decoding takes no part."""
    import cv2

    noise = np.random.default_rng(0).integers(0, 256, (frames, 24, 32, 3), dtype=np.uint8)
    return np.stack([cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC) for image in noise])


def ours(boxes: Path, poses: Path, threads: int, batch: int) -> Callable[[Frames], Poses]:
    """Batched over frames: detection, tracking, then the crops of many frames in one call."""
    detect, network = Yolox(boxes, threads=threads), SimCC(poses, threads=threads)

    def run(frames: Frames) -> Poses:
        people = [_first(frame) for frame in PeopleFinder(detect, every=1)(frames, batch)]
        counts = [len(frame.boxes) for frame in people]
        times = np.repeat(np.arange(len(frames)), counts).tolist()
        points, _ = in_batches(network, frames, times, np.concatenate([frame.boxes for frame in people]), batch)
        return np.split(points, np.cumsum(counts)[:-1])

    return run


def _first(people: People) -> People:
    return People(people.boxes[:MOST], people.scores[:MOST], people.tracks[:MOST])


def rtmlib(boxes: Path, poses: Path, threads: int) -> Callable[[Frames], Poses]:
    """Its own objects, one frame and one person at a time. It takes no number of threads, so its sessions are opened again with ours."""
    with contextlib.redirect_stdout(io.StringIO()):
        detect = YOLOX(str(boxes), model_input_size=BOX_SIZE, nms_thr=0.45, score_thr=0.3)
        network = RTMPose(str(poses), model_input_size=POSE_SIZE[::-1])
    _limit(detect, boxes, threads)
    _limit(network, poses, threads)
    # rtmlib feeds both networks the array as it is; the detector wants BGR, the pose network RGB.
    return lambda frames: [network(image, bboxes=detect(image[..., ::-1])[:MOST])[0] for image in frames]


def _limit(tool: YOLOX | RTMPose, path: Path, threads: int) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    tool.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _time(run: Callable[[Frames], Poses], frames: Frames) -> float:
    started = time.perf_counter()
    run(frames)
    return time.perf_counter() - started


def main() -> None:
    """Check equality, then alternate; prints one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--width", type=int, default=48, help="channels of the pose network")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        boxes = yolox_graph(Path(folder) / "boxes.onnx", BOX_SIZE, seed=3, bias=BIAS)
        poses = simcc_graph(Path(folder) / "poses.onnx", POSE_SIZE, width=options.width)
        mine, theirs = ours(boxes, poses, options.threads, options.batch), rtmlib(boxes, poses, options.threads)
        frames = clip(options.frames)
        a, b = mine(frames), theirs(frames)
        apart = max(float(np.abs(x - y).max()) for x, y in zip(a, b, strict=True))
        people = sum(map(len, a))
        assert people >= options.frames, "the random detector sees too few people"
        assert apart < 1e-3, f"keypoints differ by {apart} px"
        rounds = [(_time(mine, frames), _time(theirs, frames)) for _ in range(options.rounds)]
    fps = [options.frames / statistics.median(side) for side in zip(*rounds, strict=True)]
    ratios = sorted(other / own for own, other in rounds)
    print(f"c13_rtmlib: {options.frames} frames, {people} people, {options.threads} threads: ours {fps[0]:.1f} fps, rtmlib {fps[1]:.1f} fps, "
          f"ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f}); keypoints equal to {apart:.1e} px; gate: equal, ratio reported")  # fmt: skip


if __name__ == "__main__":
    main()
