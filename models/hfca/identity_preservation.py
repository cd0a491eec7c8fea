"""Identity Preservation Module (Sec. 3.1): the face (Eq. 1) and the clothing's style (Eq. 2, 3) of the one-step x0, in pixels.

    L = L_diffusion + w_face L_face + w_style L_style

The paper names neither the weights nor the image that is judged. Here it is the decoded one-step x0 of samples with t < t_max; only crops
are decoded, the face as the recogniser looks at it, and the body. Each loss's gradient at the prediction is held to a share of the
diffusion loss's at the same places.
"""

# R = references, N = targets of all references, C h w = latent channels, height, width

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.face_warp import CROP, aligned_faces
from models.hfca.config import IdentityPreservation, Region
from models.identity_loss import identity_loss, judgeable_faces
from models.lean_decoding import Crop, Decode, crop_warps, decode_crop, decode_in_chunks, latent_crop
from models.region_loss import box_masks, clothing_region
from models.signals import Signals, needed
from models.stage_loss import Denoised
from models.style_loss import Vgg19, style_loss

_NAME = "identity preservation"

FullBox = tuple[float, float, float, float]
"""x1 y1 x2 y2 in pixels of the image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """One batch as the module looks at it: N = R * K rows, each beside its reference's."""

    latents: Tensor  # [N, C, h, w] one-step x0
    timesteps: Tensor  # [N]
    signals: Signals  # of N targets
    reference_image: Tensor  # [N, 3, H, W] in [-1, 1]
    reference_signals: Signals  # of N references

    @classmethod
    def of(cls, denoised: Denoised) -> Judged:
        """From a batch after the network; each reference's image and signals repeated for its targets."""
        batch, (references, each) = denoised.batch, denoised.estimate.shape[:2]
        return cls(
            latents=denoised.estimate.flatten(0, 1),
            timesteps=denoised.timesteps,
            signals=batch.signals,
            reference_image=batch.reference_image.repeat_interleave(each, dim=0),
            reference_signals=batch.reference_signals.rows([i for i in range(references) for _ in range(each)]),
        )

    @property
    def scale(self) -> int:
        """Image pixels per latent pixel."""
        return self.reference_image.shape[-1] // self.latents.shape[-1]


