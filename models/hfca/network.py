"""What runs: Reference ProcessingNet, PoseNet and denoiser, with the modules that later stages add (Figure 2)."""

# R = references, K = targets or frames per reference, N = R * K, C h w = latent channels, height, width

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from models.checkpoint import load_part
from models.demo_additions import ReferenceHint, hinted
from models.denoising import denoise
from models.downsampling_temporal import DownsamplingTemporal
from models.guidance import Condition
from models.hfca.action_attention import ActionAttention
from models.hfca.clothing_prototypes import ClothingPrototypes
from models.hfca.config import HfcaConfig
from models.image_tokens import image_tokens_of
from models.noise import make_scheduler
from models.pose_guider import PoseGuider
from models.pretrained_networks import base_unet_folder
from models.reference_attention import ReferenceBank, freeze_unused_tail, read_reference, spatial_sites, write_reference
from models.stem import StemAddition
from models.unet_shape import make_unet


@dataclass(frozen=True, kw_only=True, slots=True)
class HfcaCondition(Condition):
    """What steers the denoiser; `pose` are pose maps [N, 3 or 6, H, W]. A dropped reference also loses its action: null tokens stand there."""

    per_reference: ClassVar[tuple[str, ...]] = (*Condition.per_reference, "clothing", "actions")

    clothing: Tensor | None = None  # [R, 12] probabilities of the reference's clothing; None without prototypes
    actions: Tensor | None = None  # [R, 256, C'] motion tokens; None = the learned null tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """The networks of a stage; None = not added yet, or not in this variant. Names are those of a checkpoint's folders."""

    denoising_unet: Any
    reference_net: Any
    pose_net: PoseGuider
    reference_hint: ReferenceHint | None = None
    clothing_prototypes: ClothingPrototypes | None = None
    action_attention: ActionAttention | None = None
    temporal_layers: DownsamplingTemporal | None = None

    def present(self) -> dict[str, Any]:
        """By name, those that there are."""
        return {name: part for name in self.__dataclass_fields__ if (part := getattr(self, name)) is not None}


class Hfca(nn.Module):
    """The denoiser with its conditions."""

    def __init__(self, config: HfcaConfig, parts: Parts, tokens: nn.Module) -> None:
        super().__init__()
        self.config, self.made_of, self.image_tokens = config, parts, tokens
        self.networks = nn.ModuleDict(parts.present())
        self.noise, self.additions = config.noise, config.additions
        self.scheduler = make_scheduler(config.noise)
        self.bank = ReferenceBank()
        self.sites = write_reference(parts.reference_net, self.bank)
        if read_reference(parts.denoising_unet, self.bank) != self.sites:
            raise ValueError("Reference ProcessingNet and denoiser have different self-attention sites")
        self.stem = StemAddition(parts.denoising_unet.conv_in)
        if parts.temporal_layers is not None:
            parts.temporal_layers.attach(parts.denoising_unet)
        freeze_unused_tail(parts.reference_net)

    @property
    def temporal(self) -> bool:
        """Whether frames see each other."""
        return self.made_of.temporal_layers is not None

    def forward(self, noisy: Tensor, timesteps: Tensor, condition: HfcaCondition) -> Tensor:
        """Prediction for noisy latents [R, K, C, h, w] at timesteps [R] or [R * K]; same shape as `noisy`."""
        parts, each = self.made_of, noisy.shape[1]
        if parts.temporal_layers is not None:
            parts.temporal_layers.frames = each
        with self.bank.held():
            self.bank.fill(condition, self.write)
            with self.stem.adding(self.stem_features(condition, each)):
                output = denoise(parts.denoising_unet, noisy, timesteps, condition.image_tokens)
        return self.additions.with_skip(output, noisy, timesteps, self.scheduler)

    def write(self, condition: HfcaCondition) -> None:
        """Fill the bank with the reference's tokens, fused with its kind of clothing (Eq. 4)."""
        self._run_reference(condition)
        prototypes = self.made_of.clothing_prototypes
        if prototypes is None:
            return
        if condition.clothing is None:
            raise ValueError("the network has clothing prototypes: the condition must say what the reference wears")
        fused = prototypes([self.bank.tokens[site] for site in self.sites], condition.clothing)
        self.bank.tokens.update(zip(self.sites, fused, strict=True))

    def _run_reference(self, condition: HfcaCondition) -> None:
        """Run the Reference ProcessingNet, on the clean latent at t = 0."""
        still = torch.zeros(len(condition.reference_latent), dtype=torch.long, device=condition.reference_latent.device)
        self.made_of.reference_net(condition.reference_latent, still, encoder_hidden_states=condition.image_tokens)

    @torch.no_grad()
    def reference_tokens(self, condition: HfcaCondition) -> list[Tensor]:
        """f_main of every site, [R, L, C] each, as the Reference ProcessingNet leaves them, before any clothing."""
        with self.bank.held():
            self._run_reference(condition)
            return [self.bank.tokens[site] for site in self.sites]

    def stem_features(self, condition: HfcaCondition, each: int) -> Tensor | None:
        """[N, C, h, w] pose features, corrected by the action (Eq. 5), and the hint."""
        features = self.made_of.pose_net(condition.pose)
        if self.made_of.action_attention is not None:
            features = self.made_of.action_attention(features, condition.actions, condition.dropped)
        return hinted(features, self.made_of.reference_hint, condition, each)

    def parts(self) -> dict[str, Any]:
        """What a checkpoint holds, by folder."""
        return self.made_of.present()

    def trainable(self, stage: str) -> Mapping[str, nn.Parameter]:
        """Parameters that a stage trains (Sec. 3.4), by name; every other one is frozen here.

        stage_1: the UNet, the Reference ProcessingNet (without its dead tail) and PoseNet. stage_1b: what Eq. 4 and 5 add, and PoseNet.
        stage_2: the temporal layers alone.
        """
        wanted = {
            "stage_1": ("denoising_unet", "reference_net", "pose_net", "reference_hint"),
            "stage_1b": ("clothing_prototypes", "action_attention", "pose_net"),
            "stage_2": ("temporal_layers",),
        }[stage]
        dead = {f"reference_net.{name}" for name in freeze_unused_tail(self.made_of.reference_net)}
        named = {f"{part}.{name}": p for part, module in self.parts().items() for name, p in module.named_parameters()}
        chosen = {name: p for name, p in named.items() if name.split(".")[0] in wanted and name not in dead}
        for name, parameter in named.items():
            parameter.requires_grad_(name in chosen)
        return chosen


