"""MGDM, the Mask-Guided Decoupling Module (Sec. 3.4): where the character is in every frame, from cross-attention maps.

The source's mask comes from extraction. A generated frame's comes from what its places look at (Prompt-to-Prompt, Hertz et al. 2022): the
attention that they give the character's word, averaged over heads, layers and the levels so far, then thresholded as that work's LocalBlend.
"""

# F = frames, N = rows, L = places, S = tokens, h w = height, width of a map

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.clip_dataset import Points
from models.pose_animate.config import Mgdm
from models.reference_attention import attend
from pipelines.keypoints import VISIBLE


class CharacterMaps:
    """Sums of the attention that places give the character's tokens; filled by the processors while `recording`."""

    def __init__(self) -> None:
        self._tokens: Sequence[int] = ()
        self._sum: Tensor | None = None
        self._layers = 0

    def forget(self) -> None:
        """Before another clip."""
        self._sum, self._layers = None, 0

    @contextmanager
    def recording(self, tokens: Sequence[int]) -> Iterator[None]:
        """For one run of the UNet over frames 0 … F - 1, the conditional branch alone."""
        self._tokens = tokens
        try:
            yield
        finally:
            self._tokens = ()

    @property
    def on(self) -> bool:
        """Whether processors must show what they look at."""
        return bool(self._tokens)

    def add(self, probabilities: Tensor) -> None:
        """[N, heads, L, S] of one layer."""
        shown = probabilities[..., list(self._tokens)].sum(dim=-1).mean(dim=1).detach()
        self._sum = shown if self._sum is None else self._sum + shown
        self._layers += 1

    def mean(self, height: int, width: int) -> Tensor | None:
        """[F, 1, h, w] over all layers and levels so far; None before the first."""
        return None if self._sum is None else (self._sum / self._layers).unflatten(1, (height, width))[:, None]


class RecordedAttention:
    """Cross-attention that can show its probabilities (fused kernels cannot); the same result as diffusers' own."""

    def __init__(self, maps: CharacterMaps) -> None:
        self.maps = maps

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: Any) -> Tensor:
        if not self.maps.on:
            return attend(attn, hidden_states, encoder_hidden_states)
        query, key, value = (
            t.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for t in (attn.to_q(hidden_states), attn.to_k(encoder_hidden_states), attn.to_v(encoder_hidden_states))
        )
        probabilities = (query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])).softmax(dim=-1)
        self.maps.add(probabilities)
        return attn.to_out[1](attn.to_out[0]((probabilities @ value).transpose(1, 2).flatten(2)))


def map_sites(unet: Any, scale: int) -> list[str]:
    """Names of the cross-attention processors whose maps are `scale` times smaller than the latents; in SD 1.5 at 4: down_blocks.2 and up_blocks.1.

    Raises ValueError where the UNet has none.
    """
    levels = len(unet.config.block_out_channels)
    found = [name for name in unet.attn_processors if name.endswith("attn2.processor") and _scale_of(name, levels) == scale]
    if not found:
        raise ValueError(f"the UNet has no cross-attention at 1/{scale} of its latents; it has {levels} levels")
    return found


def _scale_of(name: str, levels: int) -> int:
    kind, number = name.split(".")[:2]
    if kind == "mid_block":
        return int(2 ** (levels - 1))
    return int(2 ** (int(number) if kind == "down_blocks" else levels - 1 - int(number)))


def record_maps(unet: Any, maps: CharacterMaps, scale: int) -> list[str]:
    """Set the processors; returns their names. The others keep diffusers' own."""
    sites = map_sites(unet, scale)
    unet.set_attn_processor({**unet.attn_processors, **dict.fromkeys(sites, RecordedAttention(maps))})
    return sites


def blended(maps: Tensor, size: tuple[int, int], threshold: float) -> Tensor:
    """LocalBlend's rule: [F, 1, h, w] maps -> [F, 1, H, W] bool; max-pooled 3x3, resized, over their maximum, above the threshold."""
    grown = F.interpolate(F.max_pool2d(maps, 3, stride=1, padding=1), size, mode="bilinear", align_corners=False)
    return grown / grown.amax(dim=(2, 3), keepdim=True).clamp(min=1e-12) > threshold


def pose_hull(points: Points, scores: Points, size: tuple[int, int], dilation: float) -> Tensor:
    """[F, 1, H, W] in {0, 1}: the convex hull of each frame's visible keypoints, grown by a share of its longer side on every side.

    points [F, K, 2] px and scores [F, K] in a picture of `size` (height, width). All ones where less than three are visible.
    """
    return torch.from_numpy(np.stack([_hull(p[s > VISIBLE], size, dilation) for p, s in zip(points, scores, strict=True)]))[:, None]


def _hull(points: Points, size: tuple[int, int], dilation: float) -> Points:
    import cv2

    if len(points) < 3:
        return np.ones(size, np.float32)
    within = np.clip(points, -max(size), 2 * max(size)).astype(np.float32)
    filled = np.zeros(size, np.uint8)
    cv2.fillConvexPoly(filled, np.rint(cv2.convexHull(within)).astype(np.int32), 1)
    reach = max(1, round(dilation * float(np.ptp(within, axis=0).max())))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    return np.asarray(cv2.dilate(filled, disc), np.float32)


class FrameMasks:
    """Masks of the frames of one clip at any level and layer.

    source: [1, 1, H, W] the body mask of frame 0, soft; hulls: [F, 1, H, W]; latent: height and width of the latents.
    """

    def __init__(self, source: Tensor, hulls: Tensor, latent: tuple[int, int], config: Mgdm) -> None:
        self.source, self.hulls, self.latent, self.config = source, hulls, latent, config

    def at(self, share: float, maps: Tensor | None) -> Callable[[int], Tensor] | None:
        """L -> [F, L] bool at a level that is `share` of the way from noise to picture; maps: [F, 1, h, w] of the levels before it.

        None = nothing is decoupled: no map yet, and bootstrap off.
        """
        bootstrap = self.config.bootstrap == "pose_hull"
        if maps is None and not bootstrap:
            return None
        trusted = torch.zeros(len(self.hulls), dtype=torch.bool)
        if maps is not None and not (bootstrap and share < self.config.bootstrap_share):
            areas = blended(maps, self.latent, self.config.threshold).float().mean(dim=(1, 2, 3)).cpu()
            low, high = self.config.areas
            trusted = (areas >= low) & (areas <= high) if bootstrap else ~trusted
        made: dict[int, Tensor] = {}

        def masks_at(places: int) -> Tensor:
            if places not in made:
                made[places] = self._masks(places, maps, trusted)
            return made[places]

        return masks_at

    def _masks(self, places: int, maps: Tensor | None, trusted: Tensor) -> Tensor:
        scale = math.isqrt(self.latent[0] * self.latent[1] // places)
        size = self.latent[0] // scale, self.latent[1] // scale
        masks = F.interpolate(self.hulls, size, mode="area") >= 0.5
        if maps is not None:
            masks[trusted] = blended(maps, size, self.config.threshold).cpu()[trusted]
        masks[:1] = F.interpolate(self.source, size, mode="area") >= 0.5  # M_x0 = M_s, always
        return masks.flatten(1)
