"""What runs: reference UNet, pose guider and denoiser, joined by the reference bank and the denoiser's stem."""

# R = references, K = targets or frames per reference, C h w = latent channels, height, width

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import ControlNetModel, MotionAdapter, UNet2DConditionModel, UNetMotionModel
from safetensors.torch import load_file
from torch import Tensor, nn

from models.animate_anyone.config import AnimateAnyoneConfig
from models.animate_anyone.feature_concat import FeatureConcat, concat_reference
from models.animate_anyone.resnet_reference import ResnetReference, resnet_for
from models.checkpoint import WEIGHTS, load_part
from models.demo_additions import ReferenceHint, hinted
from models.denoising import denoise, sees_frames
from models.guidance import Condition
from models.image_tokens import image_tokens_of
from models.noise import make_scheduler
from models.pose_controlnet import control_residuals, controlnet_of
from models.pose_guider import PoseGuider, start_from_controlnet
from models.pretrained_networks import base_unet_folder, controlnet_folder, motion_adapter_folder
from models.reference_attention import ReferenceBank, freeze_unused_tail, read_reference, write_reference
from models.stem import StemAddition
from models.temporal_attention import motion_parameters, with_motion, zero_motion_output
from models.unet_shape import make_motion, make_unet


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceCondition(Condition):
    """With the reference's picture, for encoders that are not the autoencoder's (Tables 4 and 5)."""

    per_reference: ClassVar[tuple[str, ...]] = (*Condition.per_reference, "reference_image")

    reference_image: Tensor  # [R, 3, H, W] in [-1, 1]


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """The networks of a variant; None = it has none of this kind. Names are those of a checkpoint's folders."""

    denoising_unet: Any
    reference_unet: Any = None
    reference_resnet: ResnetReference | None = None
    feature_concat: FeatureConcat | None = None
    reference_controlnet: Any = None
    pose_guider: PoseGuider | None = None
    reference_hint: ReferenceHint | None = None

    def present(self) -> dict[str, Any]:
        """By name, those that there are."""
        return {name: part for name in self.__dataclass_fields__ if (part := getattr(self, name)) is not None}