def fresh_network(config: HfcaConfig) -> Hfca:
    """Stage 1's start: UNet and Reference ProcessingNet from one base (or one set of random weights), and a new PoseNet.

    Raises MissingWeightsError, UserError where the base does not load.
    """
    denoiser = make_unet(config.shape) if config.base_unet is None else load_part(UNet2DConditionModel, base_unet_folder(config.base_unet))
    reference = UNet2DConditionModel.from_config(denoiser.config)
    reference.load_state_dict(denoiser.state_dict())
    config.additions.begin(denoiser)
    pose = config.pose
    parts = Parts(
        denoising_unet=denoiser,
        reference_net=reference,
        pose_net=PoseGuider(denoiser.config.block_out_channels[0], pose.widths, pose.variant, pose.in_channels),
        reference_hint=config.additions.make_hint(denoiser),
    )
    return Hfca(config, parts, image_tokens_of(config.image_encoder, denoiser.config.cross_attention_dim))


def add_adaptation(network: Hfca, classes: Sequence[str]) -> Hfca:
    """Stage 1b's start: clothing prototypes (still empty) and action attention, which change nothing yet. classes: of the action prototypes."""
    dsao, unet = network.config.dsao, network.made_of.reference_net
    widths = [unet.get_submodule(site.removesuffix(".processor")).to_q.in_features for site in spatial_sites(unet)]
    first = unet.config.block_out_channels[0]
    clothes = ClothingPrototypes(widths, dsao.categories, dsao.assign) if dsao.clothes else None
    actions = ActionAttention(first, dsao.token_channels, dsao.motion_tokens, dsao.heads, tuple(classes)) if dsao.actions else None
    return _again(network, clothing_prototypes=clothes, action_attention=actions)


def add_temporal(network: Hfca) -> Hfca:
    """Stage 2's start: temporal layers behind the down blocks, which change nothing yet."""
    config = network.config
    widths = tuple(network.made_of.denoising_unet.config.block_out_channels)
    layers = DownsamplingTemporal(
        widths, config.shape.motion_heads, config.shape.motion_frames, config.temporal.pre_norm, config.temporal.update_skip
    )
    return _again(network, temporal_layers=layers)


def _again(network: Hfca, **added: Any) -> Hfca:
    """The same networks, and more of them."""
    return Hfca(network.config, replace(network.made_of, **added), network.image_tokens)


def load_network(config: HfcaConfig, folder: Path) -> Hfca:
    """From a checkpoint of any stage, strictly."""
    kinds: dict[str, Any] = {
        "denoising_unet": UNet2DConditionModel,
        "reference_net": UNet2DConditionModel,
        "pose_net": PoseGuider,
        "reference_hint": ReferenceHint,
        "clothing_prototypes": ClothingPrototypes,
        "action_attention": ActionAttention,
        "temporal_layers": DownsamplingTemporal,
    }
    always = ["denoising_unet", "reference_net", "pose_net", *(["reference_hint"] if config.additions.hint else [])]
    later = [name for name in ("clothing_prototypes", "action_attention", "temporal_layers") if (folder / name).is_dir()]
    parts = Parts(**{name: load_part(kinds[name], folder / name) for name in (*always, *later)})
    return Hfca(config, parts, image_tokens_of(config.image_encoder, parts.denoising_unet.config.cross_attention_dim))
