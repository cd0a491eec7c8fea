"""What runs: SVD's UNet with ID adapters, PoseNet and Face Encoder, as one denoiser D(x; sigma) (Fig. 2)."""

# B = clips, F = frames, C h w = latents, S = 1 image token, D = its width, E = numbers of the face embedding

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from models.checkpoint import WEIGHTS, empty_part, load_part, load_strictly
from models.stable_animator.config import NetworkConfig, StableAnimatorConfig
from models.stable_animator.edm import preconditioning
from models.stable_animator.face_encoder import FaceEncoder
from models.stable_animator.id_adapter import add_id_adapter
from models.stable_animator.image_tokens import image_tokens_of
from models.stable_animator.pose_net import PoseNet
from models.stem import StemAddition
from pipelines.errors import UserError
from pipelines.extractors.pretrained_folder import folder_of


@dataclass(frozen=True, kw_only=True, slots=True)
class SvdCondition:
    """What steers the denoiser of B clips. The three `…_dropped` [B] bool say what is nothing; the pose of all clips is there or None."""

    reference_latent: Tensor  # [B, C, h, w] beside the noisy latents, unscaled
    image_tokens: Tensor  # [B, S, D]
    face: Tensor  # [B, E] raw embedding of the reference's face; zeros where none was found
    pose: Tensor | None  # [B * F, 3, H, W] pose images in [0, 1]
    image_dropped: Tensor
    latent_dropped: Tensor
    face_dropped: Tensor
    pose_dropped: Tensor
    warped: Tensor | None = None  # [B, F, C, h, w] beside the noisy latents in the reference's place (DemoAdditions.warp), unscaled

    def at(self, frames: list[int], pose: Tensor) -> SvdCondition:
        """The same reference for a window: its frames' poses, and of the warped latents theirs."""
        return replace(self, pose=pose, warped=None if self.warped is None else self.warped[:, frames])


def nothing_dropped(clips: int) -> dict[str, Tensor]:
    """The four flags of a condition in full."""
    return {name: torch.zeros(clips, dtype=torch.bool) for name in ("image_dropped", "latent_dropped", "face_dropped", "pose_dropped")}


def null_condition(condition: SvdCondition) -> SvdCondition:
    """Zero image token, zero face tokens, zero reference latent, no pose: guidance's other end (released code)."""
    return replace(condition, **{name: torch.ones_like(condition.image_dropped) for name in nothing_dropped(1)})


class StableAnimator(nn.Module):
    """D(x; sigma) of latents of unit deviation. `face_encoder` is None where the variant has no face tokens."""

    def __init__(self, config: StableAnimatorConfig, unet: Any, pose_net: PoseNet, face_encoder: FaceEncoder | None) -> None:
        super().__init__()
        self.config, self.unet, self.pose_net, self.face_encoder = config, unet, pose_net, face_encoder
        self.image_tokens = image_tokens_of(config.image_encoder, unet.config.cross_attention_dim)
        self.stem = StemAddition(unet.conv_in)

    def forward(self, noisy: Tensor, sigma: Tensor, condition: SvdCondition) -> Tensor:
        """Estimate of x0 [B, F, C, h, w] from x0 + sigma n; sigma [B]."""
        given = preconditioning(sigma.to(noisy), self.config.additions.skip_std or 1.0)
        c_in, c_skip, c_out = (value[:, None, None, None, None] for value in (given.c_in, given.c_skip, given.c_out))
        stem = torch.cat([noisy * c_in, self._beside(noisy, condition)], dim=2).to(self.unet.dtype)
        with self.stem.adding(self._pose_features(condition, noisy.shape[1])):
            output = self.unet(
                stem, given.c_noise, encoder_hidden_states=self.context(condition).to(stem), added_time_ids=self._time_ids(noisy)
            ).sample
        return c_skip * noisy + c_out * output.to(noisy)

    def context(self, condition: SvdCondition) -> Tensor:
        """[B, S + K, D] the image token, then the face tokens. The encoder sees the image token also where the UNet does not."""
        image = condition.image_tokens * _kept(condition.image_dropped, condition.image_tokens)
        if self.face_encoder is None:
            return image
        weights = next(self.face_encoder.parameters())
        face = self.face_encoder(condition.face.to(weights), condition.image_tokens.to(weights))
        return torch.cat([image, (face * _kept(condition.face_dropped, face)).to(image)], dim=1)

    def _beside(self, noisy: Tensor, condition: SvdCondition) -> Tensor:
        latent = condition.reference_latent[:, None] if condition.warped is None else condition.warped
        return (latent * _kept(condition.latent_dropped, latent)).to(noisy).expand(-1, noisy.shape[1], -1, -1, -1)

    def _pose_features(self, condition: SvdCondition, frames: int) -> Tensor | None:
        if condition.pose is None or bool(condition.pose_dropped.all()):
            return None
        features = self.pose_net((condition.pose * 2 - 1).to(self.pose_net.dtype)).to(self.unet.dtype)
        kept = (~condition.pose_dropped).to(features).repeat_interleave(frames)
        return features * kept[:, None, None, None]

    def _time_ids(self, noisy: Tensor) -> Tensor:
        return torch.tensor(self.config.network.time_ids, device=noisy.device).expand(len(noisy), -1)

    def parts(self) -> dict[str, Any]:
        """What a checkpoint holds, by folder; the adapters are in the UNet's."""
        parts = {"unet": self.unet, "pose_net": self.pose_net}
        return parts if self.face_encoder is None else {**parts, "face_encoder": self.face_encoder}

    def trainable(self) -> Mapping[str, nn.Parameter]:
        """Parameters that stage_1 trains, by name: both small networks and the UNet, or what of it is named "attentions"; others are frozen here."""
        named = {f"{part}.{name}": p for part, module in self.parts().items() for name, p in module.named_parameters()}
        whole = self.config.stage_1.trainable == "all"
        chosen = {name: p for name, p in named.items() if whole or not name.startswith("unet.") or "attentions" in name}
        for name, parameter in named.items():
            parameter.requires_grad_(name in chosen)
        return chosen


