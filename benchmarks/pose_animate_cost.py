"""PoseAnimate's run time beside its cost model: `python -m benchmarks.pose_animate_cost [--paper] [--device cuda] [--rounds 3]`.

The model counts evaluations of the UNet with its ControlNet (T levels, N frames besides the source, n inner steps):
    inversion               T forward
    source, Eq. 6           T n forward and backward, 2 T forward (the side of guidance that stays; the step that is taken)
    frames, Alg. 1          N T forward and backward, N T forward
    generation              2 T forward of N + 1 rows
The counts are asserted; times are predicted from one evaluation of each kind, measured in turns with the stages themselves.
Networks are untrained: they take as long as trained ones. Without --paper everything is small, and the line says so.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.controlled_unet import BaseNetworks
from models.pose_animate.config import BRIEF, PAPER, PoseAnimateConfig
from models.pose_animate.frame_embedding import FrameTask, optimize_frame
from models.pose_animate.inversion import Branches, Prompts, invert, optimize_source
from models.pose_animate.network import network_of
from models.pose_animate.pose_alignment import AlignedPoses
from models.pose_animate.sampling import Source, denoise_pass, pose_images

STAGES = ("inversion", "source", "frames", "generation")


def config_of(paper: bool, steps: int | None, frames: int | None) -> PoseAnimateConfig:
    """The paper's sizes with untrained networks, or a small case; Eq. 6 never stops early, as the model counts it."""
    base = replace(PAPER, networks=BaseNetworks(unet=None, controlnet=None, text_encoder=None)) if paper else replace(BRIEF, size=(64, 64))
    sampling = replace(base.sampling, steps=steps or (50 if paper else 6), frames=frames or (16 if paper else 4))
    return replace(base, sampling=sampling, pacm=replace(PAPER.pacm, early_stop=None))


