"""Decoding with gradients in little memory: a few images at a time, recomputed when gradients are asked for, or only the crop that a loss looks at."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from models.latents import LatentCodec

Decode = Callable[[Tensor], Tensor]
"""[N, C, h, w] latents -> [N, 3, H, W] about [-1, 1], not clamped: a clamped pixel gives no gradient."""

Crop = tuple[int, int, int, int]
"""x1, y1, x2, y2 in latent pixels."""


def decoder_of(codec: LatentCodec) -> Decode:
    """The codec's decoder as a differentiable function of its normalised, packed latents."""

    def decode(latents: Tensor) -> Tensor:
        raw = F.pixel_shuffle(latents, codec.packing) * codec.std.to(latents) + codec.mean.to(latents)
        return codec.autoencoder.decode(raw).sample

    return decode


def decode_in_chunks(decode: Decode, latents: Tensor, chunk: int = 1) -> Tensor:
    """decode(latents), with gradients, while only `chunk` images' activations exist at any time.

    Nothing but the latents and the images is kept for the backward pass; it runs each chunk again. The same values and gradients as decode(latents).
    """
    if not (torch.is_grad_enabled() and latents.requires_grad):
        return torch.cat([decode(part) for part in latents.split(chunk)])
    return torch.cat([checkpoint(decode, part, use_reentrant=False, preserve_rng_state=False) for part in latents.split(chunk)])


def latent_crop(box: tuple[float, float, float, float], scale: int, latent_size: tuple[int, int], margin: int = 4) -> Crop:
    """Smallest crop of whole latent pixels that holds `box` (x1 y1 x2 y2 in pixels of the image), `margin` latent pixels wider at each side, inside the image.

    scale: image pixels per latent pixel.
    """
    height, width = latent_size
    x1, y1 = (max(0, math.floor(v / scale) - margin) for v in box[:2])
    x2, y2 = (min(side, math.ceil(v / scale) + margin) for v, side in zip(box[2:], (width, height), strict=True))
    if x2 <= x1 or y2 <= y1:
        raise ValueError(f"box {box} lies outside of the image of {width * scale} x {height * scale} px")
    return x1, y1, x2, y2


def decode_crop(decode: Decode, latents: Tensor, crop: Crop) -> Tensor:
    """[N, C, h, w] -> [N, 3, H', W']: what the decoder makes of the crop alone; its pixel (0, 0) is the image's (x1, y1) times the scale.

    Not the same as the crop of the whole image: near the crop's edge by the margin, and everywhere by as much as the decoder
    normalises or attends over the whole image (Stable Diffusion's does both).
    """
    x1, y1, x2, y2 = crop
    return decode(latents[:, :, y1:y2, x1:x2])


def crop_warps(warps: Tensor, crop: Crop, scale: int) -> Tensor:
    """[N, 2, 3] warps from pixels of the whole image -> from pixels of the decoded crop, q = p - scale (x1, y1)."""
    corner = warps.new_tensor([crop[0] * scale, crop[1] * scale])
    offset = warps[..., 2] + warps[..., :2] @ corner
    return torch.cat([warps[..., :2], offset[..., None]], dim=-1)
