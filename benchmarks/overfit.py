"""One clip, learnt by heart: can each method's first stage reproduce it, within 2 dB of what its autoencoder reconstructs?

One drawn person, poses and signals of the `truth` extractor (this judges training, not a method). The `brief` variant's network from
scratch, with the demo's noise; the first frame is the reference, and every step shows each of the others once, at a noise level of its own.
Nothing is dropped, so nothing is guided. The floor is copying the reference; the reference itself is not scored.

python -m benchmarks.overfit [--methods animate_anyone hfca hia] [--steps 1500] [--frames 8] [--points 15] [--learning-rate R]
                            [--home lake/overfit]

Interrupted, the same command goes on where it was. HOME/<method>-<steps>-<settings>/ holds curve.csv, pictures and the checkpoint; the curve
is that of the weights in training, the verdict that of their average, which is what a checkpoint holds.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
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
from models.probe_samples import psnr
from models.signal_rows import makers_of, readers, sharpness_percentile
from models.signals import SignalName
from models.stage_config import PairStage
from models.stage_training import StageRun, last_metrics
from models.training_loop import StepRecord
from models.training_rows import load_poses
from pipelines.clip import Frames
from pipelines.lake import Lake
from pipelines.sources.registry import Dataset
from pipelines.video import decode_frames

LIMIT_DB = 2.0
STEPS_OF_SAMPLING = 20
# The brief judges of HFCA's identity losses are random networks, which know nothing of what a clip shows.
VARIANTS = {"hfca": "brief-no_ipm"}
NEEDS: dict[str, tuple[SignalName, ...]] = {"hfca": ("densepose",), "hia": ("hands",)}
"""What the networks of the first stages are conditioned on, beside poses."""


def one_clip(home: Path, needs: Sequence[SignalName], frames: int) -> TrainingClip:
    """A drawn person's clip with these signals; its first frame is the reference."""
    lake = Lake(home).create()
    dataset = Dataset(
        name="performers_dance",
        kind="performers",
        options={"train_identities": 1, "test_identities": 1, "train_clips": 1, "test_clips": 1, "frames": frames},
    )
    with dg.DagsterInstance.ephemeral() as instance:
        prepare(instance, lake, dataset, engine="serial")
    clip = next(clip for clip in lake.clips(dataset.name) if clip.split == "train")
    points, scores = load_poses(lake, dataset, [clip])[clip.clip_id]
    makers = makers_of(dataset, needs)
    sharpness = sharpness_percentile(lake, dataset, [clip], makers["hands"]) if "hands" in makers else None
    signals = readers(lake, dataset, makers, sharpness)(clip) if makers else None
    return TrainingClip(clip=clip, keypoints=points, scores=scores, references=(0,), signals=signals)


def longer(method: DiffusionMethod, steps: int, targets: int, points: int, rate: float | None = None) -> Any:
    """The method's config with a first stage of so many steps. points: of the curve; rate: of learning, None = the demo's."""
    config, demo = method.chosen(VARIANTS.get(method.name, "brief")), method.chosen("demo")
    stage: PairStage = config.stage_1
    rate = demo.stage_1.loop.learning_rate if rate is None else rate
    loop = replace(stage.loop, steps=steps, learning_rate=rate, warmup_steps=20, decay="cosine", probes=points, pictures=points)
    sampling = replace(config.sampling, steps=STEPS_OF_SAMPLING, guidance_scale=1.0)
    if hasattr(sampling, "hand"):  # HFCA's enhancement of hands comes after what was learnt
        sampling = replace(sampling, hand=replace(sampling.hand, apply_to="none"))
    shown = replace(stage, loop=loop, references=1, targets=targets, distance=1, drop_probability=0.0, flip=0.0, augment=False)
    return replace(config, noise=demo.noise, sampling=sampling, stage_1=shown)


