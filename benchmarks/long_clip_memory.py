"""Memory of long clips: `python -m benchmarks.long_clip_memory [--frames 60 360] [--methods hia hfca]`. Does it grow with the clip's length?

Each point is a process of its own, on one core, that loads a method's `brief` variant at --size and samples one clip of so many frames with
one step: signals are fitted to the canvas, windows are denoised, pieces are decoded and written as mp4, as `rotoscope animate` and the
predictions asset do. Reported is the peak of its anonymous memory meanwhile (benchmarks/memory.py) over that after loading; pages of
mapped files, which the kernel takes back when it needs them, do not count. Checkpoints are trained for a step on performers first.
What may grow is the clip's latents in the few copies that a sampling step makes, its keypoints, and its drawn poses, packed.

Each point is measured twice. *In use*: blocks of 64 KB and more are given back when they are freed, so that what is counted is what is held;
the gate is on this. *Resident*: as the process runs by itself, with the holes that its heap keeps; they differ by up to 15 MB from run to run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.brief_checkpoints import SpotReader, brief_checkpoint, training_clips
from benchmarks.memory import anonymous_mb, peak_mb
from models.animator import Driving, Reference
from models.clip_signals import ClipSignals, PackedFrames, fit_signals
from models.cross_driving import retargeted_signals
from models.methods import method_named, methods
from models.signals import Signals
from models.written_clip import write_pieces
from pipelines.performers.dataset import write_dataset
from pipelines.video import probe, read_video

GATE = 1.3
_NOISE_MB = 4.0  # what a process's heap differs by from run to run; less than that is no growth
_IN_USE = {"MALLOC_MMAP_THRESHOLD_": str(64 << 10), "MALLOC_TRIM_THRESHOLD_": str(64 << 10)}  # glibc's, read when a process starts
_FRAMES, _DRAWN = 16, 128  # of the performers' videos: frames, px


def measure(name: str, folder: Path, frames: int, size: int) -> tuple[float, float]:
    """(MB of this process after loading, its peak while a clip of `frames` frames is made and written)."""
    method, checkpoint = method_named(name), (folder / "checkpoints.json")
    known = json.loads(checkpoint.read_text())[name]
    variant = "brief" if "brief" in method.variants else method.default_variant
    videos = [Path(path) for path in json.loads((folder / "videos.json").read_text())]
    item, needs = training_clips(videos[:1], method.needs)[0], method.needs
    read = item.signals
    assert read is None or isinstance(read, SpotReader)
    found = read(needs) if read is not None else None
    image = read_video(videos[0])[0]
    animator: Any = method.load(variant, Path(known) if known else None)
    _shrink(animator, size)
    scale = size / _DRAWN
    picture = _small(image, size)
    own = fit_signals(found, (0, 0, _DRAWN, _DRAWN), (size, size), [0]) if found is not None else Signals()
    reference = Reference(image=picture, points=item.keypoints[0] * scale, scores=item.scores[0], signals=own)
    loaded = anonymous_mb()
    with peak_mb(every=0.001) as peak:
        rows = np.arange(frames) % _FRAMES
        points, scores = item.keypoints[rows], item.scores[rows]
        signals = Signals()
        if found is not None:
            signals = retargeted_signals(
                _repeated(found, rows), range(frames), points, points * scale, scores, (size, size), faces="faces" in needs
            )
        driving = Driving(points=points * scale, scores=scores, fps=24.0, signals=signals)
        output = folder / f"{name}_{frames}.mp4"
        write_pieces(output, animator.in_pieces(reference, driving, 0), frames, Fraction(24), "synthetic")
    assert probe(output).frames == frames
    return loaded, peak[0]


def _shrink(animator: Any, size: int) -> None:
    """Another canvas, and one step where the method has steps: neither changes what is held."""
    config = getattr(animator, "config", None)
    if config is None:
        return
    animator.config = replace(config, size=(size, size), sampling=replace(config.sampling, steps=1))
    animator.size = (size, size)


def _small(image: Any, size: int) -> Any:
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR))


def _repeated(signals: ClipSignals, rows: Any) -> ClipSignals:
    """A longer clip: frame t shows what frame rows[t] did."""
    hands, dense = signals.hands, signals.densepose
    if hands is not None:
        hands = replace(
            hands, boxes=hands.boxes[rows], valid=hands.valid[rows], movement=hands.movement[rows], sharpness=hands.sharpness[rows]
        )
    if dense is not None:
        dense = PackedFrames([dense._cells[row] for row in rows])
    return replace(signals, frames=len(rows), hands=hands, densepose=dense, faces=None, body_mask=None)


def in_process(name: str, folder: Path, frames: int, size: int, settings: Mapping[str, str]) -> float:
    """MB over start-up, of `measure` in a fresh process on one core with these settings of its environment."""
    command = [sys.executable, "-m", "benchmarks.long_clip_memory", "--measure", name, str(folder), str(frames), str(size)]
    one_core = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", **settings}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=one_core)
    loaded, peak = json.loads(done.stdout.splitlines()[-1])
    return float(peak) - float(loaded)


def prepare(folder: Path, names: Sequence[str]) -> None:
    """Performers and checkpoints of a step each, listed in videos.json and checkpoints.json; what an earlier call made is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    listed, known = folder / "videos.json", folder / "checkpoints.json"
    if not listed.is_file():
        made = write_dataset(folder, identities=[2000], test_identities=[3000], clips_per_identity=1, frames=_FRAMES, size=_DRAWN)
        listed.write_text(json.dumps([str(video.path) for video in made]))
    videos = [Path(path) for path in json.loads(listed.read_text())]
    checkpoints: dict[str, str | None] = json.loads(known.read_text()) if known.is_file() else {}
    for name in names:
        if name not in checkpoints:
            path = brief_checkpoint(name, videos[:1], folder, steps=1)
            checkpoints[name] = str(path) if path else None
            known.write_text(json.dumps(checkpoints))