class IdentityPreservationLoss:
    """The extra loss of stage 1. `shares` holds, by loss, the ratios of its gradient's norm to the diffusion loss's, before the cap."""

    def __init__(self, config: IdentityPreservation, decode: Decode, recogniser: nn.Module | None, perceptual: Vgg19 | None) -> None:
        self.config, self.decode, self.recogniser, self.perceptual = config, decode, recogniser, perceptual
        self.shares: dict[str, list[float]] = {}

    def __call__(self, denoised: Denoised) -> Tensor:
        """w_face L_face + w_style L_style, a scalar; 0 where nothing can be judged."""
        total = denoised.regression.new_zeros(())
        for network in (self.recogniser, self.perceptual):
            if network is not None:
                network.to(total.device)
        for name, loss in self.losses(Judged.of(denoised)).items():
            capped, share = with_gradient_share(loss, denoised.regression, denoised.prediction, self.config.gradient_share)
            if share is not None:
                self.shares.setdefault(name, []).append(share)
            total = total + capped
        return total

    def losses(self, judged: Judged) -> dict[str, Tensor]:
        """The weighted losses that have something to judge."""
        found: dict[str, Tensor] = {}
        if self.recogniser is not None and self.config.face and (faces := list(self._faces(judged, self.recogniser))):
            found["face"] = self.config.face * torch.stack(faces).mean()
        if self.perceptual is not None and self.config.style and (styles := list(self._styles(judged, self.perceptual))):
            found["style"] = self.config.style * torch.stack(styles).mean()
        return found

    def _faces(self, judged: Judged, recogniser: nn.Module) -> Iterator[Tensor]:
        """Eq. 1 of each judged face: t < t_max, found in target and reference, large enough, and inside the image."""
        warps, found = needed(judged.signals, "face_warps", "face_found", by=_NAME)
        own_warps, own_found = needed(judged.reference_signals, "face_warps", "face_found", by=_NAME)
        height, width = judged.latents.shape[-2:]
        boxes = [template_box(warp, (height * judged.scale, width * judged.scale)) for warp in warps]
        both = found & own_found & torch.tensor([box is not None for box in boxes], device=found.device)
        seen = judgeable_faces(judged.timesteps, warps, both, self.config.t_max, self.config.least_face_px)
        for row in seen.nonzero().flatten().tolist():
            with torch.no_grad():
                reference = recogniser(aligned_faces(judged.reference_image[row : row + 1], own_warps[row : row + 1]))
            image, crop = self._decoded(judged, row, boxes[row])
            moved = crop_warps(warps[row : row + 1], crop, judged.scale)
            yield identity_loss(recogniser, image, moved, reference, seen[row : row + 1], self.config.l2_weight, self.config.l2_on)

    def _styles(self, judged: Judged, perceptual: Vgg19) -> Iterator[Tensor]:
        """Eq. 3 of each sample with t < t_max whose region is seen in target and reference."""
        size = (judged.reference_image.shape[-2], judged.reference_image.shape[-1])
        masks, own = (
            region_masks(signals, self.config.region, judged.reference_image) for signals in (judged.signals, judged.reference_signals)
        )
        seen = (judged.timesteps < self.config.t_max) & (masks.flatten(1).sum(1) > 0) & (own.flatten(1).sum(1) > 0)
        for row in seen.nonzero().flatten().tolist():
            image, (x1, y1, x2, y2) = self._decoded(judged, row, mask_box(masks[row]))
            s = judged.scale
            theirs = latent_crop(mask_box(own[row]), s, (size[0] // s, size[1] // s), self.config.crop_margin)
            reference = _cut(judged.reference_image[row : row + 1], theirs, s)
            mask, own_mask = masks[row : row + 1, :, y1 * s : y2 * s, x1 * s : x2 * s], _cut(own[row : row + 1], theirs, s)
            zoom = min(1.0, self.config.body_px / max(*image.shape[-2:], *reference.shape[-2:]))  # one for both: textures keep their scale
            generated, goal, here, there = (_zoomed(each, zoom) for each in (image, reference, mask, own_mask))
            yield style_loss(perceptual, goal, generated, *((None, None) if self.config.region == "full" else (there, here)))[0]

    def _decoded(self, judged: Judged, row: int, box: FullBox | None) -> tuple[Tensor, Crop]:
        """The decoded crop [1, 3, H', W'] around a box, and where it lies."""
        assert box is not None
        height, width = judged.latents.shape[-2:]
        crop = latent_crop(box, judged.scale, (height, width), self.config.crop_margin)
        return decode_in_chunks(lambda latents: decode_crop(self.decode, latents, crop), judged.latents[row : row + 1]), crop


def with_gradient_share(loss: Tensor, main: Tensor, at: Tensor, most: float) -> tuple[Tensor, float | None]:
    """(loss with its value, but a gradient at `at` whose norm is at most `most` times that of `main`'s; the ratio before that).

    Both norms are over the numbers that the loss pulls at: a face is one part in a hundred of a picture, and what is little of the
    whole gradient would be most of the face's.
    Without gradients (probes): the loss itself and None. The decoder's backward pass runs here, once: the loss that is returned knows `at` alone.
    """
    if not (torch.is_grad_enabled() and at.requires_grad and loss.requires_grad):
        return loss, None
    (own,) = torch.autograd.grad(loss, at, retain_graph=True)  # other losses share the way from `at` to the one-step x0
    (base,) = torch.autograd.grad(main, at, retain_graph=True)
    ratio = float(own.norm() / base[own != 0].norm().clamp(min=1e-12))
    pull = (at * own * min(1.0, most / max(ratio, 1e-12))).sum()
    return loss.detach() + pull - pull.detach(), ratio


def template_box(warp: Tensor, size: tuple[int, int]) -> FullBox | None:
    """What the recogniser looks at: the box around its 112 x 112 template in the image (height, width); None where that is outside."""
    corners = warp.new_tensor([[0, 0], [CROP, 0], [0, CROP], [CROP, CROP]])
    places = (corners - warp[:, 2]) @ torch.linalg.inv(warp[:, :2]).T
    (x1, y1), (x2, y2) = places.amin(dim=0).tolist(), places.amax(dim=0).tolist()
    x1, y1, x2, y2 = max(x1, 0.0), max(y1, 0.0), min(x2, float(size[1])), min(y2, float(size[0]))
    return (x1, y1, x2, y2) if x2 > x1 and y2 > y1 else None


def region_masks(signals: Signals, region: Region, images: Tensor) -> Tensor:
    """[N, 1, H, W] where style is compared in N images of that size: everywhere, on the body, or on the body without face and hands."""
    size = (images.shape[-2], images.shape[-1])
    if region == "full":
        return images.new_ones(len(images), 1, *size)
    (body,) = needed(signals, "body_mask", by=_NAME)
    if region == "person":
        return body
    faces, hands = (box_masks(boxes, size) for boxes in needed(signals, "face_boxes", "hand_boxes", by=_NAME))
    return clothing_region(body, faces, hands)


def mask_box(mask: Tensor) -> FullBox:
    """Box of the pixels of [1, H, W] that are above 0."""
    rows, columns = ((mask[0] > 0).any(dim=axis).nonzero().flatten() for axis in (1, 0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _cut(images: Tensor, crop: Crop, scale: int) -> Tensor:
    x1, y1, x2, y2 = (value * scale for value in crop)
    return images[:, :, y1:y2, x1:x2]


def _zoomed(images: Tensor, zoom: float) -> Tensor:
    if zoom == 1.0:
        return images
    size = [max(1, round(side * zoom)) for side in images.shape[-2:]]
    return F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