class Curve:
    """The measured steps of a run as a file: step, seconds, loss, psnr and psnr_ceiling in dB."""

    def __init__(self, path: Path, label: str) -> None:
        self.path, self.label = path, label

    def add(self, record: StepRecord) -> None:
        """Note a step that was measured, in the place of what an earlier run that was cut off noted of it and of later ones."""
        if record.metrics is None:
            return
        row = {"step": record.step, "seconds": round(record.seconds, 1), "loss": record.loss, **record.metrics}
        self.write([*(before for before in self.rows() if int(before["step"]) < record.step), row])
        print(f"{self.label}: step {record.step}: {record.metrics['psnr']:.2f} dB, {record.seconds:.0f} s", flush=True)

    def rows(self) -> list[dict[str, Any]]:
        """What is there."""
        if not self.path.is_file():
            return []
        with self.path.open(newline="") as file:
            return [*csv.DictReader(file)]

    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """All of it, in one rename."""
        partial = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        partial.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["step", "seconds", "loss", "psnr", "psnr_ceiling"])
            writer.writeheader()
            writer.writerows(rows)
        partial.replace(self.path)


def learnt(method: DiffusionMethod, clip: TrainingClip, config: Any, out: Path) -> tuple[float, float, float]:
    """PSNR in dB of the method, of the autoencoder alone, and of copying the first frame; over all frames but the first."""
    codec = LatentCodec.load(autoencoder_folder(config.autoencoder)).to(device_at_hand())
    curve = Curve(out.with_name("curve.csv"), method.name)
    run = StageRun(
        stage="stage_1", out=out, seed=0, parent=None, identity={"checkpoint_id": "overfit"}, config={}, additions=(), on_record=curve.add
    )
    records = method.train_stage(run, [clip], config, codec)
    print(f"{method.name}: the autoencoder reaches {last_metrics(records)['psnr_ceiling']:.2f} dB; curve: {curve.path}", flush=True)
    made, truth = animated(method, clip, config, codec, out), fitted(clip, config)
    rebuilt = to_frames(codec.decode(codec.encode(to_signed(truth))))
    return decibels(made, truth), decibels(rebuilt, truth), decibels(np.repeat(truth[:1], len(truth), axis=0), truth)


def decibels(made: Frames, truth: Frames) -> float:
    """PSNR over all frames but the first."""
    return psnr(to_signed(made[1:]), to_signed(truth[1:]))


def fitted(clip: TrainingClip, config: Any) -> Frames:
    """The clip's frames at the method's size."""
    return fit_frames(decode_frames(clip.clip), centre_box(clip.clip.width, clip.clip.height, config.size), config.size)


def animated(method: DiffusionMethod, clip: TrainingClip, config: Any, codec: LatentCodec, checkpoint: Path) -> Frames:
    """The clip, made of its first frame and its poses as users make clips."""
    network = method.load_network(config, checkpoint).to(device_at_hand()).eval()
    frames = fitted(clip, config)
    points = fit_points(clip.keypoints, centre_box(clip.clip.width, clip.clip.height, config.size), config.size)
    batch = ClipStore([clip], config.size, codec, needs=NEEDS.get(method.name, ())).batch(
        [(0, 0, range(len(frames)))], np.random.default_rng(0)
    )
    reference = Reference(image=frames[0], points=points[0], scores=clip.scores[0], signals=batch.reference_signals)
    driving = Driving(points=points, scores=clip.scores, fps=float(clip.clip.fps), signals=batch.signals)
    return np.concatenate(list(method.pieces(network, codec, config, reference, driving, 0, None)))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=["animate_anyone"])
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--points", type=int, default=15, help="of the curve; each costs a sampling of all frames")
    parser.add_argument("--learning-rate", type=float, help="default: that of the method's demo")
    parser.add_argument("--home", type=Path, default=Path("lake/overfit"))
    options = parser.parse_args(arguments)
    for name in options.methods:
        method = method_named(name)
        assert isinstance(method, DiffusionMethod), f"{name} has no first stage to learn with"
        config = longer(method, options.steps, options.frames - 1, options.points, options.learning_rate)
        settings = hashlib.sha256(json.dumps([config.as_dict(), options.frames], sort_keys=True).encode()).hexdigest()[:8]
        clip = one_clip(options.home / f"clip-{options.frames}", NEEDS.get(name, ()), options.frames)
        ours, rebuilt, copied = learnt(method, clip, config, options.home / f"{name}-{options.steps}-{settings}" / "stage_1")
        verdict = "holds" if ours >= rebuilt - LIMIT_DB else "FAILS"
        print(
            f"{name}: {options.frames - 1} frames learnt in {options.steps} steps: {ours:.2f} dB; autoencoder {rebuilt:.2f} dB "
            f"(gate within {LIMIT_DB:g}: {verdict}); copying {copied:.2f} dB",
            flush=True,
        )


if __name__ == "__main__":
    main()