def compare(folder: Path, names: Sequence[str], lengths: Sequence[int], size: int) -> dict[str, float]:
    """Method -> ratio of what the longest and the shortest clip have in use over start-up; prints a line for each."""
    ratios = {}
    prepare(folder, names)
    for method in names:
        in_use = {frames: in_process(method, folder, frames, size, _IN_USE) for frames in lengths}
        resident = {frames: in_process(method, folder, frames, size, {}) for frames in lengths}
        ratios[method] = max(in_use[lengths[-1]], _NOISE_MB) / max(in_use[lengths[0]], _NOISE_MB)
        taken = ", ".join(f"{frames} frames {mb:.0f} MB ({resident[frames]:.0f} resident)" for frames, mb in in_use.items())
        each = (in_use[lengths[-1]] - in_use[lengths[0]]) * 1024 / max(lengths[-1] - lengths[0], 1)
        print(f"{method}: in use over start-up: {taken}; ratio {ratios[method]:.2f}, {each:.0f} KB a frame", flush=True)
    return ratios


def main() -> None:
    """Print what every method takes and whether the gate holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[60, 360])
    parser.add_argument("--size", type=int, default=64, help="px, a multiple of 32")
    parser.add_argument("--methods", nargs="+", default=sorted(methods()))
    parser.add_argument("--folder", type=Path, help="keep checkpoints there, and use those that are there")
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    if chosen.measure:
        name, folder, frames, size = chosen.measure
        print(json.dumps(measure(name, Path(folder), int(frames), int(size))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        ratios = compare(chosen.folder or Path(temporary), chosen.methods, chosen.frames, chosen.size)
    worst = max(ratios, key=lambda name: ratios[name])
    print(f"worst: {worst} {ratios[worst]:.2f}; gate {GATE}: {'holds' if ratios[worst] <= GATE else 'FAILS'}")
    sys.exit(0 if ratios[worst] <= GATE else 1)


if __name__ == "__main__":
    main()
