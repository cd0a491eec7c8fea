"""Performers and `brief` checkpoints of every method, made on the spot: what tests and benches animate with. Pictures mean nothing yet."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from models.animate import driving_clip
from models.clip_dataset import TrainingClip
from models.clip_signals import ClipSignals
from models.methods import Method, method_named
from models.signal_rows import signals_of_rows
from models.signals import SignalName
from models.spot_signals import SpotSignals
from pipelines.clip import Clip, Frames
from pipelines.extractors.hands import hands_of
from pipelines.extractors.registry import EXTRACTORS
from pipelines.masks import pack_array
from pipelines.performers.truth import Truth, truth_path
from pipelines.video import read_video

SIGNALS = ("body_mask=truth", "densepose=truth", "clothing=truth", "caption=truth", "faces=scrfd_tiny", "actions=action_noise")
"""Who sees performers where the rest of the tiny family is not trained: their own annotations, the shipped networks, and `ActionNoise`."""


class ActionNoise:
    """Tokens [256, 64] of C3D's shape without a network: noise drawn from the clip's length."""

    name = "action_noise"
    version = 1
    tables = ("actions",)

    def weights_digest(self) -> str:
        """Empty: no network takes part."""
        return ""

    def load(self, device: str) -> Callable[[Clip, Frames], dict[str, list[dict[str, Any]]]]:
        """From a clip and its frames to rows."""

        def extract(clip: Clip, frames: Frames) -> dict[str, list[dict[str, Any]]]:
            tokens = np.random.default_rng(len(frames)).standard_normal((256, 64)).astype(np.float16)
            packed, shape, dtype = pack_array(tokens)
            return {"actions": [{"frame": 0, "tokens": packed, "shape": shape, "dtype": dtype, "action_class": None}]}

        return extract


@dataclass(frozen=True, slots=True)
class SpotReader:
    """What a training clip's signals are read by, from the video file and the annotations beside it."""

    clip: Clip
    spot: SpotSignals

    def __call__(self, names: Sequence[SignalName]) -> ClipSignals:
        """The signals of these names."""
        truth = Truth.load(truth_path(Path(self.clip.uri)))
        frames = read_video(Path(self.clip.uri))
        return self.spot.of(names, self.clip, frames, (truth.keypoints, truth.scores), self.clip.clip_id)


def training_clips(videos: Sequence[Path], needs: Sequence[SignalName]) -> list[TrainingClip]:
    """Performers' mp4 files with their truth beside them, every frame a reference."""
    made = []
    for video in videos:
        truth, clip = Truth.load(truth_path(video)), driving_clip(video, None, None)[0]
        spot = SpotSignals(extractors=_extractors(needs), sharpness_p99=_sharpness(videos) if "hands" in needs else None)
        made.append(
            TrainingClip(
                clip=replace(clip, subject=video.stem), keypoints=truth.keypoints, scores=truth.scores, references=tuple(range(clip.num_frames)),
                signals=SpotReader(clip, spot) if needs else None, action_class=str(truth.action),
            )
        )  # fmt: skip
    return made


def _extractors(needs: Sequence[SignalName]) -> dict[SignalName, Any]:
    named = dict(entry.split("=") for entry in SIGNALS)
    every = {**EXTRACTORS, ActionNoise.name: ActionNoise()}
    return {name: every[named[name]] for name in needs if name != "hands"}


def _sharpness(videos: Sequence[Path]) -> float:
    """99th percentile of s_128 of the hands, as models/signal_rows.py takes it from a lake."""
    sharp = []
    for video in videos:
        truth, clip = Truth.load(truth_path(video)), driving_clip(video, None, None)[0]
        rows = hands_of(read_video(video), truth.keypoints, truth.scores, clip.width, clip.height)
        hands = signals_of_rows(clip, {"hands": rows}).hands
        assert hands is not None
        sharp.append(hands.sharpness[hands.valid])
    return float(np.percentile(np.concatenate(sharp), 99))


@contextmanager
def few_steps(method: Method, steps: int) -> Iterator[None]:
    """The variant `brief` with so many steps in every stage."""
    variants: Any = method.variants
    whole = variants["brief"]
    loops = {
        field.name: replace(settings, loop=replace(settings.loop, steps=steps, probes=1, warmup_steps=0))
        for field in fields(whole)
        if hasattr(settings := getattr(whole, field.name), "loop")
    }
    variants["brief"] = replace(whole, **loops)
    try:
        yield
    finally:
        variants["brief"] = whole


def brief_checkpoint(name: str, videos: Sequence[Path], folder: Path, steps: int = 2) -> Path | None:
    """The last stage's folder after a few steps of every stage of `brief`; None for a method that does not train."""
    method = method_named(name)
    if "brief" not in method.variants or not method.stages_of("brief"):
        return None
    clips, parent = training_clips(videos, method.needs), None
    facts = {"method": name, "variant": "brief", "dataset": "performers"}
    if "hands" in method.needs:
        facts["hand_sharpness_p99"] = repr(_sharpness(videos))
    if method.needs:
        facts["signals"] = json.dumps({})
    with few_steps(method, steps):
        for stage in method.stages_of("brief"):
            out = folder / name / stage
            method.train(stage, variant="brief", clips=clips, parent=parent, out=out, seed=0, identity={**facts, "checkpoint_id": stage})
            parent = out
    return parent
