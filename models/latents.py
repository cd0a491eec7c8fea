"""Latents: images through a frozen autoencoder, normalised per channel, optionally packed.

raw pixels [N, 3, H, W] in [-1, 1]  =>  raw latents  =>  packed latents [N, C, h, w], about zero mean and unit variance  =>  raw pixels
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.errors import UserError

_STATISTICS = "latents.json"


class LatentCodec:
    """A frozen autoencoder of diffusers with its latent statistics.

    packing: side of the blocks of latent pixels that are folded into channels (2 turns 4 x 32 x 32 into 16 x 16 x 16).
    """

    def __init__(self, autoencoder: Any, mean: Tensor, std: Tensor, packing: int = 1) -> None:
        self.autoencoder = autoencoder.eval().requires_grad_(False)
        self.mean, self.std, self.packing = mean.view(1, -1, 1, 1), std.view(1, -1, 1, 1), packing

    @classmethod
    def load(cls, folder: Path) -> LatentCodec:
        """From a folder of ours (with latents.json) or of a Stable Diffusion VAE. Raises UserError where there is none."""
        from diffusers import AutoencoderKL, AutoencoderTiny

        if not (folder / "config.json").is_file():
            raise UserError(
                f"no autoencoder in {folder}: config.json is missing; give a folder made by `rotoscope tiny train autoencoder`, or a VAE's"
            )
        kind = json.loads((folder / "config.json").read_text())["_class_name"]
        if kind == "AutoencoderKL":
            vae = AutoencoderKL.from_pretrained(folder, low_cpu_mem_usage=False)
            scale = torch.full((vae.config.latent_channels,), 1 / vae.config.scaling_factor)
            return cls(vae, torch.zeros_like(scale), scale)
        facts = json.loads((folder / _STATISTICS).read_text())
        vae = AutoencoderTiny.from_pretrained(folder, torch_dtype=torch.float32, low_cpu_mem_usage=False)
        vae.to(memory_format=torch.channels_last)  # 1.4 times faster on a CPU
        return cls(vae, torch.tensor(facts["mean"]), torch.tensor(facts["std"]), facts["packing"])

    def to(self, device: torch.device) -> LatentCodec:
        """Move it; returns itself. Pictures and latents may lie anywhere, results lie where the codec is."""
        self.autoencoder.to(device)
        self.mean, self.std = self.mean.to(device), self.std.to(device)
        return self

    def fingerprint(self) -> str:
        """12 hex digits over the weights and statistics: what encoded clips depend on."""
        digest = hashlib.sha256(f"{self.packing}".encode())
        for value in [*self.autoencoder.state_dict().values(), self.mean, self.std]:
            digest.update(value.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:12]

    @torch.no_grad()
    def encode(self, images: Tensor, chunk: int = 4) -> Tensor:
        """[N, 3, H, W] in [-1, 1] -> [N, C, h, w]; the posterior's mean where there is a posterior.

        chunk: images at once; four of 128 x 128 stay in a core's cache, sixteen take a third longer.
        """
        packed = [self._normalise(self._raw(part.to(self.mean.device))) for part in images.split(chunk)]
        return torch.cat(packed).contiguous()  # one memory layout, kept on disk or not: another one changes the last bits of a loss

    @torch.no_grad()
    def decode(self, latents: Tensor, chunk: int = 8) -> Tensor:
        """[N, C, h, w] -> [N, 3, H, W] clamped to [-1, 1], a few images at a time."""
        images = [self.autoencoder.decode(self._denormalise(part.to(self.mean.device))).sample for part in latents.split(chunk)]
        return torch.cat(images).clamp(-1, 1)

    def _raw(self, images: Tensor) -> Tensor:
        encoded = self.autoencoder.encode(images)
        return encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mean

    def _normalise(self, raw: Tensor) -> Tensor:
        return F.pixel_unshuffle((raw - self.mean) / self.std, self.packing)

    def _denormalise(self, packed: Tensor) -> Tensor:
        return F.pixel_shuffle(packed, self.packing) * self.std + self.mean


def save_statistics(folder: Path, raw: Tensor, packing: int) -> None:
    """Write latents.json from raw latents [N, C, h, w] of training images."""
    mean, std = raw.mean(dim=(0, 2, 3)), raw.std(dim=(0, 2, 3))
    facts = {"mean": [round(v, 6) for v in mean.tolist()], "std": [round(v, 6) for v in std.tolist()], "packing": packing}
    (folder / _STATISTICS).write_text(json.dumps(facts, indent=1))


def save_packing(folder: Path, packing: int) -> None:
    """Write latents.json of an autoencoder whose scale is in its config.json."""
    (folder / _STATISTICS).write_text(json.dumps({"packing": packing}, indent=1))


def packing_of(folder: Path) -> int:
    """Side of the blocks of latent pixels that LatentCodec folds into channels; 1 for a Stable Diffusion VAE."""
    path = folder / _STATISTICS
    packing: int = json.loads(path.read_text())["packing"] if path.is_file() else 1
    return packing