class AnimateAnyone(nn.Module):
    """The denoiser with its conditions. `temporal` is whether it has motion modules (stage 2) or not (stage 1)."""

    def __init__(self, config: AnimateAnyoneConfig, parts: Parts, tokens: nn.Module) -> None:
        super().__init__()
        self.config, self.made_of, self.image_tokens = config, parts, tokens
        self.networks = nn.ModuleDict(parts.present())
        self.noise, self.additions = config.noise, config.network.additions
        self.scheduler = make_scheduler(config.noise)
        self.bank = ReferenceBank()
        self.stem = StemAddition(parts.denoising_unet.conv_in)
        if config.network.reads_reference:
            self._read()

    def _read(self) -> None:
        parts, denoiser = self.made_of, self.made_of.denoising_unet
        joining = parts.feature_concat
        sites = read_reference(denoiser, self.bank) if joining is None else concat_reference(denoiser, self.bank, joining)
        if parts.reference_unet is None:
            return
        if write_reference(parts.reference_unet, self.bank) != sites:
            raise ValueError("reference and denoising UNet have different self-attention sites")
        freeze_unused_tail(parts.reference_unet)

    @property
    def temporal(self) -> bool:
        """Whether frames see each other."""
        return sees_frames(self.made_of.denoising_unet)

    def forward(self, noisy: Tensor, timesteps: Tensor, condition: ReferenceCondition) -> Tensor:
        """Prediction for noisy latents [R, K, C, h, w] at timesteps [R] or [R * K]; same shape as `noisy`."""
        each = noisy.shape[1]
        with self.bank.held():
            self.bank.fill(condition, self.write)
            with self.stem.adding(self.stem_features(condition, each)):
                residuals = self.control(noisy, timesteps, condition)
                out = denoise(self.made_of.denoising_unet, noisy, timesteps, self.tokens(condition), **residuals)
        return self.additions.with_skip(out, noisy, timesteps, self.scheduler)

    def tokens(self, condition: ReferenceCondition) -> Tensor:
        """[R, S, D] image tokens; zeros in the variant that has a ControlNet instead of them (Table 4)."""
        return condition.image_tokens * float(self.config.network.image_condition != "controlnet")

    def write(self, condition: ReferenceCondition) -> None:
        """Run the reference network, on the clean latent at t = 0 (or the picture), to fill the bank."""
        if self.made_of.reference_unet is not None:
            still = torch.zeros_like(condition.dropped, dtype=torch.long)
            self.made_of.reference_unet(condition.reference_latent, still, encoder_hidden_states=condition.image_tokens)
        elif self.made_of.reference_resnet is not None:
            self.bank.tokens.update(self.made_of.reference_resnet(condition.reference_image, condition.reference_latent.shape[-2:]))

    def stem_features(self, condition: ReferenceCondition, each: int) -> Tensor | None:
        """[R * K, C, h, w] pose features and the hint."""
        features = None if self.made_of.pose_guider is None else self.made_of.pose_guider(condition.pose)
        return hinted(features, self.made_of.reference_hint, condition, each)

    def control(self, noisy: Tensor, timesteps: Tensor, condition: ReferenceCondition) -> dict[str, Any]:
        """Residuals of the ControlNet that sees the reference's picture (Table 4); none in other variants."""
        controlnet = self.made_of.reference_controlnet
        if controlnet is None:
            return {}
        each, rows = noisy.shape[1], noisy.flatten(0, 1)
        per_row = timesteps if len(timesteps) == len(rows) else timesteps.repeat_interleave(each)
        tokens, images = (value.repeat_interleave(each, dim=0) for value in (self.tokens(condition), condition.reference_image))
        return control_residuals(controlnet, rows, per_row, tokens, (images + 1) / 2, condition.dropped)

    def parts(self) -> dict[str, Any]:
        """What a checkpoint holds, by folder."""
        return self.made_of.present()

    def trainable(self, stage: str) -> Mapping[str, nn.Parameter]:
        """Parameters that a stage trains, by name; every other one is frozen here.

        stage_1: both UNets (the reference's without its dead tail) and the pose guider; where both stages are one, the temporal layers, too.
        stage_1b: the ControlNet on the reference alone. stage_2: the temporal layers alone.
        """
        named = {f"{part}.{name}": p for part, module in self.parts().items() for name, p in module.named_parameters()}
        control = {name for name in named if name.startswith("reference_controlnet.")}
        if stage == "stage_2":
            chosen = {f"denoising_unet.{name}": p for name, p in motion_parameters(self.made_of.denoising_unet).items()}
        else:
            chosen = {name: p for name, p in named.items() if p.requires_grad and (name in control) == (stage == "stage_1b")}
        for name, parameter in named.items():
            parameter.requires_grad_(name in chosen)
        return chosen


def fresh_network(config: AnimateAnyoneConfig) -> AnimateAnyone:
    """Stage 1's start: both UNets from the base (or from scratch, with the same weights), a new pose guider.

    With a base, the base's own config says how wide the parts beside it are. Raises MissingWeightsError, UserError where it does not load.
    """
    shape = config.network
    denoiser = _unet(config)
    first = denoiser.config.block_out_channels[0]
    parts = Parts(
        denoising_unet=denoiser,
        reference_unet=_twin(denoiser) if shape.reads_reference and shape.reference_encoder == "unet" else None,
        reference_resnet=resnet_for(denoiser, shape) if shape.reads_reference and shape.reference_encoder == "resnet" else None,
        feature_concat=FeatureConcat.of(denoiser) if shape.reads_reference and shape.reference_fusion == "concat" else None,
        pose_guider=_guider(config, first) if shape.guider_widths else None,
        reference_hint=shape.additions.make_hint(denoiser),
    )
    shape.additions.begin(denoiser)
    network = AnimateAnyone(config, parts, image_tokens_of(config.image_encoder, denoiser.config.cross_attention_dim))
    return add_motion(network) if shape.temporal == "joint" else network