def _kept(dropped: Tensor, like: Tensor) -> Tensor:
    return (~dropped).to(like).view(-1, *([1] * (like.ndim - 1)))


def make_unet(shape: NetworkConfig, latent_channels: int) -> Any:
    """A UNet of SVD's structure from scratch; widths must be multiples of 32."""
    from diffusers import UNetSpatioTemporalConditionModel

    levels = len(shape.channels)
    inner = "DownBlockSpatioTemporal" if levels > 2 else "CrossAttnDownBlockSpatioTemporal"
    down = ("CrossAttnDownBlockSpatioTemporal",) * (levels - 1) + (inner,)
    return UNetSpatioTemporalConditionModel(
        in_channels=2 * latent_channels, out_channels=latent_channels, block_out_channels=shape.channels, num_attention_heads=shape.heads,
        layers_per_block=shape.layers, down_block_types=down, up_block_types=tuple(name.replace("Down", "Up") for name in reversed(down)),
        addition_time_embed_dim=shape.time_dim, projection_class_embeddings_input_dim=3 * shape.time_dim, cross_attention_dim=shape.token_dim,
    )  # fmt: skip


def load_base(role: str) -> Any:
    """The UNet of a role. Raises MissingWeightsError, UserError."""
    from diffusers import UNetSpatioTemporalConditionModel

    return load_part(UNetSpatioTemporalConditionModel, folder_of(role, "config.json", WEIGHTS))


def _with_adapters(config: StableAnimatorConfig, unet: Any) -> Any:
    shape = config.network
    if shape.face_method != "none":
        add_id_adapter(unet, shape.face_tokens, align=shape.align, stat_dims=shape.stat_dims, zero_passthrough=shape.zero_face_passthrough)
    return unet


def make_face_encoder(shape: NetworkConfig, width: int) -> FaceEncoder | None:
    """A fresh one for tokens of that width; None where there are no face tokens."""
    if shape.face_method == "none":
        return None
    return FaceEncoder(
        shape.face_dim,
        width,
        shape.face_tokens,
        shape.face_layers,
        shape.face_heads,
        shape.face_head_dim,
        refine=shape.face_encoder,
        zero_init=shape.zero_init,
    )


def fresh_network(config: StableAnimatorConfig, latent_channels: int = 4) -> StableAnimator:
    """Training's start: SVD's UNet (or one from scratch for `latent_channels`), new small networks. Raises MissingWeightsError, UserError.

    With a base, the base's own config says how wide the parts beside it are.
    """
    shape = config.network
    unet = make_unet(shape, latent_channels) if config.base_unet is None else load_base(config.base_unet)
    unet, width = _with_adapters(config, unet), unet.config.cross_attention_dim
    config.additions.begin(unet)
    pose_net = PoseNet(unet.config.block_out_channels[0], shape.pose_widths)
    return StableAnimator(config, unet, pose_net, make_face_encoder(shape, width))


def load_network(config: StableAnimatorConfig, folder: Path) -> StableAnimator:
    """From a checkpoint, strictly. Raises UserError."""
    from diffusers import UNetSpatioTemporalConditionModel

    unet = _with_adapters(config, empty_part(UNetSpatioTemporalConditionModel, folder / "unet"))
    path = folder / "unet" / WEIGHTS
    if not path.is_file():
        raise UserError(f"{path} is missing; train stage_1 again, or give another folder")
    load_strictly(unet, load_file(path), source=str(folder / "unet"))
    encoder = load_part(FaceEncoder, folder / "face_encoder") if config.network.face_method != "none" else None
    return StableAnimator(config, unet, load_part(PoseNet, folder / "pose_net"), encoder)