class Run:
    """One run of the four stages on made-up poses, a made-up latent and a made-up mask; each stage needs those before it."""

    def __init__(self, config: PoseAnimateConfig, device: str) -> None:
        self.config, self.device = config, device
        self.network = network_of(config).to(device)
        self.calls = Counter[str]()
        self.stage = ""
        rng = np.random.default_rng(0)
        count, (height, width) = config.sampling.frames + 1, config.size
        points = rng.uniform(0.1, 0.9, (count, 133, 2)).astype(np.float32) * np.array([width, height], np.float32)
        self.poses = AlignedPoses(points, np.ones((count, 133), np.float32), 0)
        conditional, unconditional = self.network.text(["a person dances", ""])[:, None]
        self.prompts = Prompts(conditional, unconditional, self.network.text.length_of("a person dances"))
        latent_side = [side // 8 for side in config.size]
        channels = self.network.unet.config.in_channels
        self.latent = torch.randn(1, channels, *latent_side, generator=torch.Generator().manual_seed(0)).to(device)
        self.branches = Branches(self.network, self.prompts, config.sampling.guidance_scale, config.pacm.optimize)
        self.trajectory = self.embeddings = self.latent
        self.embedded: list[Tensor] = []
        self._count_calls()

    def _count_calls(self) -> None:
        plain = self.network.noise

        def counted(latents: Tensor, *args: Any, **options: Any) -> Tensor:
            kind = "backward" if torch.is_grad_enabled() else "forward"
            self.calls[f"{self.stage} {kind} {len(latents)}"] += 1
            return plain(latents, *args, **options)

        self.network.noise = counted

    def pose(self, frame: int) -> Tensor:
        """[1, 3, H, W]."""
        return pose_images(self.poses, [frame], self.config).to(self.device)

    def inversion(self) -> None:
        """Z_0 ... Z_T."""
        self.trajectory = invert(self.network, self.latent, self.prompts.conditional, self.pose(0))

    def source(self) -> None:
        """e_s."""
        self.embeddings = optimize_source(self.branches, self.trajectory, self.pose(0), self.config.pacm)

    def frames(self) -> None:
        """e of frames 1 ... N."""
        tasks = [
            FrameTask(pose=self.pose(i), trajectory=self.trajectory, source_embeddings=self.embeddings, prompts=self.prompts)
            for i in range(1, self.config.sampling.frames + 1)
        ]
        self.embedded = [optimize_frame(self.network, task) for task in tasks]

    def generation(self) -> None:
        """All frames together, with DCAM and MGDM."""
        mask = torch.zeros(1, 1, *self.config.size)
        mask[..., self.config.size[1] // 4 : -self.config.size[1] // 4] = 1
        character = self.network.text.places_of("a person dances", "person")
        source = Source(self.prompts, character, self.trajectory, self.embeddings, mask)
        embeddings = torch.stack([self.embeddings.cpu(), *self.embedded]).to(self.device)
        denoise_pass(self.network, source, self.poses, list(range(len(embeddings))), embeddings, lambda: None)

    def do(self, stage: str) -> None:
        """One stage, counted under its name."""
        self.stage = stage
        {"inversion": self.inversion, "source": self.source, "frames": self.frames, "generation": self.generation}[stage]()

    def units(self) -> dict[str, Callable[[], object]]:
        """One evaluation of each kind, at half of the levels; generation's with the attention of a whole clip."""
        network, level = self.network, self.network.schedule.steps // 2 + 1
        count = self.config.sampling.frames + 1
        rows, pose = self.latent.expand(count, -1, -1, -1), pose_images(self.poses, list(range(count)), self.config).to(self.device)
        whole = torch.ones(count, 1, dtype=torch.bool)

        def backward() -> object:
            embedding = self.prompts.conditional.clone().requires_grad_()
            return torch.autograd.grad(network.noise(self.latent, level, embedding, pose[:1]).square().mean(), embedding)

        @torch.no_grad()
        def forward() -> object:
            return network.noise(self.latent, level, self.prompts.conditional, pose[:1])

        @torch.no_grad()
        def batch() -> object:
            with network.consistency.over(count, lambda places: whole.expand(-1, places)):
                return network.noise(rows, level, self.prompts.conditional.expand(count, -1, -1), pose)

        return {"forward": forward, "backward": backward, "batch": batch}


def model_of(config: PoseAnimateConfig) -> dict[str, dict[str, int]]:
    """Stage -> evaluations by kind: the cost model."""
    steps, frames, inner = config.sampling.steps, config.sampling.frames, config.pacm.inner_steps
    return {
        "inversion": {"forward": steps},
        "source": {"backward": steps * inner, "forward": 2 * steps},
        "frames": {"backward": frames * steps, "forward": frames * steps},
        "generation": {"batch": 2 * steps},
    }


def seconds_of(work: Callable[[], object], device: str) -> float:
    """Of one call, all of the device's work included."""
    _wait(device)
    started = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - started


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def check_counts(run: Run, rounds: int) -> None:
    """AssertionError where a stage evaluated the networks more or less often than the model says."""
    for stage, kinds in model_of(run.config).items():
        for kind, count in kinds.items():
            rows = run.config.sampling.frames + 1 if kind == "batch" else 1
            found = run.calls[f"{stage} {'forward' if kind == 'batch' else kind} {rows}"]
            assert found == rounds * count, f"{stage}: {found} {kind} evaluations in {rounds} rounds, the model says {count} in each"


def main() -> None:
    """Print medians of stages and predictions, their ratio, and what was run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paper", action="store_true", help="Stable Diffusion's size at 512x512, 50 levels, 16 frames")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--frames", type=int)
    chosen = parser.parse_args()
    config = config_of(chosen.paper, chosen.steps, chosen.frames)
    run = Run(config, chosen.device)
    _measure(run, chosen.rounds, chosen.paper)


def _measure(run: Run, rounds: int, paper: bool) -> None:
    taken: dict[str, list[float]] = {name: [] for name in (*STAGES, "forward", "backward", "batch")}
    for unit in run.units().values():  # the first call of each kind pays for what is set up once
        unit()
    for _ in range(rounds):
        for name, unit in run.units().items():
            run.stage = "unit"
            taken[name] += [seconds_of(unit, run.device) for _ in range(3)]
        for stage in STAGES:
            taken[stage].append(seconds_of(lambda stage=stage: run.do(stage), run.device))  # type: ignore[misc]
    check_counts(run, rounds)
    times = {name: median(values) for name, values in taken.items()}
    said, total, predicted = [], 0.0, 0.0
    for stage, kinds in model_of(run.config).items():
        expected = sum(count * times[kind] for kind, count in kinds.items())
        total, predicted = total + times[stage], predicted + expected
        said.append(f"{stage} {times[stage]:.2f} s ({expected:.2f})")
    print(_line(run, paper, said, total, predicted))


def _line(run: Run, paper: bool, said: list[str], total: float, predicted: float) -> str:
    config, million = run.config, sum(p.numel() for part in (run.network.unet, run.network.controlnet) for p in part.parameters()) / 1e6
    size = "the paper's size" if paper and (config.sampling.steps, config.sampling.frames) == (50, 16) else "REDUCED size, not the paper's"
    peak = f", peak {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if run.device.startswith("cuda") else ""
    return (
        f"pose_animate_cost ({size}: {million:.1f} M parameters, {config.size[0]}x{config.size[1]}, T {config.sampling.steps}, N {config.sampling.frames}, "
        f"{run.device}): {', '.join(said)}; total {total:.2f} s, cost model {predicted:.2f} s, ratio {total / predicted:.2f} "
        f"(gate 0.8 to 1.25: {'within' if 0.8 <= total / predicted <= 1.25 else 'OUTSIDE'}); evaluations equal the model's{peak}"
    )


if __name__ == "__main__":
    main()
