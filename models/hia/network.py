"""What runs: appearance encoder, ControlNet and denoiser, joined by the reference bank and the ControlNet's residuals (Figure 2)."""

# R = references, K = targets or frames per reference, N = R * K, C h w = latent channels, height, width

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, MotionAdapter, UNet2DConditionModel, UNetMotionModel
from torch import Tensor, nn

from models.checkpoint import load_part
from models.demo_additions import ReferenceHint, hinted
from models.denoising import denoise, sees_frames
from models.guidance import Condition, draw_dropped, null_conditions
from models.hia.config import HiaConfig, MotionBlur
from models.image_tokens import image_tokens_of
from models.motion_blur_map import overlaid
from models.noise import make_scheduler
from models.pose_controlnet import control_residuals, controlnet_of, take_more_channels
from models.pretrained_networks import base_unet_folder, controlnet_folder, motion_adapter_folder
from models.reference_attention import ReferenceBank, freeze_unused_tail, read_reference, write_reference
from models.stem import StemAddition
from models.temporal_attention import motion_parameters, with_motion, zero_motion_output
from models.unet_shape import make_motion, make_unet


@dataclass(frozen=True, kw_only=True, slots=True)
class HiaCondition(Condition):
    """What steers the denoiser. Where a reference is dropped, so are appearance encoder, CLIP token and ControlNet: pose and blur with it (Eq. 4)."""

    blur: Tensor  # [N, 3, H, W] motion-blur map in [0, 1] (Sec. 3.2); 0 where it is left out


