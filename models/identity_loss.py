"""Identity losses over aligned faces: HFCA Eq. 1, HIA Eq. 2."""

# N = faces, D = numbers of an embedding

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.face_warp import aligned_faces

L2On = Literal["raw", "unit"]


def identity_distance(reference: Tensor, generated: Tensor, l2_weight: float = 0.0, l2_on: L2On = "raw") -> Tensor:
    """[N] 1 - cos(f_ref, f_gen) + lambda |f_ref - f_gen|^2 (HFCA Eq. 1; lambda = 0 is HIA Eq. 2), of raw embeddings [N, D].

    The paper gives no lambda. On unit vectors the second term is 2 (1 - cos), nothing new (`unit`, .1); on raw ones, whose
    norm is about 20, it is hundreds (`raw`, 1e-3).
    """
    cosine = F.cosine_similarity(reference, generated, dim=-1)
    ends = (reference, generated) if l2_on == "raw" else (F.normalize(reference, dim=-1), F.normalize(generated, dim=-1))
    return 1 - cosine + l2_weight * (ends[0] - ends[1]).square().sum(dim=-1)


def judgeable_faces(timesteps: Tensor, warps: Tensor, found: Tensor, t_max: int, least_px: float = 48.0) -> Tensor:
    """[N] bool: faces that the recogniser can judge: t < t_max (a one-step x0 is too blurred above), found in both images, and not tiny.

    found: [N] bool. warps: [N, 2, 3]; a face of the template is 112 px, so its side in the image is 112 over the warp's scale.
    """
    scale = torch.linalg.det(warps[:, :, :2]).abs().sqrt().clamp(min=1e-8)
    return (timesteps < t_max) & found & (112 / scale >= least_px)


def identity_loss(
    recogniser: nn.Module,
    images: Tensor,
    warps: Tensor,
    reference: Tensor,
    judged: Tensor,
    l2_weight: float = 0.0,
    l2_on: L2On = "raw",
) -> Tensor:
    """Mean distance of the judged faces, a scalar; 0 (still joined to `images`) where there is none.

    images [N, 3, H, W] decoded x0, about [-1, 1] and not clamped (clamping would end gradients); warps [N, 2, 3] of the target frames;
    reference [N, D] raw embeddings of the reference image by the same recogniser; judged [N] bool.
    """
    if not judged.any():
        return images.sum() * 0.0
    embeddings = recogniser(aligned_faces(images[judged], warps[judged]))
    return identity_distance(reference[judged], embeddings, l2_weight, l2_on).mean()
