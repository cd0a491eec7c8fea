"""Stable Diffusion's UNet under a pose ControlNet and a prompt: what methods without training are made of."""

# N = rows (frames), C h w = latent channels, height, width, S T = tokens of a prompt and their width, K = tokens of a picture

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.autoencoders import DEMO_CHANNELS
from models.checkpoint import load_part
from models.ddim import DdimSchedule
from models.pose_controlnet import control_residuals, controlnet_of
from models.pretrained_networks import base_unet_folder, controlnet_folder, text_encoder_folder
from models.text_tokens import TextTokens
from models.unet_shape import UnetShape, make_unet


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseNetworks:
    """Names of pretrained networks; None = fresh ones at `shape`, the same for the same seed."""

    unet: str | None = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    controlnet: str | None = "lllyasviel/control_v11p_sd15_openpose"
    text_encoder: str | None = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    shape: UnetShape = field(default_factory=UnetShape)
    guider_widths: tuple[int, ...] = (16, 32, 96, 256)  # of a fresh ControlNet's condition embedding
    seed: int = 0

    def folders(self) -> list[Path]:
        """Where the named ones lie. Raises MissingWeightsError."""
        named = ((base_unet_folder, self.unet), (controlnet_folder, self.controlnet), (text_encoder_folder, self.text_encoder))
        return [folder_of(name) for folder_of, name in named if name is not None]


TINY_FAMILY = BaseNetworks(unet="demo", controlnet="demo", text_encoder="demo")
FRESH = BaseNetworks(
    unet=None, controlnet=None, text_encoder=None, guider_widths=(8, 8, 16, 16),
    shape=UnetShape(channels=(16, 32), layers=1, heads=2, token_dim=32, norm_groups=4, latent_channels=DEMO_CHANNELS),
)  # fmt: skip


class ControlledUnet(nn.Module):
    """Frozen. ControlNet residuals at scale 1, in both branches of guidance."""

    def __init__(self, unet: Any, controlnet: Any, schedule: DdimSchedule) -> None:
        super().__init__()
        self.unet, self.controlnet = unet.eval().requires_grad_(False), controlnet.eval().requires_grad_(False)
        self.schedule = schedule

    def noise(self, latents: Tensor, level: int, text: Tensor, pose: Tensor, picture: Tensor | None = None) -> Tensor:
        """Epsilon [N, C, h, w] of latents at a level of the schedule; gradients flow to the text.

        text [N, S, T], pose images [N, 3, H, W] in [0, 1], picture [N, K, T]: an IP-Adapter's tokens, which the ControlNet does not see.
        """
        times = torch.full((len(latents),), self.schedule.timestep(level), device=latents.device)
        residuals = control_residuals(self.controlnet, latents, times, text, pose.to(latents))
        tokens = text if picture is None else torch.cat([text, picture], dim=1)
        prediction = self.unet(latents, times, encoder_hidden_states=tokens, **residuals).sample
        return self.schedule.noise_of(prediction, latents, level)


def load_base(networks: BaseNetworks) -> tuple[Any, Any, TextTokens]:
    """(UNet, ControlNet, text). Raises MissingWeightsError, and UserError where weights do not fit."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(networks.seed)
        unet = _unet(networks)
        controlnet = _controlnet(networks, unet)
    if networks.text_encoder is None:
        return unet, controlnet, TextTokens.fresh(unet.config.cross_attention_dim, networks.seed)
    return unet, controlnet, TextTokens.load(text_encoder_folder(networks.text_encoder))


def _unet(networks: BaseNetworks) -> Any:
    from diffusers import UNet2DConditionModel

    return make_unet(networks.shape) if networks.unet is None else load_part(UNet2DConditionModel, base_unet_folder(networks.unet))


def _controlnet(networks: BaseNetworks, unet: Any) -> Any:
    from diffusers import ControlNetModel

    if networks.controlnet is not None:
        return load_part(ControlNetModel, controlnet_folder(networks.controlnet))
    fresh = controlnet_of(unet, widths=networks.guider_widths)
    # With its zero convolutions poses would mean nothing; what is fresh is for tests, which must see that they arrive.
    nn.init.normal_(fresh.controlnet_cond_embedding.conv_out.weight)
    for block in (*fresh.controlnet_down_blocks, fresh.controlnet_mid_block):
        nn.init.normal_(block.weight, std=0.1)
    return fresh
