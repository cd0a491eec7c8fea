"""One clip, learnt by heart: can each method's first stage reproduce it, within 2 dB of what its autoencoder reconstructs?

One drawn person, poses and signals of the `truth` extractor (this judges training, not a method), the `brief` variant with more steps. The
network then animates the frame that it started from with the clip's own poses; the floor is copying that frame.

python -m benchmarks.overfit [--methods animate_anyone] [--steps 1500] [--frames 8]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np

from assets.run import prepare
from models.animator import Driving, Reference
from models.autoencoders import autoencoder_folder
from models.clip_dataset import ClipStore, TrainingClip, centre_box, fit_frames, fit_points, to_frames, to_signed
from models.diffusion_method import DiffusionMethod
from models.latents import LatentCodec
from models.methods import method_named
from models.on_device import device_at_hand
from models.stage_config import PairStage
from models.stage_training import StageRun
from models.training_rows import load_training_clips, write_training_rows
from pipelines.clip import Frames
from pipelines.lake import Lake
from pipelines.sources.registry import Dataset
from pipelines.video import decode_frames

LIMIT_DB = 2.0


def psnr(a: Frames, b: Frames) -> float:
    """dB over all pixels of two uint8 clips."""
    return float(10 * np.log10(255**2 / np.square(a.astype(np.float64) - b).mean()))


def one_clip(home: Path, method: str, frames: int) -> TrainingClip:
    """A drawn person's clip with what the method needs of it."""
    lake = Lake(home).create()
    dataset = Dataset(
        name="performers_dance",
        kind="performers",
        options={"train_identities": 1, "test_identities": 1, "train_clips": 1, "test_clips": 1, "frames": frames},
    )
    with dg.DagsterInstance.ephemeral() as instance:
        prepare(instance, lake, dataset, engine="serial")
    write_training_rows(lake, dataset, method)
    return load_training_clips(lake, dataset, method)[0]


def longer(config: Any, steps: int) -> Any:
    """The config with a first stage of so many steps."""
    stage: PairStage = config.stage_1
    loop = replace(stage.loop, steps=steps, learning_rate=2e-3, warmup_steps=20, decay="cosine", probes=2, pictures=1)
    return replace(config, stage_1=replace(stage, loop=loop, references=2, targets=4, distance=1, drop_probability=0.0, flip=0.0))


def learnt(method: DiffusionMethod, clip: TrainingClip, steps: int, out: Path) -> tuple[float, float, float]:
    """PSNR in dB of the method, of the autoencoder alone, and of copying the first frame."""
    config = longer(method.chosen("brief"), steps)
    codec = LatentCodec.load(autoencoder_folder(config.autoencoder)).to(device_at_hand())
    run = StageRun(stage="stage_1", out=out, seed=0, parent=None, identity={"checkpoint_id": "overfit"}, config={}, additions=())
    method.train_stage(run, [clip], config, codec)
    network = method.load_network(config, out).to(device_at_hand()).eval()
    box = centre_box(clip.clip.width, clip.clip.height, config.size)
    truth, points = fit_frames(decode_frames(clip.clip), box, config.size), fit_points(clip.keypoints, box, config.size)
    batch = ClipStore([clip], config.size, codec, needs=method.needs).batch([(0, 0, range(len(truth)))], np.random.default_rng(0))
    reference = Reference(image=truth[0], points=points[0], scores=clip.scores[0], signals=batch.reference_signals)
    driving = Driving(points=points, scores=clip.scores, fps=float(clip.clip.fps), signals=batch.signals)
    sampling = replace(config.sampling, guidance_scale=1.0, steps=20)
    made = np.concatenate(list(method.pieces(network, codec, replace(config, sampling=sampling), reference, driving, 0, None)))
    rebuilt = to_frames(codec.decode(codec.encode(to_signed(truth))))
    return psnr(made, truth), psnr(rebuilt, truth), psnr(np.repeat(truth[:1], len(truth), axis=0), truth)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", default=["animate_anyone"])
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--frames", type=int, default=8)
    options = parser.parse_args(arguments)
    for name in options.methods:
        method = method_named(name)
        assert isinstance(method, DiffusionMethod), f"{name} has no first stage to learn with"
        with tempfile.TemporaryDirectory() as folder:
            clip = one_clip(Path(folder) / "lake", name, options.frames)
            ours, rebuilt, copied = learnt(method, clip, options.steps, Path(folder) / "stage_1")
        verdict = "holds" if ours >= rebuilt - LIMIT_DB else "FAILS"
        print(
            f"{name}: {options.frames} frames learnt in {options.steps} steps: {ours:.2f} dB; autoencoder {rebuilt:.2f} dB "
            f"(gate within {LIMIT_DB:g}: {verdict}); copying {copied:.2f} dB",
            flush=True,
        )


if __name__ == "__main__":
    main()
