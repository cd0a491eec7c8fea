"""Regional supervision (Sec. 3.1): face, hands and identity of the one-step x0, compared in pixels where little noise is left."""

# N = images, D = numbers of an embedding, C h w = latent channels, height, width

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.face_warp import aligned_faces
from models.hia.config import T_MAX, Regional
from models.identity_loss import identity_loss, judgeable_faces
from models.lean_decoding import Decode, decode_in_chunks
from models.region_loss import box_masks, masked_mse
from models.signals import Signals, needed

_NAME = "regional supervision"


@dataclass(frozen=True, kw_only=True, slots=True)
class Regions:
    """What the decoded x0 of N frames is compared with."""

    images: Tensor  # [N, 3, H, W] I_tgt in [-1, 1]
    face: Tensor  # [N, 1, H, W] M_face, 1 inside; all 0 where there is no face
    hands: Tensor  # [N, 1, H, W] M_hand: the union of both hands
    warps: Tensor  # [N, 2, 3] pixel of I_tgt -> pixel of the aligned face
    found: Tensor  # [N] bool: a face in the target and in the reference
    reference: Tensor  # [N, D] psi_ref, raw embeddings of the reference image

    def rows(self, chosen: Tensor) -> Regions:
        """Those of some frames; chosen [N] bool."""
        return Regions(**{name: getattr(self, name)[chosen] for name in self.__slots__})


def regions_of(images: Tensor, signals: Signals, reference: Tensor, reference_signals: Signals, recogniser: nn.Module) -> Regions:
    """The regions of N target frames of R references, N / R consecutive ones each.

    images [N, 3, H, W] and reference [R, 3, H, W] in [-1, 1]; signals with hands and faces of both (models/signals.py).
    psi_ref is computed here, by the recogniser that judges the generated face, and not read from a table.
    """
    hand_boxes, face_boxes, warps, found = needed(signals, "hand_boxes", "face_boxes", "face_warps", "face_found", by=_NAME)
    reference_warps, reference_found = needed(reference_signals, "face_warps", "face_found", by=_NAME)
    each, size = len(images) // len(reference), (images.shape[-2], images.shape[-1])
    with torch.no_grad():
        embeddings = recogniser(aligned_faces(reference, reference_warps))
    return Regions(
        images=images,
        face=box_masks(face_boxes, size),
        hands=box_masks(hand_boxes, size),
        warps=warps,
        found=found & reference_found.repeat_interleave(each),
        reference=embeddings.repeat_interleave(each, dim=0),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class RegionalTerms:
    """The three terms before weighting, scalars."""

    face: Tensor  # L_face, Eq. 1
    hands: Tensor  # L_hand, Eq. 1
    cosine: Tensor  # L_cos, Eq. 2

    def weighted(self, weights: Regional) -> Tensor:
        """What is added to the diffusion loss."""
        return weights.face * self.face + weights.hands * self.hands + weights.cosine * self.cosine


class RegionalSupervision:
    """Decodes one-step latents, one image at a time, and compares face, hands and identity (Eq. 1, 2)."""

    def __init__(self, decode: Decode, recogniser: nn.Module, weights: Regional) -> None:
        self.decode, self.recogniser, self.weights = decode, recogniser, weights

    def terms(self, estimate: Tensor, timesteps: Tensor, regions: Regions) -> RegionalTerms:
        """estimate [N, C, h, w] one-step x0 (models/noise.py clean_estimate) of noisy latents at timesteps [N].

        Rows with t > 124 are left out; the term of an empty mask is 0.
        """
        seen = timesteps < T_MAX
        if not seen.any():
            nothing = estimate.sum() * 0.0
            return RegionalTerms(face=nothing, hands=nothing, cosine=nothing)
        images, regions = decode_in_chunks(self.decode, estimate[seen]), regions.rows(seen)
        judged = judgeable_faces(timesteps[seen], regions.warps, regions.found, T_MAX, self.weights.least_face_px)
        return RegionalTerms(
            face=masked_mse(images, regions.images, regions.face).mean(),
            hands=masked_mse(images, regions.images, regions.hands).mean(),
            cosine=identity_loss(self.recogniser, images, regions.warps, regions.reference, judged),
        )

    def __call__(self, estimate: Tensor, timesteps: Tensor, regions: Regions) -> Tensor:
        """The weighted sum, a scalar."""
        return self.terms(estimate, timesteps, regions).weighted(self.weights)
