"""What trains (Sec. 3.4): stage 1 on single frames with identity preservation; stage 1b adapts to UCF101; stage 2 the temporal layers on windows."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.clip_dataset import Batch, ClipStore, TrainingClip, draw_pairs
from models.hfca.config import DomainStage, HfcaConfig
from models.hfca.identity_preservation import IdentityPreservationLoss
from models.hfca.judges import judge_files, perceptual_of, recogniser_of
from models.hfca.network import Hfca, HfcaCondition, add_adaptation, add_temporal, fresh_network, load_network
from models.hfca.pose_descriptor import pose_descriptor
from models.hfca.pose_maps import pose_map
from models.latents import LatentCodec
from models.lean_decoding import decoder_of
from models.pretrained_networks import base_unet_folder
from models.signals import SignalName
from models.stage_config import PairStage, shaping_of
from models.stage_loss import StageLoss, still_condition
from models.stage_training import StageRun, latents_cache, run_stage
from models.training_loop import StepRecord
from pipelines.errors import UserError

NEEDS: tuple[SignalName, ...] = ("hands", "faces", "body_mask", "densepose", "clothing", "actions")

Sides = tuple[list[int], list[int]]
"""Indices of the clips of two data sets in one store."""


def stages_of(config: HfcaConfig) -> tuple[str, ...]:
    """stage_1, stage_1b (unless nothing is adapted), stage_2 (unless STODE is off)."""
    return config.stages


def stage_config(config: HfcaConfig, stage: str) -> dict[str, Any]:
    """What shapes a stage, and nothing of later ones."""
    known: dict[str, Any] = {
        "size": config.size,
        "shape": asdict(config.shape),
        "additions": asdict(config.additions),
        "noise": asdict(config.noise),
        "pose": asdict(config.pose),
        "weights": [config.autoencoder, config.base_unet, config.image_encoder],
        "settings": shaping_of(config.stage(stage)),
    }
    own = {
        "stage_1": {"ipm": asdict(config.ipm)},
        "stage_1b": {"dsao": asdict(config.dsao)},
        "stage_2": {"temporal": asdict(config.temporal)},
    }
    return known | own[stage]


def weight_files(config: HfcaConfig) -> list[Path]:
    """The tiny family's network and the judges that training depends on. Raises MissingWeightsError."""
    return [*([base_unet_folder("demo")] if config.base_unet == "demo" else []), *judge_files(config.ipm)]


def companions(config: HfcaConfig, stage: str) -> tuple[str, ...]:
    """Data sets whose training clips a stage needs beside those of the data set that is trained on."""
    dataset = config.stage_1b.dataset
    return (dataset,) if stage == "stage_1b" and dataset is not None else ()


def needs_of(config: HfcaConfig, stage: str) -> tuple[SignalName, ...]:
    """Signals that a stage reads of its clips."""
    judged: tuple[SignalName, ...] = ("hands", "faces", "body_mask") if stage == "stage_1" and config.ipm.enabled else ()
    posed: tuple[SignalName, ...] = () if config.pose.channels == "skeleton" else ("densepose",)
    if stage == "stage_1":
        return (*judged, *posed)
    clothing: tuple[SignalName, ...] = ("clothing",) if config.dsao.clothes else ()
    actions: tuple[SignalName, ...] = ("actions",) if config.dsao.actions else ()
    return (*posed, *clothing, *actions)


def condition_of(network: Hfca, batch: Batch) -> HfcaCondition:
    """Conditions of a batch, nothing dropped. The motion that trains is the clip's own."""
    parts, still = network.made_of, still_condition(network, batch)
    return HfcaCondition(
        **{**still, "pose": pose_map(network.config.pose.channels, batch.pose, batch.signals.densepose)},
        clothing=batch.reference_signals.clothing if parts.clothing_prototypes is not None else None,
        actions=batch.signals.actions if parts.action_attention is not None else None,
    )


class MixedLoss(StageLoss):
    """Batches whose references come from two data sets in turn, 1:1."""

    sides: Sides

    def batch(self, micro_step: int) -> Batch:
        """The batch of a micro-step, from (seed, micro-step) alone."""
        rng, stage = np.random.default_rng([self.seed, micro_step + 1]), self.stage
        assert isinstance(stage, PairStage)
        chosen = []
        for number in range(stage.references):
            side = self.sides[(micro_step * stage.references + number) % 2]
            clips = [self.store.clips[index] for index in side]
            ((index, reference, targets),) = draw_pairs(clips, 1, stage.targets, rng, stage.distance)
            chosen.append((side[index], reference, targets))
        return self.store.batch(chosen, rng)


def sides_of(clips: Sequence[TrainingClip], stage: DomainStage) -> Sides:
    """(character clips, clips of the adapted domain). Raises UserError where the domain's data set gave no clip."""
    everyone = list(range(len(clips)))
    if stage.dataset is None:
        return everyone, everyone[: stage.samples]
    domain = [index for index in everyone if clips[index].clip.dataset == stage.dataset]
    if not domain:
        raise UserError(
            f"stage_1b adapts to data set {stage.dataset}, and no training clip of it is there: add it to the lake, with the features that hfca needs, "
            "or train a variant with no_dsao"
        )
    own = [index for index in everyone if clips[index].clip.dataset != stage.dataset]
    return own or domain, domain[: stage.samples]  # whoever trains on the domain itself has nothing to mix in


