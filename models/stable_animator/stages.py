"""What trains: one stage, `stage_1`, on clips at several sizes, with faces weighted in the loss (Eq. 13)."""

# B = clips, F = frames, C h w = latents

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.clip_dataset import Batch, ClipStore, PoseStyle, TrainingClip, draw_windows
from models.demo_additions import anchor_of
from models.latents import LatentCodec
from models.noise_levels import NoiseLevels, log_sigma_levels, losses_of_rows
from models.on_device import on_device
from models.signals import SignalName
from models.stable_animator.config import StableAnimatorConfig, Stage1
from models.stable_animator.edm import denoising_weight, draw_sigmas
from models.stable_animator.face_region import found, latent_masks
from models.stable_animator.network import StableAnimator, SvdCondition, fresh_network, nothing_dropped
from models.stable_animator.sampling import checked_faces, generate_latents
from models.stable_animator.temporal_codec import conditioning_latent, unscaled
from models.stage_config import shaping_of
from models.stage_training import StageRun, latents_cache, run_stage
from models.training_loop import StepRecord

STAGES = ("stage_1",)
NEEDS: tuple[SignalName, ...] = ("faces",)


class FaceWeightedLoss:
    """The loss of the stage: (micro-step, generator) -> scalar."""

    def __init__(self, network: StableAnimator, stores: Sequence[ClipStore], codec: LatentCodec, seed: int) -> None:
        self.network, self.stores, self.codec, self.seed = network, tuple(stores), codec, seed
        self.stage, self.sigmas = network.config.stage_1, network.config.sigmas
        self.levels = log_sigma_levels(math.log(self.sigmas.smallest), math.log(self.sigmas.largest))
        self.device = torch.device("cpu")

    def batch(self, micro_step: int) -> Batch:
        """The batch of a micro-step, at one of the sizes, from (seed, micro-step) alone."""
        rng, stage = np.random.default_rng([self.seed, micro_step + 1]), self.stage
        store = self.stores[int(rng.integers(len(self.stores)))]
        return store.batch(draw_windows(store.clips, stage.batch, stage.window, stage.stride, rng, outside=True), rng)

    def __call__(self, micro_step: int, generator: torch.Generator) -> Tensor:
        return self.of(self.batch(micro_step), generator, self.stage.drop_probability, self.levels)

    def of(self, batch: Batch, generator: torch.Generator, drop_probability: float, levels: NoiseLevels | None = None) -> Tensor:
        """The loss of one batch; drop_probability 0 drops nothing at all. Everything random is drawn on the CPU; `levels` note it by noise level."""
        condition = self._condition(batch, generator, sample=self.stage.sample_posterior and drop_probability > 0)
        if drop_probability > 0:
            condition = drop_conditions(condition, self.stage, drop_probability, generator)
        sigma = draw_sigmas(self.sigmas, len(batch.latents), generator)
        clips, frames, *size = batch.latents.shape
        noise = torch.randn(clips, 1 if self.stage.shared_noise else frames, *size, generator=generator).expand(clips, frames, *size)
        diffused = self.network.config.additions.diffused(batch.latents, anchor_of(batch))
        clean, wide = diffused.to(self.device), sigma.to(self.device)[:, None, None, None, None]
        estimate = self.network(clean + wide * noise.to(self.device), sigma.to(self.device), on_device(condition, self.device))
        weight = loss_weight(sigma, self._mask(batch), self.stage).to(self.device)
        if levels is not None:
            levels.add(sigma.log(), losses_of_rows(estimate, clean, weight, len(clean)).cpu())
        return (weight * (estimate - clean).square()).mean()

    def _condition(self, batch: Batch, generator: torch.Generator, *, sample: bool) -> SvdCondition:
        clips, settings = len(batch.latents), self.network.config.network
        with torch.no_grad():
            tokens = self.network.image_tokens(batch.reference_image)
        return SvdCondition(
            reference_latent=conditioning_latent(self.codec, batch.reference_image, settings.time_ids[2], generator, sample=sample),
            image_tokens=tokens,
            face=checked_faces(batch.reference_signals.face_embeddings, clips, settings.face_dim),
            pose=batch.pose,
            warped=None if batch.warped is None else unscaled(self.codec, anchor_of(batch)),
            **nothing_dropped(clips),
        )

    def _mask(self, batch: Batch) -> Tensor:
        """M [B, F, 1, h, w]."""
        clips, frames, _, height, width = batch.latents.shape
        boxes = batch.signals.face_boxes
        if boxes is None or not self.stage.face_mask:
            return torch.zeros(clips, frames, 1, height, width)
        scale = batch.reference_image.shape[-2] // height
        return loss_masks(boxes[:, 0].float(), (height, width), scale, self.stage.no_face).unflatten(0, (clips, frames))


