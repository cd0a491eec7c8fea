"""SVD's autoencoder: frames are encoded one by one, and decoded a few at a time, for the decoder looks at neighbouring frames."""

# N = frames, n = frames of a chunk, C h w = latents

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from models.checkpoint import load_part
from models.latents import LatentCodec, packing_of
from models.lean_decoding import Decode, decoder_of
from pipelines.extractors.pretrained_folder import folder_of

_WEIGHTS = "diffusion_pytorch_model.safetensors"


class TemporalCodec(LatentCodec):
    """AutoencoderKLTemporalDecoder of diffusers. Latents are the autoencoder's times its scaling_factor (0.18215), packed where it says so."""

    def __init__(self, autoencoder: Any, packing: int = 1) -> None:
        self.scale = float(autoencoder.config.scaling_factor)
        std = torch.full((autoencoder.config.latent_channels,), 1 / self.scale)
        super().__init__(autoencoder, torch.zeros_like(std), std, packing)

    @torch.no_grad()
    def encode(self, images: Tensor, chunk: int = 16) -> Tensor:
        """[N, 3, H, W] in [-1, 1] -> [N, C, h, w], the posterior's mode."""
        return torch.cat([self._normalise(self.posterior(part).mode().float()) for part in images.split(chunk)]).contiguous()

    def posterior(self, images: Tensor) -> Any:
        """diffusers' posterior of the raw latents, in the autoencoder's own precision."""
        return self.autoencoder.encode(images.to(self.autoencoder.device, self.autoencoder.dtype)).latent_dist

    @torch.no_grad()
    def decode(self, latents: Tensor, chunk: int = 4) -> Tensor:
        """[N, C, h, w] neighbouring frames -> [N, 3, H, W] clamped to [-1, 1], `chunk` frames at a time."""
        return torch.cat([self.decode_frames(part) for part in latents.split(chunk)]).clamp(-1, 1)

    def decode_frames(self, latents: Tensor) -> Tensor:
        """[n, C, h, w] frames that the decoder sees together -> [n, 3, H, W], not clamped, with gradients."""
        raw = self._denormalise(latents.to(self.autoencoder.device)).to(self.autoencoder.dtype)
        return self.autoencoder.decode(raw, num_frames=len(latents)).sample.float()


def load_codec(role: str) -> LatentCodec:
    """The autoencoder of a role: SVD's kind, or an image autoencoder that decodes every frame by itself. Raises MissingWeightsError."""
    return codec_in(codec_folder(role))


def codec_in(folder: Path) -> LatentCodec:
    """The autoencoder of a folder, of either kind."""
    from diffusers import AutoencoderKLTemporalDecoder

    kind = AutoencoderKLTemporalDecoder.load_config(folder)["_class_name"]
    if kind != "AutoencoderKLTemporalDecoder":
        return LatentCodec.load(folder)
    return TemporalCodec(load_part(AutoencoderKLTemporalDecoder, folder), packing_of(folder))


def codec_folder(role: str) -> Path:
    """Folder of an autoencoder's role. Raises MissingWeightsError."""
    return folder_of(role, "config.json", _WEIGHTS)


def differentiable(codec: LatentCodec) -> Decode:
    """The decoder for `face_optimisation`: latents of one chunk of neighbouring frames -> images."""
    return codec.decode_frames if isinstance(codec, TemporalCodec) else decoder_of(codec)


def unscaled(codec: LatentCodec, latents: Tensor) -> Tensor:
    """Latents of the codec in the units of `conditioning_latent`."""
    return latents / codec.scale if isinstance(codec, TemporalCodec) else latents


@torch.no_grad()
def conditioning_latent(
    codec: LatentCodec, images: Tensor, noise_std: float, generator: torch.Generator, *, sample: bool = False
) -> Tensor:
    """[R, C, h, w] what stands beside the noisy latents, of reference images [R, 3, H, W] in [-1, 1] with noise (Sec. 3; SVD App. D).

    Unscaled, as SVD's pipeline leaves it. sample: draws from the posterior instead of taking its mode. An image autoencoder has no
    posterior; its latents are taken as they are, of unit deviation.
    """
    noised = images + noise_std * torch.randn(images.shape, generator=generator).to(images)
    if not isinstance(codec, TemporalCodec):
        return codec.encode(noised)
    posterior = codec.posterior(noised)
    latent = posterior.mode()
    if sample:
        latent = latent + posterior.std * torch.randn(latent.shape, generator=generator).to(latent)
    return F.pixel_unshuffle(latent.float(), codec.packing)
