"""PACM, first half: DDIM inversion of the source under its own pose, and the embeddings that make sampling retrace it (Eq. 6)."""

# T = levels, N = rows, S D = tokens of the prompt and their width

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from models.guidance import guide
from models.pose_animate.config import Pacm
from models.pose_animate.network import PoseAnimate


@dataclass(frozen=True, slots=True)
class Prompts:
    """The prompt's tokens and the empty prompt's, [1, S, D] each; length: tokens of the prompt with its start and end."""

    conditional: Tensor
    unconditional: Tensor
    length: int


@dataclass(frozen=True, slots=True)
class Branches:
    """The two sides of guidance, of which Eq. 6 and Alg. 1 optimise one; e is that one's embedding."""

    network: PoseAnimate
    prompts: Prompts
    scale: float
    optimized: str

    @property
    def initial(self) -> Tensor:
        """e before anything is optimised, [1, S, D]."""
        return self.prompts.conditional if self.optimized == "cond" else self.prompts.unconditional

    @torch.no_grad()
    def fixed_noise(self, latents: Tensor, level: int, pose: Tensor) -> Tensor:
        """Epsilon of the side that stays; it is the same for all e, so it is computed once."""
        tokens = self.prompts.unconditional if self.optimized == "cond" else self.prompts.conditional
        return self.network.noise(latents, level, tokens.expand(len(latents), -1, -1), pose)

    def stepped(self, latents: Tensor, level: int, embedding: Tensor, pose: Tensor, fixed: Tensor) -> Tensor:
        """z_{t-1}(latents, e, pose, C): one guided DDIM step, with gradients for the embedding [N, S, D]."""
        moving = self.network.noise(latents, level, embedding, pose)
        unconditional, conditional = (fixed, moving) if self.optimized == "cond" else (moving, fixed)
        return self.network.step(latents, guide(unconditional, conditional, self.scale), level)


@torch.no_grad()
def invert(network: PoseAnimate, latent: Tensor, prompt: Tensor, pose: Tensor, advance: Callable[[], None] | None = None) -> Tensor:
    """Z_0 … Z_T [T + 1, 1, C, h, w] of a clean latent [1, C, h, w] at guidance 1 (Alg. 1, line 1), with the source's pose image [1, 3, H, W].

    Level k - 1 is moved up with the noise that the network sees in it at level k's timestep, as in the public code of prompt-to-prompt.
    """
    trajectory = [latent]
    for level in range(1, network.schedule.steps + 1):
        noise = network.noise(trajectory[-1], level, prompt, pose)
        trajectory.append(network.schedule.move(trajectory[-1], noise, level - 1, level))
        if advance is not None:
            advance()
    return torch.stack(trajectory)


@torch.no_grad()
def reconstruct(branches: Branches, trajectory: Tensor, embeddings: Tensor, pose: Tensor) -> Tensor:
    """The source's latent [1, C, h, w] by guided sampling from Z_T with embeddings [T, S, D] (first: the noisiest level's)."""
    latents = trajectory[-1]
    for index, level in enumerate(range(branches.network.schedule.steps, 0, -1)):
        fixed = branches.fixed_noise(latents, level, pose)
        latents = branches.stepped(latents, level, embeddings[index][None], pose, fixed)
    return latents


def optimize_source(branches: Branches, trajectory: Tensor, pose: Tensor, config: Pacm) -> Tensor:
    """Pose-aware inversion (Eq. 6): embeddings e_s [T, S, D], the noisiest level's first.

    min over e_t of || Z_{t-1} - z_{t-1}(Zbar_t, e_t, p_s, C) ||^2,   Zbar_T = Z_T,   e_{t-1} starts from e_t
    """
    latents, embedding, found = trajectory[-1], branches.initial, []
    for index, level in enumerate(range(branches.network.schedule.steps, 0, -1)):
        fixed = branches.fixed_noise(latents, level, pose)
        optimizer = EmbeddingOptimizer(embedding, index, len(trajectory) - 1, branches.prompts.length, config)
        for _ in range(config.inner_steps):
            stepped = branches.stepped(latents, level, optimizer.embedding, pose, fixed)
            loss = optimizer.update(stepped, trajectory[level - 1])
            if config.early_stop is not None and loss < config.early_stop + config.early_stop_slope * index:
                break
        embedding = optimizer.embedding.detach()
        with torch.no_grad():
            latents = branches.stepped(latents, level, embedding, pose, fixed)
        found.append(embedding[0])
    return torch.stack(found)


class EmbeddingOptimizer:
    """Adam over one embedding [1, S, D] at one level, new at each; index 0 = the noisiest."""

    def __init__(self, start: Tensor, index: int, levels: int, length: int, config: Pacm) -> None:
        self.embedding = start.detach().clone().requires_grad_()
        # Null-text inversion has 1e-2 (1 - i / 100) for its 50 levels: the rate falls to half, however many there are.
        self._adam = torch.optim.Adam([self.embedding], lr=config.learning_rate * (1 - 0.5 * index / levels))
        self._kept = torch.ones_like(start[..., :1])
        if config.freeze_padding:
            self._kept[:, 0], self._kept[:, length:] = 0, 0

    def update(self, stepped: Tensor, target: Tensor) -> float:
        """One step down the mean squared error; returns it as it was before."""
        loss = (stepped - target).square().mean()
        (gradient,) = torch.autograd.grad(loss, self.embedding)
        self.embedding.grad = gradient * self._kept
        self._adam.step()
        return loss.item()
