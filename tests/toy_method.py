"""A method that learns one colour in a moment: real stages, checkpoints, log and clips, and nothing to wait for."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from models.animator import Driving, Reference
from models.checkpoint import load_part, read_manifest, save_checkpoint
from models.clip_dataset import TrainingClip
from models.training_loop import LoopConfig, StepRecord, loss_fall, train
from pipelines.clip import Frames
from pipelines.errors import UserError

JOURNAL = "TOY_METHOD_JOURNAL"  # environment: a file that gets one line for each training that begins
STEP_SECONDS = "TOY_METHOD_STEP_SECONDS"  # environment: how long a step takes

_STAGES = {name: {"goal": goal, "loop": {"steps": 6}} for name, goal in (("stage_1", 6.0), ("stage_1b", 9.0), ("stage_2", 12.0))}
VARIANTS: dict[str, dict[str, Any]] = {
    "demo": {"stages": _STAGES, "sampling": {"gain": 1.0}},
    "demo-no_ipm": {"stages": {**_STAGES, "stage_1": {"goal": 60.0, "loop": {"steps": 6}}}, "sampling": {"gain": 1.0}},
    "demo-no_stode": {"stages": {"stage_1": _STAGES["stage_1"]}, "sampling": {"gain": 1.0}},
    "demo-temporal_only": {"stages": _STAGES, "sampling": {"gain": 4.0}},
}


class Tint(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """What is added to every pixel."""

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.colour = nn.Parameter(torch.randn(channels))


class ToyAnimator:
    """The reference, tinted."""

    def __init__(self, tint: Tint, gain: float) -> None:
        self.tint, self.gain = tint, gain
        self.size: tuple[int, int] | None = None
        self.sampler: Mapping[str, Any] = {"gain": gain}

    def __call__(self, reference: Reference, driving: Driving, seed: int) -> Frames:
        return np.concatenate(list(self.in_pieces(reference, driving, seed)))

    def in_pieces(self, reference: Reference, driving: Driving, seed: int, advance: Callable[[], None] | None = None) -> Iterator[Frames]:
        shade = self.gain * self.tint.colour.detach().numpy()
        yield np.repeat(np.clip(reference.image + shade, 0, 255).astype(np.uint8)[None], len(driving.points), axis=0)


class ToyMethod:
    """The method protocol; the goal of a stage is the grey level that its tint runs after."""

    default_variant = "demo"
    variants: Mapping[str, Any] = VARIANTS
    needs: tuple[Any, ...] = ()
    sampling_code: tuple[str, ...] = ()
    training_code: tuple[str, ...] = ("models/training_loop.py",)

    def __init__(self, name: str) -> None:
        self.name = name

    def config(self, variant: str) -> dict[str, Any]:
        if variant not in self.variants:
            raise UserError(f"{self.name} has no variant {variant!r}; it has: {', '.join(self.variants)}")
        return dict(self.variants[variant])

    def stages_of(self, variant: str) -> tuple[str, ...]:
        return tuple(self.config(variant)["stages"])

    def stage_config(self, variant: str, stage: str) -> dict[str, Any]:
        return dict(self.config(variant)["stages"][stage])

    def weights_digest(self, variant: str) -> str:
        return ""

    def train(
        self,
        stage: str,
        *,
        variant: str,
        clips: Sequence[TrainingClip],
        parent: Path | None,
        out: Path,
        seed: int,
        identity: Mapping[str, str],
        on_record: Callable[[StepRecord], None] | None = None,
    ) -> list[StepRecord]:
        if journal := os.environ.get(JOURNAL):
            with Path(journal).open("a") as stream:
                stream.write(f"{identity['checkpoint_id']} {stage} {variant} {seed}\n")
        settings = self.stage_config(variant, stage)
        torch.manual_seed(seed)
        tint = Tint() if parent is None else load_part(Tint, parent / "tint")
        config = LoopConfig(steps=settings["loop"]["steps"], learning_rate=1.0, probes=6, pictures=0, save_every_s=0.0, ema_decay=None)

        def loss(micro_step: int, generator: torch.Generator) -> Tensor:
            time.sleep(float(os.environ.get(STEP_SECONDS, "0")))
            return (tint.colour - settings["goal"] + torch.randn(3, generator=generator)).square().mean()

        records = train(
            dict(tint.named_parameters()), loss, config, seed=seed, state_folder=out.with_name(f".{out.name}.state"), label=stage,
            probe=lambda: (tint.colour - settings["goal"]).square().mean(), on_record=on_record,
        )  # fmt: skip
        made_of = read_manifest(parent)["checkpoint_id"] if parent is not None else None
        facts = {"stage": stage, "seed": seed, "config": self.config(variant), "parent": made_of, "trained_parameters": 3, "additions": []}
        save_checkpoint(out, {"tint": tint}, {**identity, **facts, "loss_fall": loss_fall(records)})
        return records

    def load(self, variant: str, checkpoint: Path | None) -> ToyAnimator:
        assert checkpoint is not None
        return ToyAnimator(load_part(Tint, checkpoint / "tint"), self.config(variant)["sampling"]["gain"])


def toy_methods() -> dict[str, Any]:
    """The toy under the name of a paper's method, so that the paper's tables apply, and the floor."""
    from models.baselines.copy_reference import CopyReferenceMethod

    return {"hfca": ToyMethod("hfca"), "copy_reference": CopyReferenceMethod()}
