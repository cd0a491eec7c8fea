"""C1: a square cut out of a range of a longer video and resized, as talking-head data sets are made.

Peers: the algorithm of `video-preprocessing` (decode the whole file in order with imageio, keep the range, crop, resize with scikit-image),
and decord's batch call with OpenCV's area resize.

python -m benchmarks.c1_range_crop [--seconds 120] [--ranges 20] [--rounds 3]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import cv2
import imageio.v3
import numpy as np
from skimage.transform import resize

from benchmarks.generated_video import clip_of, shots, write
from benchmarks.side_by_side import alternate, report
from pipelines.clip import Clip, Frames
from pipelines.video import decode_frames

SIDE, OUT, LENGTH = 640, 384, 4.0  # px of the crop, px of the result, seconds of a range


def sequential(clip: Clip) -> Frames:
    """video-preprocessing's load_videos.py in our words: every frame from the first is decoded; those in the range are cropped and resized."""
    assert clip.crop is not None
    x, y, w, h = clip.crop
    kept = []
    for number, image in enumerate(imageio.v3.imiter(clip.uri, plugin="pyav")):
        if number >= clip.end_frame:
            break
        if number >= clip.start_frame:
            small = resize(image[y : y + h, x : x + w], (OUT, OUT), anti_aliasing=True)
            kept.append(np.round(small * 255).astype(np.uint8))
    return np.stack(kept)


def _small(frames: Frames) -> Frames:
    return np.stack([cv2.resize(image, (OUT, OUT), interpolation=cv2.INTER_AREA) for image in frames])


def by_decord(clip: Clip) -> Frames:
    """decord's batch call, then the same crop and resize as ours."""
    import decord

    assert clip.crop is not None
    x, y, w, h = clip.crop
    frames = decord.VideoReader(clip.uri, ctx=decord.cpu(0)).get_batch(list(range(clip.start_frame, clip.end_frame))).asnumpy()
    return _small(frames[:, y : y + h, x : x + w])


def ours(clip: Clip) -> Frames:
    """Sought, decoded, cropped."""
    return _small(decode_frames(clip))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--ranges", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        count = max(1, options.seconds // 5)
        paths = [
            write(Path(folder) / f"{name}.mp4", shots(options.seconds, count, 1280, 720, seed=seed), 1280, 720)
            for name, seed in (("a", 0), ("b", 500))
        ]
        starts = rng.integers(0, int((options.seconds // count * count - LENGTH) * 30), options.ranges)
        length = int(LENGTH * 30)
        clips = [clip_of(paths[n % 2], int(start), int(start) + length, (320, 40, SIDE, SIDE)) for n, start in enumerate(starts)]
        last = max(clips, key=lambda clip: clip.start_frame)
        mine, theirs = ours(last).astype(np.int16), sequential(last)
        difference = float(np.abs(mine - theirs).mean())
        # scikit-image smooths with a Gaussian before it samples, area resizing averages: the same picture within half a level
        assert difference < 0.5, difference
        other = float(np.abs(mine - by_decord(last)).mean())
        assert other < 0.5, other
        sides = {"ours": ours, "sequential": sequential, "decord": by_decord}
        seconds = alternate({name: (lambda run=run: [run(clip) for clip in clips]) for name, run in sides.items()}, options.rounds)  # type: ignore[misc]
    ratios = {"sequential/ours": (seconds["sequential"] / seconds["ours"], 10.0), "decord/ours": (seconds["decord"] / seconds["ours"], 1.5)}
    report("C1 range and crop", seconds, ratios, f"mean abs diff {difference:.3f}/255 to sequential, {other:.3f} to decord")


if __name__ == "__main__":
    main()
