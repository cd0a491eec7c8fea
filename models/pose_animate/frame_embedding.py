"""PACM, second half: pose-aware embedding optimisation (Alg. 1, lines 3 to 9), one frame at a time.

Frames know nothing of each other here, so they may run anywhere: `FrameTask` is what one frame needs, `FrameWork` what is done with it, and
both can be pickled; `RunFrames` says where. Serial is the default; a pool's `map`, or an engine's, does the same to the bit.
"""

# T = levels, S D = tokens of a prompt and their width, C h w = latent channels, height, width

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from models.on_device import device_of, on_device
from models.pose_animate.config import PoseAnimateConfig
from models.pose_animate.inversion import Branches, EmbeddingOptimizer, Prompts
from models.pose_animate.network import PoseAnimate, network_of


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameTask:
    """Plain data of one frame, on the CPU; only the pose differs between the frames of a clip."""

    pose: Tensor  # [1, 3, H, W] in [0, 1]
    trajectory: Tensor  # [T + 1, 1, C, h, w] of the source, Z_0 first
    source_embeddings: Tensor  # [T, S, D], the noisiest level's first
    prompts: Prompts


RunFrames = Callable[[Callable[[FrameTask], Tensor], Sequence[FrameTask]], Iterable[Tensor]]
"""(work, tasks) -> the results in the tasks' order, like `map`."""


def one_after_the_other(work: Callable[[FrameTask], Tensor], tasks: Sequence[FrameTask]) -> list[Tensor]:
    """In this process."""
    return [work(task) for task in tasks]


@dataclass(frozen=True, slots=True)
class FrameWork:
    """Alg. 1 for one frame, by the networks of a variant, which each process loads once. Pickles as the variant's settings alone."""

    config: PoseAnimateConfig

    def __call__(self, task: FrameTask) -> Tensor:
        return optimize_frame(network_of(self.config), task)


def optimize_frame(network: PoseAnimate, task: FrameTask) -> Tensor:
    """Pose-aware embeddings [T, S, D] of one frame (Alg. 1, lines 4 to 8), on the CPU.

    Ztilde_{t-1} = Sample(Ztilde_t, e_t, p_i, C);  e_t <- e_t - eta grad MSE(Z_{t-1}, Ztilde_{t-1}): the target is the source's trajectory,
    the update comes after the step, and the trajectory is not gone through again.
    """
    config, task = network.config, on_device(task, device_of(network))
    branches = Branches(network, task.prompts, config.sampling.guidance_scale, config.pacm.optimize)
    latents, found = task.trajectory[-1], []
    for index, level in enumerate(range(network.schedule.steps, 0, -1)):
        fixed = branches.fixed_noise(latents, level, task.pose)
        # Adam in place of the printed plain gradient: a mean over all latent pixels makes that one too small to move anything.
        start = task.source_embeddings[index][None]
        optimizer = EmbeddingOptimizer(start, index, network.schedule.steps, task.prompts.length, config.pacm)
        sampled = None
        for _ in range(config.pacm.embed_steps):
            stepped = branches.stepped(latents, level, optimizer.embedding, task.pose, fixed)
            sampled = stepped.detach() if sampled is None else sampled
            optimizer.update(stepped, task.trajectory[level - 1])
        if sampled is None:  # no update at all: e stays the source's
            with torch.no_grad():
                sampled = branches.stepped(latents, level, optimizer.embedding, task.pose, fixed)
        latents = sampled
        found.append(optimizer.embedding.detach()[0])
    return torch.stack(found).cpu()


@dataclass(frozen=True, slots=True)
class KeptOnDisk:
    """RunFrames that keeps embeddings in a folder, one file per frame and settings, and does only what is not there."""

    folder: Path
    run: RunFrames = one_after_the_other

    def __call__(self, work: Callable[[FrameTask], Tensor], tasks: Sequence[FrameTask]) -> list[Tensor]:
        from safetensors.torch import load_file

        self.folder.mkdir(parents=True, exist_ok=True)
        paths = [self.folder / f"{digest_of_task(work, task)}.safetensors" for task in tasks]
        missing = [i for i, path in enumerate(paths) if not path.is_file()]
        for i, made in zip(missing, self.run(work, [tasks[i] for i in missing]), strict=True):
            _save(paths[i], made)
        return [load_file(path)["embeddings"] for path in paths]


def digest_of_task(work: Callable[[FrameTask], Tensor], task: FrameTask) -> str:
    """24 hex digits over the work's settings and the task's data."""
    digest = hashlib.sha256(repr(work).encode())
    parts = [getattr(task, field.name) for field in fields(task) if field.name != "prompts"]
    for value in (*parts, task.prompts.conditional, task.prompts.unconditional):
        digest.update(repr(tuple(value.shape)).encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:24]


def _save(path: Path, embeddings: Tensor) -> None:
    from safetensors.torch import save_file

    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    save_file({"embeddings": embeddings.cpu().contiguous()}, partial)
    partial.replace(path)