def loss_masks(boxes: Tensor, latent_size: tuple[int, int], scale: int, no_face: str = "zeros") -> Tensor:
    """M [N, 1, h, w]: 1 inside of faces. A frame without one: all zeros, or all ones as in the released code."""
    masks = latent_masks(boxes, latent_size, scale)
    return torch.where(found(boxes)[:, None, None, None], masks, torch.ones_like(masks)) if no_face == "ones" else masks


def loss_weight(sigma: Tensor, mask: Tensor, stage: Stage1) -> Tensor:
    """w(sigma) (1 + M)^p, by which E weighs (z_gt - z_eps)^2 (Eq. 13): [B, F, 1, h, w] from sigma [B] and M [B, F, 1, h, w].

    p = 1 as in the released code; Eq. 13 squares the product, which is p = 2. w is EDM's, which the equation leaves out.
    """
    return denoising_weight(sigma)[:, None, None, None, None] * (1 + mask.to(sigma)) ** stage.mask_power


def drop_conditions(condition: SvdCondition, stage: Stage1, probability: float, generator: torch.Generator) -> SvdCondition:
    """One u per clip (InstructPix2Pix): the image token goes for u < 2p, the reference latent for p <= u < 3p; both for p <= u < 2p.

    Additions, off in the released code: face tokens go with the image token, and the pose by a draw of its own.
    """
    clips = len(condition.face)
    u, own = torch.rand(clips, generator=generator), torch.rand(clips, generator=generator)
    image = u < 2 * probability
    return replace(
        condition,
        image_dropped=image,
        latent_dropped=(u >= probability) & (u < 3 * probability),
        face_dropped=image if stage.drop_face_with_image else condition.face_dropped,
        pose_dropped=own < stage.drop_pose,
    )


def stage_config(config: StableAnimatorConfig) -> dict[str, Any]:
    """What shapes the stage: neither the sampler, nor the recogniser that it optimises faces by, nor the size of what it makes."""
    chosen = {name: value for name, value in asdict(config).items() if name not in ("sampling", "recogniser", "size")}
    return {**chosen, "stage_1": shaping_of(config.stage_1)}


def train_stage(run: StageRun, clips: Sequence[TrainingClip], config: StableAnimatorConfig, codec: LatentCodec) -> list[StepRecord]:
    """Train stage_1 into a checkpoint folder; returns the log."""
    stage = config.stage_1
    torch.manual_seed(run.seed)
    network = fresh_network(config, len(codec.mean.flatten()) * codec.packing**2)
    parameters = network.trainable()
    cache = latents_cache(run, codec)
    style = PoseStyle(style=config.network.pose_drawing)
    stores = [
        ClipStore(
            clips,
            size,
            codec,
            augment=stage.augment,
            cache=cache,
            needs=NEEDS,
            pose_style=style,
            flip=stage.flip,
            warp=config.additions.warp,
        )
        for size in stage.sizes
    ]
    loss: Any = FaceWeightedLoss(network, stores, codec, run.seed)
    return run_stage(run, loss, parameters, network.parts, codec, lambda batch: animate_batch(loss, batch, run.seed))


def animate_batch(loss: FaceWeightedLoss, batch: Batch, seed: int) -> Tensor:
    """[B, F, 3, H, W] in [-1, 1] for a training batch, for the periodic pictures; faces are not optimised."""
    network, frames, images = loss.network, batch.latents.shape[1], []
    whole = on_device(loss._condition(batch, torch.Generator().manual_seed(seed), sample=False), loss.device)
    for i in range(len(batch.latents)):
        rows = slice(i, i + 1)
        one = SvdCondition(
            reference_latent=whole.reference_latent[rows], image_tokens=whole.image_tokens[rows], face=whole.face[rows], pose=None,
            warped=None if whole.warped is None else whole.warped[rows], **nothing_dropped(1),
        )  # fmt: skip
        anchor = anchor_of(batch)[i].to(loss.device)
        latents = generate_latents(network, one, batch.pose[i * frames : (i + 1) * frames], anchor, network.config, seed)
        images.append(loss.codec.decode(latents))
    return torch.stack(images)


def additions_of(config: StableAnimatorConfig) -> list[str]:
    """What departs from the paper in this variant, in words for the report."""
    said = {
        "pooled image tokens instead of CLIP": config.image_encoder is None,
        "UNet from scratch instead of SVD": config.base_unet is None,
        "random face recogniser instead of a trained one": config.recogniser is None and config.sampling.hjb.enabled,
        "image autoencoder instead of the temporal one": config.autoencoder.startswith("autoencoder"),
        "face tokens dropped with the image token": config.stage_1.drop_face_with_image,
        "poses dropped": config.stage_1.drop_pose > 0,
        "shared noise over frames": config.sampling.noise == "shared",
        f"initial noise of standard deviation {config.sampling.noise_std:g}": config.sampling.noise_std != 1,
    }
    return [*(name for name, used in said.items() if used), *config.additions.said()]