def drop_controls(condition: HiaCondition, probability: float, generator: torch.Generator, blur_probability: float) -> HiaCondition:
    """What training leaves out: all controls of a reference at once, for animation-cfg; and the blur map alone, so that it may be missing.

    Both are drawn for each reference. A probe asks for probability 0, and loses neither.
    """
    references = len(condition.reference_latent)
    dropped = draw_dropped(references, probability, generator)
    without = draw_dropped(references, blur_probability if probability else 0.0, generator)
    keep = (~without).to(condition.blur).repeat_interleave(len(condition.blur) // references)
    return null_conditions(replace(condition, blur=condition.blur * keep[:, None, None, None]), dropped)


def control_image(condition: HiaCondition, blur: MotionBlur) -> Tensor:
    """[N, channels, H, W] what the ControlNet sees: the pose, with the blur map behind it or painted into it."""
    if not blur.enabled:
        return condition.pose
    return torch.cat([condition.pose, condition.blur], dim=1) if blur.mode == "concat" else overlaid(condition.pose, condition.blur)


class Hia(nn.Module):
    """The denoiser with its conditions: motion modules from stage 3 on."""

    def __init__(
        self, config: HiaConfig, denoiser: Any, appearance: Any, controlnet: Any, hint: ReferenceHint | None, tokens: nn.Module
    ) -> None:
        super().__init__()
        self.config, self.noise, self.additions = config, config.noise, config.additions
        self.denoiser, self.appearance, self.controlnet = denoiser, appearance, controlnet
        self.hint, self.image_tokens = hint, tokens
        self.scheduler = make_scheduler(config.noise)
        self.bank = ReferenceBank()
        self.sites = write_reference(appearance, self.bank, config.fusion)
        if read_reference(denoiser, self.bank, config.fusion) != self.sites:
            raise ValueError("appearance encoder and denoiser have different self-attention sites")
        self.stem = StemAddition(denoiser.conv_in)
        freeze_unused_tail(appearance)

    @property
    def temporal(self) -> bool:
        """Whether frames see each other."""
        return sees_frames(self.denoiser)

    def forward(self, noisy: Tensor, timesteps: Tensor, condition: HiaCondition) -> Tensor:
        """Prediction for noisy latents [R, K, C, h, w] at timesteps [R] or [R * K]; same shape as `noisy`.

        The unconditional pass of sampling runs the denoiser alone. In training every part runs for every row, so that all workers do the same.
        """
        with self.bank.held(), ExitStack() as stack:
            residuals = {}
            if torch.is_grad_enabled() or not condition.dropped.all():
                self.bank.fill(condition, self.write)
                residuals = self.controlled(noisy, timesteps, condition)
            stack.enter_context(self.stem.adding(hinted(None, self.hint, condition, noisy.shape[1])))
            output = denoise(self.denoiser, noisy, timesteps, condition.image_tokens, **residuals)
        return self.additions.with_skip(output, noisy, timesteps, self.scheduler)

    def write(self, condition: HiaCondition) -> None:
        """Run the appearance encoder, on the clean latent at t = 0, to fill the bank."""
        latent = condition.reference_latent
        still = torch.zeros(len(latent), dtype=torch.long, device=latent.device)
        self.appearance(latent, still, encoder_hidden_states=condition.image_tokens)

    def controlled(self, noisy: Tensor, timesteps: Tensor, condition: HiaCondition) -> dict[str, Any]:
        """The ControlNet's residuals for every frame; none for dropped references."""
        rows = noisy.flatten(0, 1)
        tokens = condition.image_tokens.repeat_interleave(noisy.shape[1], dim=0)
        per_row = timesteps.repeat_interleave(len(rows) // len(timesteps), dim=0)
        return control_residuals(self.controlnet, rows, per_row, tokens, control_image(condition, self.config.blur), condition.dropped)

    def parts(self) -> dict[str, Any]:
        """What a checkpoint holds, by folder."""
        parts = {"denoising_unet": self.denoiser, "appearance_encoder": self.appearance, "controlnet": self.controlnet}
        return {**parts, "reference_hint": self.hint} if self.hint is not None else parts

    def trainable(self, stage: str) -> Mapping[str, nn.Parameter]:
        """Parameters that a stage trains (Sec. 3.3), by name; every other one is frozen here.

        stage_1: appearance encoder (without its dead tail), ControlNet and base UNet. stage_2: the appearance encoder alone, or all of stage 1's
        (`regional.train`). stage_3 and stage_4: the temporal layers.
        """
        named = {f"{part}.{name}": p for part, module in self.parts().items() for name, p in module.named_parameters()}
        if stage in ("stage_3", "stage_4"):
            chosen = {f"denoising_unet.{name}": p for name, p in motion_parameters(self.denoiser).items()}
        else:
            tail = {f"appearance_encoder.{name}" for name in freeze_unused_tail(self.appearance)}
            appearance_only = stage == "stage_2" and self.config.regional.train == "appearance"
            chosen = {name: p for name, p in named.items() if name not in tail and (name.startswith("appearance") or not appearance_only)}
        for name, parameter in named.items():
            parameter.requires_grad_(name in chosen)
        return chosen


def fresh_network(config: HiaConfig) -> Hia:
    """Stage 1's start: both UNets from the base (or from scratch, with the same weights) and the ControlNet. Raises MissingWeightsError."""
    if config.base_unet is None:
        denoiser, appearance = make_unet(config.shape), make_unet(config.shape)
        appearance.load_state_dict(denoiser.state_dict())
    else:
        denoiser, appearance = (load_part(UNet2DConditionModel, base_unet_folder(config.base_unet)) for _ in range(2))
    config.additions.begin(denoiser)
    tokens = image_tokens_of(config.image_encoder, denoiser.config.cross_attention_dim)
    return Hia(config, denoiser, appearance, _controlnet(config, denoiser), config.additions.make_hint(denoiser), tokens)


def _controlnet(config: HiaConfig, denoiser: Any) -> Any:
    """OpenPose's, which starts as it was trained whatever the blur map holds; or a fresh one, which changes nothing."""
    if config.controlnet is None:
        return controlnet_of(denoiser, config.blur.channels, config.hint_widths)
    return take_more_channels(load_part(ControlNetModel, controlnet_folder(config.controlnet)), config.blur.channels)


def add_motion(network: Hia) -> Hia:
    """Stage 3's start: the same weights with motion modules, AnimateDiff's or fresh ones that change nothing."""
    config = network.config
    shape = replace(config.shape, channels=tuple(network.denoiser.config.block_out_channels))
    adapter = (
        make_motion(shape) if config.motion_adapter is None else load_part(MotionAdapter, motion_adapter_folder(config.motion_adapter))
    )
    denoiser = with_motion(network.denoiser, adapter)
    if config.motion_adapter is None:
        zero_motion_output(denoiser)
    return Hia(config, denoiser, network.appearance, network.controlnet, network.hint, network.image_tokens)


def load_network(config: HiaConfig, folder: Path) -> Hia:
    """From a checkpoint of any stage, strictly."""
    kind = UNet2DConditionModel.load_config(folder / "denoising_unet")["_class_name"]
    kinds = {"UNetMotionModel": UNetMotionModel, "UNet2DConditionModel": UNet2DConditionModel}
    denoiser = load_part(kinds[kind], folder / "denoising_unet")
    return Hia(
        config,
        denoiser,
        load_part(UNet2DConditionModel, folder / "appearance_encoder"),
        load_part(ControlNetModel, folder / "controlnet"),
        load_part(ReferenceHint, folder / "reference_hint") if config.additions.hint else None,
        image_tokens_of(config.image_encoder, denoiser.config.cross_attention_dim),
    )
