"""Random changes of pictures and points for the tiny networks, so that they also read blurred, noisy, re-encoded and generated frames.

Everything random comes from the generator given, which is a CPU one. Coordinates are px with pixel centres at whole numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.keypoints import MIRROR

# B = pictures, C = channels, H W = height, width of the source, h w = of the result, K = points
_KEPT = torch.tensor(MIRROR)


@dataclass(frozen=True, kw_only=True, slots=True)
class Looks:
    """How strongly pictures are changed; a share is the probability per picture."""

    brightness: float = 0.25  # largest shift of the mean, of the full range
    contrast: float = 0.3
    tint: float = 0.12  # largest gain or loss of one colour
    grey_share: float = 0.05
    blur_share: float = 0.35
    blur_px: float = 1.3  # largest deviation of the Gaussian
    soften_share: float = 0.15  # shrunk and enlarged again
    recode_share: float = 0.25  # as a lossy codec leaves it
    noise_share: float = 0.5
    noise: float = 0.06  # largest deviation, of the full range


LOOKS = Looks()


def uniform(generator: torch.Generator, shape: tuple[int, ...], low: float, high: float) -> Tensor:
    """Uniform numbers in [low, high)."""
    return torch.rand(shape, generator=generator) * (high - low) + low


def chance(generator: torch.Generator, count: int, share: float) -> Tensor:
    """[count] bool, each true with probability `share`."""
    return torch.rand(count, generator=generator) < share


def region(centre: Tensor, extent: Tensor, size: tuple[int, int], angle: Tensor | None = None, flip: Tensor | None = None) -> Tensor:
    """Maps [B, 2, 3] from px of a crop of `size` (h, w) to px of the frame.

    centre [B, 2] is where the middle (w / 2, h / 2) of the crop lies, extent [B, 2] how wide and high it is there, angle [B] in
    radians turns it, flip [B] bool mirrors it. Without the last two this is the crop of pipelines.extractors.simcc.warp_box.
    """
    scale = extent / torch.tensor([size[1], size[0]], dtype=extent.dtype)
    angle = torch.zeros(len(centre)) if angle is None else angle
    sign = torch.ones(len(centre)) if flip is None else 1 - 2 * flip.float()
    cos, sin = angle.cos(), angle.sin()
    linear = torch.stack([torch.stack([cos * sign, -sin], -1), torch.stack([sin * sign, cos], -1)], 1) * scale[:, None]
    middle = torch.tensor([size[1] / 2, size[0] / 2])
    # a mirrored crop keeps pixel centres: x -> w - 1 - x, so its middle lies one pixel to the left
    middle = middle.expand(len(centre), 2) - torch.stack([(sign < 0).float(), torch.zeros_like(sign)], -1)
    return torch.cat([linear, (centre - (linear @ middle[..., None])[..., 0])[..., None]], dim=2)


def warp(
    images: Tensor, maps: Tensor, size: tuple[int, int], mode: Literal["bilinear", "nearest"] = "bilinear", outside: float = 0.0
) -> Tensor:
    """Pictures [B, C, H, W] -> [B, C, h, w], pixel p of the result taken from `maps` p; `outside` the frame a constant."""
    height, width = images.shape[-2:]
    y, x = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    pixels = torch.stack([x, y, torch.ones_like(x)], -1).float().to(images.device)  # [h, w, 3]
    source = torch.einsum("hwk,bik->bhwi", pixels, maps.to(images.device))
    grid = (source * 2 + 1) / torch.tensor([width, height], device=images.device) - 1
    return F.grid_sample(images - outside, grid, mode, "zeros", align_corners=False) + outside


def warp_points(points: Tensor, maps: Tensor) -> Tensor:
    """Points [B, K, 2] of the frame in px of the crop."""
    return torch.linalg.solve(maps[:, :, :2], (points - maps[:, None, :, 2]).mT).mT


def mirrored(values: Tensor, flip: Tensor) -> Tensor:
    """[B, 133, ...] with left and right exchanged where `flip` [B] says so."""
    return torch.where(flip.view(-1, *[1] * (values.dim() - 1)), values[:, _KEPT], values)


def change_looks(images: Tensor, generator: torch.Generator, looks: Looks = LOOKS) -> Tensor:
    """Pictures [B, 3, H, W] in 0..1 with other light and colours, softer, noisier, re-encoded; again in 0..1."""
    changed = shift_colours(images, generator, looks)
    for share, effect in (
        (looks.blur_share, blur),
        (looks.soften_share, soften),
        (looks.recode_share, recode),
        (looks.noise_share, roughen),
    ):
        chosen = chance(generator, len(images), share).nonzero()[:, 0].to(images.device)
        if len(chosen):
            changed = changed.index_copy(0, chosen, effect(changed[chosen], generator, looks))
    return changed.clamp(0, 1)


def shift_colours(images: Tensor, generator: torch.Generator, looks: Looks = LOOKS) -> Tensor:
    """Brightness, contrast, tint; a few become grey."""
    count, device = len(images), images.device
    gain = (1 + uniform(generator, (count, 1, 1, 1), -looks.contrast, looks.contrast)) * (
        1 + uniform(generator, (count, 3, 1, 1), -looks.tint, looks.tint)
    )
    shift = uniform(generator, (count, 1, 1, 1), -looks.brightness, looks.brightness) * torch.rand(count, 1, 1, 1, generator=generator)
    grey = chance(generator, count, looks.grey_share).view(-1, 1, 1, 1).to(device)
    images = torch.where(grey, images.mean(1, keepdim=True).expand_as(images), images)
    return (images - 0.5) * gain.to(device) + 0.5 + shift.to(device)


def blur(images: Tensor, generator: torch.Generator, looks: Looks = LOOKS) -> Tensor:
    """Gaussian blur, each picture with its own deviation."""
    count, side = len(images), 7
    deviation = uniform(generator, (count, 1), 0.3, looks.blur_px)
    taps = torch.exp(-0.5 * (torch.arange(side) - side // 2).square() / deviation.square())
    taps = (taps / taps.sum(1, keepdim=True)).to(images.device).repeat_interleave(3, 0)  # [3 B, side]
    flat = F.pad(images.reshape(1, -1, *images.shape[2:]), (side // 2,) * 4, mode="replicate")
    flat = F.conv2d(flat, taps.view(-1, 1, side, 1), groups=3 * count)
    return F.conv2d(flat, taps.view(-1, 1, 1, side), groups=3 * count).view_as(images)


def soften(images: Tensor, generator: torch.Generator, looks: Looks = LOOKS) -> Tensor:
    """Shrunk by one factor for all of them and enlarged again."""
    factor = float(uniform(generator, (1,), 0.45, 0.8))
    small = F.interpolate(images, scale_factor=factor, mode="bilinear", antialias=True)
    return F.interpolate(small, images.shape[-2:], mode="bilinear")


def recode(images: Tensor, generator: torch.Generator, looks: Looks = LOOKS) -> Tensor:
    """Blocks of 8 x 8 with their cosine coefficients rounded, the fine ones more coarsely."""
    height, width = images.shape[-2:]
    padded = F.pad(images, (0, -width % 8, 0, -height % 8), mode="replicate")
    basis = _cosines().to(images.device)
    blocks = padded.unfold(2, 8, 8).unfold(3, 8, 8)  # [B, 3, rows, columns, 8, 8]
    frequency = torch.arange(8.0, device=images.device)
    strength = uniform(generator, (len(images), 1, 1, 1, 1, 1), 0.02, 0.09).to(images.device)
    step = strength * (1 + 0.5 * (frequency[:, None] + frequency[None]))
    blocks = basis.T @ ((basis @ blocks @ basis.T / step).round() * step) @ basis
    joined = blocks.permute(0, 1, 2, 4, 3, 5).reshape(padded.shape)
    return joined[..., :height, :width]


def _cosines() -> Tensor:
    """The orthonormal cosine basis [frequency, sample] of 8 samples."""
    k, n = torch.arange(8.0)[:, None], torch.arange(8.0)[None]
    return torch.cos(math.pi * (n + 0.5) * k / 8) * torch.where(k == 0, math.sqrt(1 / 8), 0.5)


def roughen(images: Tensor, generator: torch.Generator, looks: Looks = LOOKS) -> Tensor:
    """Gaussian noise, fine or in patches of two px."""
    deviation = uniform(generator, (len(images), 1, 1, 1), 0.0, looks.noise).to(images.device)
    noise = torch.randn(images.shape, generator=generator).to(images.device)
    if float(torch.rand(1, generator=generator)) < 0.3:
        noise = F.interpolate(noise[..., ::2, ::2], images.shape[-2:])
    return images + noise * deviation


def paste_behind(images: Tensor, masks: Tensor, generator: torch.Generator, share: float) -> Tensor:
    """Some pictures get the person of the picture before them, somewhere to the side, behind their own.

    images [B, 3, H, W]; masks [B, 1, H, W] in 0..1 of the persons. The own person's pixels stay.
    """
    width = images.shape[-1]
    chosen = chance(generator, len(images), share).view(-1, 1, 1, 1).to(images.device)
    shift = int(uniform(generator, (1,), 0.2, 0.6) * width) * (1 if float(torch.rand(1, generator=generator)) < 0.5 else -1)
    other, shape = (shifted(values.roll(1, 0), shift) for values in (images, masks))
    return torch.where(chosen, images + shape * (1 - masks) * (other - images), images)


def shifted(values: Tensor, px: int) -> Tensor:
    """Moved to the right by px, zeros where nothing was."""
    moved = torch.zeros_like(values)
    if px >= 0:
        moved[..., px:] = values[..., : values.shape[-1] - px]
    else:
        moved[..., :px] = values[..., -px:]
    return moved


def cut_out(images: Tensor, generator: torch.Generator, share: float, largest: float = 0.3) -> Tensor:
    """Some pictures [B, 3, H, W] get a rectangle of one colour, each side at most `largest` of the picture's."""
    count, height, width = len(images), *images.shape[-2:]
    sides, corner = uniform(generator, (count, 2), 0.08, largest), torch.rand(count, 2, generator=generator)
    colour = torch.rand(count, 3, 1, 1, generator=generator).to(images.device)
    start = corner * (1 - sides)
    y, x = torch.arange(height) / height, torch.arange(width) / width
    rows = (y >= start[:, :1]) & (y < (start + sides)[:, :1])
    columns = (x >= start[:, 1:]) & (x < (start + sides)[:, 1:])
    inside = rows[:, None, :, None] & columns[:, None, None] & chance(generator, count, share).view(-1, 1, 1, 1)
    return torch.where(inside.to(images.device), colour, images)
