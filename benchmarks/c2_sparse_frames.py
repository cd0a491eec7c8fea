"""C2: two frames a second of a whole video, against decord and OpenCV's seek, at identical frames.

python -m benchmarks.c2_sparse_frames [--seconds 60] [--rounds 3]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np

from benchmarks.generated_video import clip_of, shots, write
from benchmarks.side_by_side import alternate, report
from pipelines.clip import Frames
from pipelines.clip_frames import iterate_images
from pipelines.video import decode_frames

DECORD_TOLERANCE = 2.0  # mean absolute difference, of 255: another FFmpeg converts the colours


def by_decord(path: Path, indices: list[int]) -> Frames:
    """decord in this process, its batch call: what its users do."""
    import decord

    return np.asarray(decord.VideoReader(str(path), ctx=decord.cpu(0)).get_batch(indices).asnumpy())


def by_opencv(path: Path, indices: list[int]) -> Frames:
    """OpenCV, one seek per frame."""
    capture = cv2.VideoCapture(str(path))
    images = []
    for index in indices:
        capture.set(cv2.CAP_PROP_POS_FRAMES, index)
        images.append(cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB))
    return np.stack(images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "a.mp4", shots(options.seconds, max(1, options.seconds // 5), 1280, 720), 1280, 720)
        total = options.seconds // max(1, options.seconds // 5) * 30 * max(1, options.seconds // 5)
        clip, indices = clip_of(path, 0, total), list(range(0, total, 15))
        ours, decord = decode_frames(clip, indices, decoder="pyav"), by_decord(path, indices)
        whole = np.stack([image for number, image in enumerate(iterate_images(clip)) if number % 15 == 0])
        difference = float(np.abs(ours.astype(np.int16) - decord).mean())
        assert np.array_equal(ours, whole)
        assert difference < DECORD_TOLERANCE, difference
        del whole, decord, ours
        seconds = alternate(
            {
                "ours": lambda: decode_frames(clip, indices, decoder="pyav"),
                "decord": lambda: by_decord(path, indices),
                "opencv_seek": lambda: by_opencv(path, indices),
            },
            options.rounds,
        )
    ratios = {"decord/ours": (seconds["decord"] / seconds["ours"], 1.3), "opencv/ours": (seconds["opencv_seek"] / seconds["ours"], None)}
    report("C2 sparse 2 fps", seconds, ratios, f"equal frames, mean abs diff to decord {difference:.2f}/255")


if __name__ == "__main__":
    main()
