"""What trains: stage 1 on single frames, stage 2 on windows with the temporal layers alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.animate_anyone.config import AnimateAnyoneConfig, NetworkConfig, Stage1, Stage2
from models.animate_anyone.network import AnimateAnyone, add_motion, fresh_network, load_network
from models.animate_anyone.sampling import animate_batch
from models.checkpoint import read_manifest, save_checkpoint
from models.clip_dataset import Batch, ClipStore, TrainingClip, draw_pairs, draw_windows
from models.guidance import Condition, draw_dropped, null_conditions
from models.latents import LatentCodec
from models.noise import add_noise, alpha_bar, diffusion_loss, draw_noise, loss_weight, make_scheduler, target_of
from models.pictures import save_batch_picture
from models.training_loop import StepRecord, loss_fall, train
from pipelines.errors import UserError

STAGES = ("stage_1", "stage_2")

_PROBE_MICRO_STEP = -1  # the probe's batch, noise and timesteps are those of a step that is never trained


class StageLoss:
    """The loss of one stage: (micro-step, generator) -> scalar."""

    def __init__(self, network: AnimateAnyone, store: ClipStore, stage: Stage1 | Stage2, seed: int) -> None:
        self.network, self.store, self.stage, self.seed = network, store, stage, seed
        self.noise = network.config.noise
        self.scheduler = make_scheduler(self.noise)

    def batch(self, micro_step: int) -> Batch:
        """The batch of a micro-step, from (seed, micro-step) alone."""
        rng = np.random.default_rng([self.seed, micro_step + 1])
        if isinstance(self.stage, Stage1):
            chosen = draw_pairs(self.store.clips, self.stage.references, self.stage.targets, rng, self.stage.distance)
        else:
            chosen = draw_windows(self.store.clips, self.stage.batch, self.stage.window, self.stage.stride, rng)
        return self.store.batch(chosen, rng)

    def __call__(self, micro_step: int, generator: torch.Generator) -> Tensor:
        """Weighted v (or epsilon) regression; the reference is dropped per sample for classifier-free guidance."""
        return self.of(self.batch(micro_step), generator, self.stage.drop_probability)

    def of(self, batch: Batch, generator: torch.Generator, drop_probability: float) -> Tensor:
        """The loss of one batch."""
        references, each = batch.latents.shape[:2]
        condition = condition_of(self.network, batch)
        condition = null_conditions(condition, draw_dropped(references, drop_probability, generator))
        clean = clean_of(batch, self.network.config.network)
        per_clip = isinstance(self.stage, Stage2)
        draws = references if per_clip else references * each
        timesteps = torch.randint(0, self.noise.train_steps, (draws,), generator=generator)
        noise = self._noise(clean, generator)
        per_row = timesteps.repeat_interleave(each) if per_clip else timesteps
        alpha = alpha_bar(self.scheduler, per_row, clean.flatten(0, 1)).unflatten(0, (references, each))
        prediction = self.network(add_noise(clean, noise, alpha), timesteps, condition)
        return diffusion_loss(prediction, target_of(clean, noise, alpha, self.noise.objective), loss_weight(alpha, self.noise))

    def _noise(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        if isinstance(self.stage, Stage2) and self.stage.shared_noise:
            return draw_noise(clean[:, 0].shape, self.noise, generator)[:, None].expand_as(clean)
        if isinstance(self.stage, Stage2):  # frames behind channels: one offset per clip and channel, not per frame
            return draw_noise(clean.transpose(1, 2).shape, self.noise, generator).transpose(1, 2)
        return draw_noise(clean.flatten(0, 1).shape, self.noise, generator).view_as(clean)


def condition_of(network: AnimateAnyone, batch: Batch) -> Condition:
    """Conditions of a batch, nothing dropped."""
    with torch.no_grad():
        tokens = network.image_tokens(batch.reference_image)
    return Condition(
        reference_latent=batch.reference_latent,
        image_tokens=tokens,
        pose=batch.pose,
        dropped=torch.zeros(len(batch.reference_latent), dtype=torch.bool),
    )


def clean_of(batch: Batch, config: NetworkConfig) -> Tensor:
    """x0 of the diffusion, [R, K, C, h, w]: the target latents or, as demo addition, their scaled difference to the reference's."""
    return (batch.latents - batch.reference_latent[:, None]) / config.residual_scale if config.residual else batch.latents


def _start(stage: str, config: AnimateAnyoneConfig, parent: Path | None, seed: int) -> AnimateAnyone:
    torch.manual_seed(seed)
    if stage == "stage_1":
        return fresh_network(config)
    if parent is None:
        raise UserError("stage_2 continues from stage_1: give its checkpoint as parent")
    return add_motion(load_network(config, parent))


def train_stage(
    stage: str,
    *,
    clips: Sequence[TrainingClip],
    config: AnimateAnyoneConfig,
    codec: LatentCodec,
    parent: Path | None,
    out: Path,
    seed: int,
    identity: dict[str, str],
    on_record: Callable[[StepRecord], None] | None = None,
) -> list[StepRecord]:
    """Train one stage into the checkpoint folder `out` (resumes from `out`.state); returns the log. Raises UserError."""
    if stage not in STAGES:
        raise UserError(f"animate_anyone has no stage {stage!r}; it has: {', '.join(STAGES)}")
    settings = config.stage_1 if stage == "stage_1" else config.stage_2
    network = _start(stage, config, parent, seed)
    parameters = network.trainable(stage)
    store = ClipStore(clips, config.size, codec, augment=settings.augment, cache=out.parent / f".latents-{codec.fingerprint()}")
    loss = StageLoss(network, store, settings, seed)
    probe_batch = loss.batch(_PROBE_MICRO_STEP)

    def probe() -> Tensor:  # several noise levels of one batch, always the same ones
        return torch.stack([loss.of(probe_batch, torch.Generator().manual_seed(1000 + i), 0.0) for i in range(4)]).mean()

    def picture(step: int) -> None:
        save_batch_picture(
            out.with_name(f"{out.name}.pictures") / f"{step:06d}.png", codec, probe_batch, animate_batch(network, codec, probe_batch, seed)
        )

    state_folder = out.with_name(f".{out.name}.state")
    records = train(
        parameters,
        loss,
        settings.loop,
        seed=seed,
        state_folder=state_folder,
        label=stage,
        probe=probe,
        picture=picture,
        on_record=on_record,
    )
    trained = sum(p.numel() for p in parameters.values())
    parent_manifest = read_manifest(parent) if parent is not None else {}
    manifest = {
        **identity,
        "stage": stage,
        "seed": seed,
        "config": config.as_dict(),
        "parent": parent_manifest.get("checkpoint_id"),
        "trained_parameters": trained,
        "loss_fall": loss_fall(records),
        "additions": additions_of(config),
    }
    save_checkpoint(out, network.parts(), manifest)
    return records


def additions_of(config: AnimateAnyoneConfig) -> list[str]:
    """What departs from the paper in this variant, in words for the report."""
    said = {
        "reference hint at the stem": config.network.hint,
        "reference hint that begins as the base's stem": config.network.hint_from_stem,
        "residual diffusion": config.network.residual,
        "skip of the linear estimate": config.network.skip_std is not None,
        "pooled image tokens instead of CLIP": config.image_encoder is None,
        "shared noise over frames": config.sampling.shared_noise,
    }
    return [name for name, used in said.items() if used]
