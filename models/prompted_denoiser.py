"""Stable Diffusion under a pose ControlNet and a picture prompt (IP-Adapter), trainable: what the baselines SD-2V and IPC are made of."""

# R = references, K = targets or frames per reference, N = R * K, C h w = latent channels, height, width, D = numbers of a picture's embedding

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, UNet2DConditionModel, UNetMotionModel
from torch import Tensor, nn

from models.checkpoint import WEIGHTS, load_part, load_strictly
from models.clip_dataset import to_frames
from models.controlled_unet import BaseNetworks
from models.demo_additions import DemoAdditions
from models.denoising import denoise, sees_frames
from models.guidance import Condition
from models.image_prompt_attention import add_image_prompts, cross_sites
from models.ip_adapter import ImagePrompts, fresh_ip_adapter, load_ip_adapter, read_ip_adapter
from models.noise import NoiseConfig
from models.picture_encoder import PictureEncoder
from models.pose_controlnet import control_residuals, controlnet_of
from models.pretrained_networks import base_unet_folder, controlnet_folder, image_encoder_folder, ip_adapter_file, text_encoder_folder
from models.temporal_attention import with_motion
from models.text_tokens import TextTokens
from models.unet_shape import make_unet

PARTS = ("denoising_unet", "controlnet", "image_prompts")
PROMPTED_CODE = tuple(
    f"models/{name}.py"
    for name in (
        "prompted_denoiser",
        "finetuned_baseline",
        "controlled_unet",
        "ip_adapter",
        "image_prompt_attention",
        "picture_encoder",
        "text_tokens",
        "pose_controlnet",
    )
)
"""Source files that shape this network."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptedNetworks:
    """Names of pretrained networks; None = fresh ones, which change nothing yet (`base.shape` says how large)."""

    base: BaseNetworks
    ip_adapter: str | None = "h94/IP-Adapter"
    image_encoder: str | None = "h94/IP-Adapter"
    scale: float = 1.0  # of the picture beside the text

    def files(self) -> list[Path]:
        """Where the named ones lie. Raises MissingWeightsError."""
        adapter = [] if self.ip_adapter is None else [ip_adapter_file(self.ip_adapter)]
        return self.base.folders() + adapter + ([] if self.image_encoder is None else [image_encoder_folder(self.image_encoder)])

    def bases(self) -> dict[str, list[Path]]:
        """Weights of the tiny family that the parts of a checkpoint began from, for packing."""
        unet = [base_unet_folder("demo") / WEIGHTS] if self.base.unet == "demo" else []
        return {"denoising_unet": unet, "controlnet": [controlnet_folder("demo") / WEIGHTS] if self.base.controlnet == "demo" else []}


class PromptedDenoiser(nn.Module):
    """The denoiser with its conditions: the ControlNet sees the empty prompt alone, the UNet the picture's tokens beside it.

    A condition's `image_tokens` [R, 1, D] are the picture's embedding before the adapter's projection, so that the null condition (zeros)
    is the adapter's own: the projection of no picture.
    """

    def __init__(
        self, noise: NoiseConfig, denoiser: Any, controlnet: Any, prompts: ImagePrompts, text: TextTokens, eye: PictureEncoder
    ) -> None:
        super().__init__()
        self.noise, self.additions = noise, DemoAdditions()
        self.denoiser, self.controlnet, self.prompts, self.text, self.eye = denoiser, controlnet, prompts, text, eye
        self.register_buffer("wordless", text([""]), persistent=False)  # [1, S, T]

    @property
    def temporal(self) -> bool:
        """Whether frames see each other in motion modules."""
        return sees_frames(self.denoiser)

    @torch.no_grad()
    def image_tokens(self, images: Tensor) -> Tensor:
        """[R, 3, H, W] in [-1, 1] -> [R, 1, D]."""
        return self.eye(to_frames(images))[:, None]

    def forward(self, noisy: Tensor, timesteps: Tensor, condition: Condition) -> Tensor:
        """Prediction for noisy latents [R, K, C, h, w] at timesteps [R] or [R * K]; same shape as `noisy`."""
        rows, each = noisy.flatten(0, 1), noisy.shape[1]
        assert isinstance(self.wordless, Tensor)
        text = self.wordless.expand(len(rows), -1, -1)
        picture = self.prompts(condition.image_tokens[:, 0]).repeat_interleave(each, dim=0)
        per_row = timesteps.repeat_interleave(len(rows) // len(timesteps))
        residuals = control_residuals(self.controlnet, rows, per_row, text, condition.pose)
        return denoise(self.denoiser, noisy, timesteps, torch.cat([text, picture], dim=1), **residuals)

    def parts(self) -> dict[str, Any]:
        """What a checkpoint holds, by folder; the adapter's keys and values are in the UNet's."""
        return dict(zip(PARTS, (self.denoiser, self.controlnet, self.prompts), strict=True))

    def spatial_parameters(self, *, unet: bool) -> Mapping[str, nn.Parameter]:
        """IP-Adapter and ControlNet, with the whole UNet if asked for; every other parameter is frozen here."""
        named = {f"{part}.{name}": p for part, module in self.parts().items() for name, p in module.named_parameters()}
        return only_training(named, {name for name in named if unet or not name.startswith("denoising_unet.") or "_ip." in name})


def only_training(named: Mapping[str, nn.Parameter], chosen: set[str]) -> dict[str, nn.Parameter]:
    """The chosen parameters, which require gradients; the others no longer do."""
    for name, parameter in named.items():
        parameter.requires_grad_(name in chosen)
    return {name: parameter for name, parameter in named.items() if name in chosen}


def fresh_denoiser(networks: PromptedNetworks, noise: NoiseConfig) -> PromptedDenoiser:
    """The networks as they are published, or fresh. Raises MissingWeightsError, and UserError where weights do not fit."""
    base = networks.base
    unet = make_unet(base.shape) if base.unet is None else load_part(UNet2DConditionModel, base_unet_folder(base.unet))
    controlnet = _controlnet(base, unet)
    text, eye = _encoders(networks, unet)
    if networks.ip_adapter is None:
        prompts = fresh_ip_adapter(unet, eye.dim, scale=networks.scale)
    else:
        prompts = load_ip_adapter(unet, read_ip_adapter(ip_adapter_file(networks.ip_adapter)), networks.scale)
    return PromptedDenoiser(noise, unet, controlnet, prompts, text, eye)


def _controlnet(base: BaseNetworks, unet: Any) -> Any:
    if base.controlnet is None:
        return controlnet_of(unet, widths=base.guider_widths)
    return load_part(ControlNetModel, controlnet_folder(base.controlnet))


def _encoders(networks: PromptedNetworks, unet: Any) -> tuple[TextTokens, PictureEncoder]:
    width, named = unet.config.cross_attention_dim, networks.base.text_encoder
    text = TextTokens.fresh(width, networks.base.seed) if named is None else TextTokens.load(text_encoder_folder(named))
    eye = PictureEncoder.fresh() if networks.image_encoder is None else PictureEncoder.load(image_encoder_folder(networks.image_encoder))
    return text, eye


def load_denoiser(networks: PromptedNetworks, noise: NoiseConfig, folder: Path) -> PromptedDenoiser:
    """From a checkpoint, strictly."""
    prompts = load_part(ImagePrompts, folder / "image_prompts")
    unet = _load_prompted_unet(folder / "denoising_unet", prompts.tokens, networks.scale)
    return PromptedDenoiser(noise, unet, load_part(ControlNetModel, folder / "controlnet"), prompts, *_encoders(networks, unet))


def _load_prompted_unet(folder: Path, tokens: int, scale: float) -> Any:
    """A UNet of either kind whose file also holds the adapter's keys and values."""
    from safetensors.torch import load_file

    kinds = {kind.__name__: kind for kind in (UNetMotionModel, UNet2DConditionModel)}
    config = UNet2DConditionModel.load_config(folder)
    unet = kinds[config["_class_name"]].from_config(config)
    add_image_prompts(unet, tokens, scale)
    load_strictly(unet, load_file(folder / WEIGHTS), source=str(folder))
    return unet


def with_motion_modules(network: PromptedDenoiser, adapter: Any) -> PromptedDenoiser:
    """The same networks, with motion modules in the denoiser; the adapter's attention moves along."""
    from diffusers.models.attention_processor import AttnProcessor2_0

    unet = network.denoiser
    prompted = {name: unet.attn_processors[name] for name in cross_sites(unet)}
    unet.set_attn_processor(AttnProcessor2_0())  # from_unet2d takes no processors with weights of their own
    denoiser = with_motion(unet, adapter)
    denoiser.set_attn_processor({**denoiser.attn_processors, **prompted})
    return PromptedDenoiser(network.noise, denoiser, network.controlnet, network.prompts, network.text, network.eye)