def start(run: StageRun, config: HfcaConfig, clips: Sequence[TrainingClip]) -> Hfca:
    """The network that a stage begins with."""
    torch.manual_seed(run.seed)
    if run.parent is None:
        return fresh_network(config)
    before = load_network(config, run.parent)
    if run.stage == "stage_2":
        return add_temporal(before)
    return add_adaptation(before, action_classes([clips[index] for index in sides_of(clips, config.stage_1b)[1]]))


def action_classes(clips: Sequence[TrainingClip]) -> list[str]:
    """Names of the labelled actions among the clips, sorted; none where the data set has no labels."""
    return sorted({name for clip in clips if (name := action_of(clip))})


def action_of(clip: TrainingClip) -> str:
    """Its class, as the data set labels it (UCF101: the folder's name); "" where it does not."""
    return clip.action_class


def learn_prototypes(network: Hfca, store: ClipStore, domain: Sequence[int]) -> None:
    """Fill both prototype banks from the domain's clips, once: features of their reference frames, motion tokens and poses."""
    parts = network.made_of
    if parts.clothing_prototypes is not None:
        parts.clothing_prototypes.learn(_clothes(network, store, domain))
    if parts.action_attention is not None and parts.action_attention.classes:
        tokens: dict[str, list[Tensor]] = {}
        poses: dict[str, list[Tensor]] = {}
        for index in (index for index in domain if action_of(store.clips[index])):
            clip, actions = store.clips[index], _still(store, index).signals.actions
            assert actions is not None
            tokens.setdefault(action_of(clip), []).append(actions[0])
            poses.setdefault(action_of(clip), []).append(pose_descriptor(clip.keypoints, clip.scores))
        parts.action_attention.learn(tokens, poses)


def _clothes(network: Hfca, store: ClipStore, domain: Sequence[int]) -> Iterator[tuple[list[Tensor], int]]:
    """(tokens of every site [L, C], category) of each clip's reference frame; the label is the likeliest of the zero-shot probabilities."""
    for index in domain:
        batch = _still(store, index)
        assert batch.signals.clothing is not None
        tokens = network.reference_tokens(condition_of(network, batch))
        yield [each[0] for each in tokens], int(batch.signals.clothing[0].argmax())


def _still(store: ClipStore, index: int) -> Batch:
    """A clip's first reference frame as a batch of its own."""
    frame = store.clips[index].references[0]
    return store.batch([(index, frame, [frame])], np.random.default_rng(index))


def train_stage(run: StageRun, clips: Sequence[TrainingClip], config: HfcaConfig, codec: LatentCodec) -> list[StepRecord]:
    """Train one stage into a checkpoint folder; returns the log. `clips` of stage_1b hold those of its `companions`, too."""
    from models.hfca.sampling import animate_batch

    settings, network = config.stage(run.stage), start(run, config, clips)
    store = ClipStore(
        clips,
        config.size,
        codec,
        augment=settings.augment,
        cache=latents_cache(run, codec),
        needs=needs_of(config, run.stage),
        flip=settings.flip,
        warp=network.additions.warp,
    )
    loss = _loss(run, network, store, config, codec)
    records = run_stage(
        run, loss, network.trainable(run.stage), network.parts, codec, lambda batch: animate_batch(network, codec, batch, run.seed)
    )
    if isinstance(loss.extra, IdentityPreservationLoss):
        write_shares(run.out.with_name(f"{run.out.name}.gradient_shares.json"), loss.extra.shares)
    return records


def _loss(run: StageRun, network: Hfca, store: ClipStore, config: HfcaConfig, codec: LatentCodec) -> StageLoss:
    settings = config.stage(run.stage)
    if isinstance(settings, DomainStage):
        loss = MixedLoss(network, store, settings, run.seed, condition_of)
        loss.sides = sides_of(store.clips, settings)
        learn_prototypes(network, store, loss.sides[1])
        return loss
    judged = run.stage == "stage_1" and config.ipm.enabled and bool(config.ipm.face or config.ipm.style)
    extra = (
        IdentityPreservationLoss(config.ipm, decoder_of(codec), recogniser_of(config.ipm), perceptual_of(config.ipm)) if judged else None
    )
    return StageLoss(network, store, settings, run.seed, condition_of, extra=extra)


def write_shares(path: Path, shares: Mapping[str, Sequence[float]]) -> None:
    """Note how the identity losses' gradients compared with the diffusion loss's, before the cap, since the stage was last started."""
    facts = {name: {"steps": len(ratios), "median": float(np.median(ratios)), "largest": max(ratios)} for name, ratios in shares.items()}
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    partial.write_text(json.dumps(facts, indent=1, sort_keys=True))
    os.replace(partial, path)


def additions_of(config: HfcaConfig) -> list[str]:
    """What departs from the paper in this variant, in words for the report."""
    said = {
        "pooled image tokens instead of CLIP": config.image_encoder is None,
        "v-prediction with zero terminal SNR": config.noise.objective == "v",
        "random recogniser": config.ipm.enabled and bool(config.ipm.face) and config.ipm.recogniser is None,
        "random style network": config.ipm.enabled and bool(config.ipm.style) and config.ipm.perceptual is None,
        "fusion of predictions instead of frames": config.stode == "full" and config.sampling.fusion == "eps",
        "adaptation to the data set itself": "stage_1b" in config.stages and config.stage_1b.dataset is None,
    }
    return [*config.additions.said(), *(name for name, used in said.items() if used), *config.sampling.said()]