def _guider(config: AnimateAnyoneConfig, channels: int) -> PoseGuider:
    """A guider that changes nothing yet; ControlNet's embedding starts the variant that has its layers."""
    guider = PoseGuider(channels, config.network.guider_widths, config.network.guider_variant)
    if config.pose_controlnet is not None and config.network.guider_variant == "controlnet":
        start_from_controlnet(guider, load_file(controlnet_folder(config.pose_controlnet) / WEIGHTS))
    return guider


def _unet(config: AnimateAnyoneConfig) -> Any:
    return (
        make_unet(config.network.unet) if config.base_unet is None else load_part(UNet2DConditionModel, base_unet_folder(config.base_unet))
    )


def _twin(unet: Any) -> Any:
    """Another UNet with the same weights."""
    twin = UNet2DConditionModel.from_config(unet.config)
    twin.load_state_dict(unet.state_dict())
    return twin


def _again(network: AnimateAnyone, denoiser: Any = None, **changed: Any) -> AnimateAnyone:
    """The same networks around another denoiser, or with more of them."""
    parts = replace(network.made_of, denoising_unet=denoiser or network.made_of.denoising_unet, **changed)
    return AnimateAnyone(network.config, parts, network.image_tokens)


def add_reference_control(network: AnimateAnyone) -> AnimateAnyone:
    """Stage 1b's start (Table 4): everything frozen, and a fresh ControlNet that changes nothing yet."""
    denoiser = network.made_of.denoising_unet
    plain = UNet2DConditionModel.from_config(denoiser.config)  # without the hooks and processors of the denoiser
    plain.load_state_dict(denoiser.state_dict())
    return _again(network, reference_controlnet=controlnet_of(plain, widths=network.config.network.guider_widths))


def add_motion(network: AnimateAnyone) -> AnimateAnyone:
    """Stage 2's start: the same weights with motion modules, AnimateDiff's or fresh ones that change nothing."""
    config, denoiser = network.config, network.made_of.denoising_unet
    shape = replace(config.network.unet, channels=tuple(denoiser.config.block_out_channels))
    if config.motion_adapter is None:
        moving = with_motion(denoiser, make_motion(shape))
        zero_motion_output(moving)
    else:
        moving = with_motion(denoiser, load_part(MotionAdapter, motion_adapter_folder(config.motion_adapter)))
    return _again(network, moving)


def load_network(config: AnimateAnyoneConfig, folder: Path) -> AnimateAnyone:
    """From a checkpoint of any stage, strictly."""
    denoiser = _load_denoiser(folder / "denoising_unet")
    shape = config.network
    kinds: dict[str, Any] = {
        "reference_unet": UNet2DConditionModel,
        "reference_controlnet": ControlNetModel,
        "reference_resnet": ResnetReference,
        "feature_concat": FeatureConcat,
        "pose_guider": PoseGuider,
        "reference_hint": ReferenceHint,
    }
    wanted = {
        "reference_unet": shape.reads_reference and shape.reference_encoder == "unet",
        "reference_resnet": shape.reads_reference and shape.reference_encoder == "resnet",
        "feature_concat": shape.reads_reference and shape.reference_fusion == "concat",
        "reference_controlnet": (folder / "reference_controlnet").is_dir(),  # not before stage 1b
        "pose_guider": bool(shape.guider_widths),
        "reference_hint": shape.additions.hint,
    }
    loaded = {name: load_part(kinds[name], folder / name) for name, there in wanted.items() if there}
    return AnimateAnyone(
        config, Parts(denoising_unet=denoiser, **loaded), image_tokens_of(config.image_encoder, denoiser.config.cross_attention_dim)
    )


def _load_denoiser(folder: Path) -> Any:
    kind = json.loads((folder / "config.json").read_text())["_class_name"]
    return load_part({"UNetMotionModel": UNetMotionModel, "UNet2DConditionModel": UNet2DConditionModel}[kind], folder)
