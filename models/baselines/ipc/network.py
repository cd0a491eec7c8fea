"""What runs: the prompted denoiser with MagicVideo's temporal layers hooked in."""

# R = references, K = frames per reference, C h w = latent channels, height, width

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from models.baselines.ipc.config import IpcConfig
from models.causal_temporal import CausalTemporal, causal_temporal_of
from models.checkpoint import load_part
from models.guidance import Condition
from models.prompted_denoiser import PromptedDenoiser, fresh_denoiser, load_denoiser, only_training


class Ipc(nn.Module):
    """Frames see earlier frames where there are temporal layers (from stage 2 on)."""

    def __init__(self, config: IpcConfig, spatial: PromptedDenoiser, temporal: CausalTemporal | None) -> None:
        super().__init__()
        self.config, self.spatial, self.temporal_layers = config, spatial, temporal
        self.noise, self.additions, self.image_tokens = spatial.noise, spatial.additions, spatial.image_tokens
        if temporal is not None:
            temporal.attach(spatial.denoiser)

    @property
    def temporal(self) -> bool:
        """Whether frames see each other."""
        return self.temporal_layers is not None

    def forward(self, noisy: Tensor, timesteps: Tensor, condition: Condition) -> Tensor:
        """Prediction for noisy latents [R, K, C, h, w] at timesteps [R] or [R * K]; same shape as `noisy`."""
        if self.temporal_layers is not None:
            self.temporal_layers.frames = noisy.shape[1]
        return self.spatial(noisy, timesteps, condition)

    def parts(self) -> dict[str, Any]:
        """What a checkpoint holds, by folder."""
        return {**self.spatial.parts(), **({} if self.temporal_layers is None else {"causal_temporal": self.temporal_layers})}

    def trainable(self, stage: str) -> Mapping[str, nn.Parameter]:
        """stage_1: IP-Adapter and ControlNet. stage_2: temporal layers and adaptors alone. Every other parameter is frozen here."""
        if stage == "stage_1":
            return self.spatial.spatial_parameters(unet=False)
        named = {f"{part}.{name}": p for part, module in self.parts().items() for name, p in module.named_parameters()}
        return only_training(named, {name for name in named if name.startswith("causal_temporal.")})


def fresh_network(config: IpcConfig) -> Ipc:
    """The published parts, or fresh ones, without temporal layers. Raises MissingWeightsError, and UserError where weights do not fit."""
    return Ipc(config, fresh_denoiser(config.networks, config.noise), None)


def add_temporal(network: Ipc) -> Ipc:
    """The same networks with fresh temporal layers, which change nothing yet."""
    wanted = network.config.temporal
    layers = causal_temporal_of(network.spatial.denoiser, wanted.heads, wanted.frames, causal=wanted.causal, adaptor=wanted.adaptor)
    return Ipc(network.config, network.spatial, layers)


def load_network(config: IpcConfig, folder: Path) -> Ipc:
    """From a checkpoint of either stage, strictly."""
    layers = load_part(CausalTemporal, folder / "causal_temporal") if (folder / "causal_temporal").is_dir() else None
    return Ipc(config, load_denoiser(config.networks, config.noise, folder), layers)
