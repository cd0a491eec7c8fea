"""What runs: reference UNet, pose guider and denoiser, joined by the reference bank and the denoiser's stem."""

# R = references, K = targets or frames per reference, C h w = latent channels, height, width

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin, MotionAdapter, UNet2DConditionModel, UNetMotionModel
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from models.animate_anyone.config import AnimateAnyoneConfig, NetworkConfig
from models.checkpoint import load_part
from models.guidance import Condition
from models.image_tokens import ClipImageTokens, PooledImageTokens
from models.noise import alpha_bar, linear_estimate, make_scheduler
from models.pose_guider import PoseGuider
from models.pretrained_networks import base_unet_folder, motion_adapter_folder
from models.reference_attention import ReferenceBank, freeze_unused_tail, read_reference, write_reference
from models.temporal_attention import motion_parameters, with_motion, zero_motion_output


class ReferenceHint(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Zero-initialised convolution of the reference latent, added at the stem (demo addition, not in the paper)."""

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, latent_channels: int = 16, out_channels: int = 64, kernel: int = 1) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(latent_channels, out_channels, kernel, padding=kernel // 2)
        nn.init.zeros_(self.convolution.weight)
        nn.init.zeros_(self.convolution.bias if self.convolution.bias is not None else torch.empty(0))

    def forward(self, latents: Tensor) -> Tensor:
        return self.convolution(latents)


class StemAddition:
    """Adds features to the output of the denoiser's conv_in, through a forward hook (conv_in is in no checkpointed block)."""

    def __init__(self, conv_in: nn.Module) -> None:
        self.features: Tensor | None = None
        conv_in.register_forward_hook(self._add)

    def _add(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return output if self.features is None else output + self.features


def make_unet(config: NetworkConfig) -> Any:
    """A UNet of Stable Diffusion 1.5's structure, from scratch, at the config's size."""
    levels = len(config.channels)
    return UNet2DConditionModel(
        in_channels=config.latent_channels,
        out_channels=config.latent_channels,
        block_out_channels=config.channels,
        layers_per_block=config.layers,
        down_block_types=("CrossAttnDownBlock2D",) * (levels - 1) + ("DownBlock2D" if levels > 2 else "CrossAttnDownBlock2D",),
        up_block_types=("UpBlock2D" if levels > 2 else "CrossAttnUpBlock2D",) + ("CrossAttnUpBlock2D",) * (levels - 1),
        cross_attention_dim=config.token_dim,
        attention_head_dim=config.heads,
        norm_num_groups=config.norm_groups,
    )


def make_motion(config: NetworkConfig) -> Any:
    """Motion modules of AnimateDiff v2's structure, from scratch."""
    return MotionAdapter(
        block_out_channels=config.channels,
        motion_layers_per_block=config.layers,
        motion_mid_block_layers_per_block=1,
        motion_num_attention_heads=config.motion_heads,
        motion_norm_num_groups=config.norm_groups,
        motion_max_seq_length=config.motion_frames,
    )


class AnimateAnyone(nn.Module):
    """The denoiser with its conditions. `temporal` is whether it has motion modules (stage 2) or not (stage 1)."""

    def __init__(
        self, config: AnimateAnyoneConfig, denoiser: Any, reference: Any, guider: PoseGuider, hint: ReferenceHint | None, tokens: nn.Module
    ) -> None:
        super().__init__()
        self.config, self.denoiser, self.reference, self.guider, self.hint, self.image_tokens = (
            config,
            denoiser,
            reference,
            guider,
            hint,
            tokens,
        )
        self.scheduler = make_scheduler(config.noise)
        self.bank = ReferenceBank()
        self.sites = write_reference(reference, self.bank)
        if read_reference(denoiser, self.bank) != self.sites:
            raise ValueError("reference and denoising UNet have different self-attention sites")
        self.stem = StemAddition(denoiser.conv_in)
        freeze_unused_tail(reference)

    @property
    def temporal(self) -> bool:
        """Whether frames see each other."""
        return isinstance(self.denoiser, UNetMotionModel)

    def forward(self, noisy: Tensor, timesteps: Tensor, condition: Condition) -> Tensor:
        """Prediction for noisy latents [R, K, C, h, w] at timesteps [R] (stage 2) or [R * K] (stage 1); same shape as `noisy`."""
        output = self._network(noisy, timesteps, condition)
        if self.config.network.skip_std is None:
            return output
        alpha = alpha_bar(self.scheduler, timesteps, noisy).unflatten(0, (len(noisy), -1)).squeeze(2)
        return output + linear_estimate(noisy, alpha, self.config.network.skip_std)

    def _network(self, noisy: Tensor, timesteps: Tensor, condition: Condition) -> Tensor:
        references, each = noisy.shape[:2]
        self.write(condition)
        try:
            self.stem.features = self._stem_features(condition, each)
            tokens = condition.image_tokens.repeat_interleave(each, dim=0)
            if self.temporal:
                out = self.denoiser(noisy.transpose(1, 2), timesteps, encoder_hidden_states=tokens).sample
                return out.transpose(1, 2)
            out = self.denoiser(noisy.flatten(0, 1), timesteps, encoder_hidden_states=tokens).sample
            return out.unflatten(0, (references, each))
        finally:
            self.stem.features = None
            self.bank.clear()

    def write(self, condition: Condition) -> None:
        """Run the reference UNet once, on the clean latent at t = 0, to fill the bank."""
        still = torch.zeros(len(condition.reference_latent), dtype=torch.long)
        self.bank.dropped = condition.dropped
        self.reference(condition.reference_latent, still, encoder_hidden_states=condition.image_tokens)

    def _stem_features(self, condition: Condition, each: int) -> Tensor:
        features = self.guider(condition.pose)
        if self.hint is None:
            return features
        keep = (~condition.dropped).to(features)[:, None, None, None]
        return features + (self.hint(condition.reference_latent) * keep).repeat_interleave(each, dim=0)

    def parts(self) -> dict[str, Any]:
        """What a checkpoint holds, by folder."""
        parts = {"denoising_unet": self.denoiser, "reference_unet": self.reference, "pose_guider": self.guider}
        return {**parts, "reference_hint": self.hint} if self.hint is not None else parts

    def trainable(self, stage: str) -> Mapping[str, nn.Parameter]:
        """Parameters that a stage trains, by name; every other one is frozen here.

        stage_1: both UNets (the reference's without its dead tail) and the pose guider. stage_2: the temporal layers alone.
        """
        named = {f"{part}.{name}": p for part, module in self.parts().items() for name, p in module.named_parameters()}
        if stage == "stage_2":
            chosen = {f"denoising_unet.{name}": p for name, p in motion_parameters(self.denoiser).items()}
        else:
            chosen = {name: p for name, p in named.items() if p.requires_grad}
        for name, parameter in named.items():
            parameter.requires_grad_(name in chosen)
        return chosen


def image_tokens_of(config: AnimateAnyoneConfig, width: int) -> nn.Module:
    """CLIP, or at demo size the pooled stand-in. width: of the tokens that the UNets take."""
    if config.image_encoder is None:
        return PooledImageTokens(width)
    return ClipImageTokens(config.image_encoder, subfolder="image_encoder")


def fresh_network(config: AnimateAnyoneConfig) -> AnimateAnyone:
    """Stage 1's start: both UNets from the base (or from scratch, with the same weights), a new pose guider.

    With a base, the base's own config says how wide the parts beside it are. Raises MissingWeightsError, UserError where it does not load.
    """
    shape = config.network
    if config.base_unet is None:
        denoiser, reference = make_unet(shape), make_unet(shape)
        reference.load_state_dict(denoiser.state_dict())
    else:
        folder = base_unet_folder(config.base_unet)
        denoiser, reference = (load_part(UNet2DConditionModel, folder) for _ in range(2))
    first = denoiser.config.block_out_channels[0]
    hint = ReferenceHint(denoiser.config.in_channels, first, 3 if shape.hint_from_stem else 1) if shape.hint else None
    if hint is not None and shape.hint_from_stem:
        begin_as_stem(hint, denoiser.conv_in, shape.residual_scale if shape.residual else 1.0)
    if shape.skip_std is not None:  # begin with the linear estimate itself
        for parameter in denoiser.conv_out.parameters():
            nn.init.zeros_(parameter)
    guider = PoseGuider(first, shape.guider_widths, shape.guider_variant)
    return AnimateAnyone(config, denoiser, reference, guider, hint, image_tokens_of(config, denoiser.config.cross_attention_dim))


@torch.no_grad()
def begin_as_stem(hint: ReferenceHint, conv_in: nn.Conv2d, scale: float) -> None:
    """Make hint + stem see `reference + scale * noisy difference`, a picture that is a little noisy, as the base's stem sees pictures.

    So the base's features, and the denoiser's attention to the reference UNet's, are of use from the first step although differences are diffused.
    """
    hint.convolution.weight.copy_(conv_in.weight)
    conv_in.weight.mul_(scale)


def add_motion(network: AnimateAnyone) -> AnimateAnyone:
    """Stage 2's start: the same weights with motion modules, AnimateDiff's or fresh ones that change nothing."""
    config = network.config
    shape = replace(config.network, channels=tuple(network.denoiser.config.block_out_channels))
    adapter = (
        make_motion(shape) if config.motion_adapter is None else load_part(MotionAdapter, motion_adapter_folder(config.motion_adapter))
    )
    network.stem.features = None
    denoiser = with_motion(network.denoiser, adapter)
    if config.motion_adapter is None:
        zero_motion_output(denoiser)
    return AnimateAnyone(config, denoiser, network.reference, network.guider, network.hint, network.image_tokens)


def load_network(config: AnimateAnyoneConfig, folder: Path) -> AnimateAnyone:
    """From a checkpoint of either stage, strictly."""
    import json

    kind = json.loads((folder / "denoising_unet" / "config.json").read_text())["_class_name"]
    denoiser = load_part(
        {"UNetMotionModel": UNetMotionModel, "UNet2DConditionModel": UNet2DConditionModel}[kind], folder / "denoising_unet"
    )
    hint = load_part(ReferenceHint, folder / "reference_hint") if config.network.hint else None
    return AnimateAnyone(
        config,
        denoiser,
        load_part(UNet2DConditionModel, folder / "reference_unet"),
        load_part(PoseGuider, folder / "pose_guider"),
        hint,
        image_tokens_of(config, denoiser.config.cross_attention_dim),
    )
