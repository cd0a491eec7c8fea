"""C3: cuts of generated videos with known truth (60 hard cuts, 12 fades through black), against PySceneDetect's two usual detectors.

F1 counts an edge as found within one frame of a cut, and within the dark frames of a fade (and two beside them); counts are added over all videos.

python -m benchmarks.c3_scene_cuts [--videos 12] [--rounds 3] [--width 640]
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.generated_video import shot, write
from benchmarks.side_by_side import alternate, report
from pipelines.clip import Frames
from pipelines.split import SplitRule, index_video
from pipelines.video import probe

Span = tuple[int, int]  # an edge counts as found in first..last


def generated(seed: int, width: int, height: int) -> tuple[Iterator[Frames], list[Span]]:
    """Frames and truth of one video: six shots with five hard cuts, then a fade out, some black, a fade in, and a last shot."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(20, 70, 7).tolist()
    fade, dark = int(rng.integers(8, 26)), int(rng.integers(1, 16))
    cuts = np.cumsum(lengths[:5]).tolist()
    black = sum(lengths[:6])
    # frames under 12 of 255 at the feet of the slopes are as good as black
    spans = [(cut - 1, cut + 1) for cut in cuts] + [(black - fade // 4 - 2, black + dark + fade // 4 + 2)]

    def frames() -> Iterator[Frames]:
        for number, length in enumerate(lengths):
            for at, image in enumerate(shot(length, seed * 100 + number, width, height)):
                gain = min(1.0, (length - 1 - at) / fade) if number == 5 else min(1.0, at / fade) if number == 6 else 1.0
                yield np.round(image * gain).astype(np.uint8)
            if number == 5:
                yield from (np.zeros((height, width, 3), np.uint8) for _ in range(dark))

    return frames(), spans


def f1(found: Sequence[Sequence[int]], truth: Sequence[Sequence[Span]]) -> float:
    """Counts of all videos added, each true edge and each found edge used once."""
    hits = 0
    for cuts, spans in zip(found, truth, strict=True):
        free = list(cuts)
        for first, last in spans:
            hit = next((cut for cut in free if first <= cut <= last), None)
            if hit is not None:
                free.remove(hit)
                hits += 1
    return 2 * hits / (sum(map(len, found)) + sum(map(len, truth)))


def scenedetect(path: Path, kind: str) -> list[int]:
    """PySceneDetect with its defaults (OpenCV backend, automatic downscaling)."""
    from scenedetect import AdaptiveDetector, ContentDetector, SceneManager, open_video

    manager = SceneManager()
    manager.add_detector(AdaptiveDetector() if kind == "adaptive" else ContentDetector())
    manager.detect_scenes(open_video(str(path)))
    return [scene[0].frame_num for scene in manager.get_scene_list()[1:]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--width", type=int, default=1280)
    options = parser.parse_args()
    logging.getLogger("pyscenedetect").setLevel(logging.ERROR)
    width, height = options.width, options.width * 9 // 16
    with tempfile.TemporaryDirectory() as folder:
        made = [(Path(folder) / f"{seed}.mp4", *generated(seed, width, height)) for seed in range(options.videos)]
        paths, truth = [write(path, frames, width, height) for path, frames, _ in made], [spans for _, _, spans in made]
        total = sum(probe(path).frames for path in paths)
        sides: dict[str, Callable[[Path], list[int]]] = {
            "ours": lambda path: index_video(path, SplitRule()).cuts,
            "adaptive": lambda path: scenedetect(path, "adaptive"),
            "content": lambda path: scenedetect(path, "content"),
        }
        scores = {name: f1([run(path) for path in paths], truth) for name, run in sides.items()}
        assert scores["ours"] >= max(scores["adaptive"], scores["content"]), scores
        seconds = alternate({name: (lambda run=run: [run(path) for path in paths]) for name, run in sides.items()}, options.rounds)  # type: ignore[misc]
    ratios = {f"{name}/ours": (seconds[name] / seconds["ours"], None) for name in ("adaptive", "content")}
    text = ", ".join(f"{name} {score:.3f}" for name, score in scores.items())
    report(f"C3 scene cuts ({total} frames)", seconds, ratios, f"F1 {text}: ours is equal or better")


if __name__ == "__main__":
    main()
