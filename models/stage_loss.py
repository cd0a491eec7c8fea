"""The loss of a diffusion stage: batches from (seed, micro-step) alone, noise, the weighted regression, and what a method adds to it."""

# R = references, K = targets or frames per reference, C h w = latent channels, height, width

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from models.clip_dataset import Batch, ClipStore, draw_pairs, draw_windows
from models.demo_additions import DemoAdditions, anchor_of
from models.guidance import Condition, draw_dropped, null_conditions
from models.noise import (
    NoiseConfig,
    add_noise,
    alpha_bar,
    clean_estimate,
    diffusion_loss,
    draw_noise,
    loss_weight,
    make_scheduler,
    target_of,
)
from models.noise_levels import NoiseLevels, losses_of_rows, timestep_levels
from models.on_device import on_device
from models.stage_config import PairStage, Stage, WindowStage


class Denoiser(Protocol):
    """A method's network: predicts for noisy latents [R, K, C, h, w] at timesteps [R] or [R * K] under a condition."""

    noise: NoiseConfig
    additions: DemoAdditions

    def __call__(self, noisy: Tensor, timesteps: Tensor, condition: Any) -> Tensor: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Denoised:
    """One batch after the network, for losses beside the regression."""

    batch: Batch
    condition: Condition
    timesteps: Tensor  # [R * K], one of each row
    noisy: Tensor  # [R, K, C, h, w]
    prediction: Tensor  # [R, K, C, h, w]
    regression: Tensor  # scalar, the diffusion loss
    estimate: Tensor  # [R, K, C, h, w] one-step latents, in the codec's units (demo additions undone)


ConditionOf = Callable[[Any, Batch], Any]
"""(network, batch) -> its Condition, nothing dropped."""

Drop = Callable[[Any, float, torch.Generator], Any]
"""(condition, probability, generator) -> the condition with what classifier-free guidance drops."""

ExtraLoss = Callable[[Denoised], Tensor]
"""A scalar that is added to the regression; weights and gates are the method's."""


def drop_references(condition: Condition, probability: float, generator: torch.Generator) -> Condition:
    """Null conditions for references drawn one by one."""
    return null_conditions(condition, draw_dropped(len(condition.reference_latent), probability, generator))


class StageLoss:
    """The loss of one stage: (micro-step, generator) -> scalar."""

    def __init__(
        self,
        network: Denoiser,
        store: ClipStore,
        stage: Stage,
        seed: int,
        condition_of: ConditionOf,
        *,
        drop: Drop = drop_references,
        extra: ExtraLoss | None = None,
    ) -> None:
        self.network, self.store, self.stage, self.seed = network, store, stage, seed
        self.condition_of, self.drop, self.extra = condition_of, drop, extra
        self.noise = network.noise
        self.scheduler = make_scheduler(self.noise)
        self.levels = timestep_levels(self.noise.train_steps)
        self.device = torch.device("cpu")

    def batch(self, micro_step: int) -> Batch:
        """The batch of a micro-step, from (seed, micro-step) alone."""
        rng, stage = np.random.default_rng([self.seed, micro_step + 1]), self.stage
        if isinstance(stage, PairStage):
            chosen = draw_pairs(self.store.clips, stage.references, stage.targets, rng, stage.distance)
        else:
            window = 1 if stage.static and rng.random() < stage.static else stage.window
            chosen = draw_windows(self.store.clips, stage.batch, window, stage.stride, rng)
        return self.store.batch(chosen, rng)

    def __call__(self, micro_step: int, generator: torch.Generator) -> Tensor:
        """Weighted v (or epsilon) regression, with the stage's extra loss; references are dropped one by one for classifier-free guidance."""
        return self.of(self.batch(micro_step), generator, self.stage.drop_probability, self.levels)

    def of(self, batch: Batch, generator: torch.Generator, drop_probability: float, levels: NoiseLevels | None = None) -> Tensor:
        """The loss of one batch; `levels` note its regression by noise level."""
        batch = on_device(batch, self.device)
        condition = self.drop(self.condition_of(self.network, batch), drop_probability, generator)
        additions, (references, each) = self.network.additions, batch.latents.shape[:2]
        anchor = anchor_of(batch)
        clean = additions.diffused(batch.latents, anchor)
        timesteps = self._timesteps(references, each, generator)
        noise = self._noise(clean, generator)
        per_row = timesteps if len(timesteps) == references * each else timesteps.repeat_interleave(each)
        alpha = alpha_bar(self.scheduler, per_row, clean.flatten(0, 1)).unflatten(0, (references, each))
        noisy = add_noise(clean, noise, alpha)
        prediction = self.network(noisy, timesteps, condition)
        objective = self.noise.objective
        target, weight = target_of(clean, noise, alpha, objective), loss_weight(alpha, self.noise)
        regression = diffusion_loss(prediction, target, weight)
        if levels is not None:
            levels.add(per_row, losses_of_rows(prediction, target, weight, len(per_row)))
        if self.extra is None:
            return regression
        estimate = additions.restored(clean_estimate(noisy, prediction, alpha, objective), anchor)
        denoised = Denoised(
            batch=batch,
            condition=condition,
            timesteps=per_row,
            noisy=noisy,
            prediction=prediction,
            regression=regression,
            estimate=estimate,
        )
        return regression + self.extra(denoised)

    def _timesteps(self, references: int, each: int, generator: torch.Generator) -> Tensor:
        """[R] for clips, whose frames share a level; [R * K] for single frames."""
        pairs = isinstance(self.stage, PairStage)
        first, end = (self.stage.timesteps if isinstance(self.stage, PairStage) else None) or (0, self.noise.train_steps)
        drawn = torch.randint(first, end, (references * each if pairs else references,), generator=generator)
        return drawn.to(self.device)

    def _noise(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """Drawn on the CPU, so that every device trains with the same noise."""
        if isinstance(self.stage, WindowStage) and self.stage.shared_noise:
            return draw_noise(clean[:, 0].shape, self.noise, generator)[:, None].expand_as(clean).to(clean)
        if isinstance(self.stage, WindowStage):  # frames behind channels: one offset per clip and channel, not per frame
            return draw_noise(clean.transpose(1, 2).shape, self.noise, generator).transpose(1, 2).to(clean)
        return draw_noise(clean.flatten(0, 1).shape, self.noise, generator).view_as(clean).to(clean)


def still_condition(network: Any, batch: Batch) -> dict[str, Tensor]:
    """The fields that every Condition has, of a batch: reference latent, image tokens without gradients, pose, nothing dropped."""
    with torch.no_grad():
        tokens = network.image_tokens(batch.reference_image)
    return {
        "reference_latent": batch.reference_latent,
        "image_tokens": tokens,
        "pose": batch.pose,
        "warped": batch.warped,
        "dropped": torch.zeros(len(batch.reference_latent), dtype=torch.bool, device=batch.pose.device),
    }
