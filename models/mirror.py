"""Left and right exchanged: pictures, keypoints and signals as if the video had been filmed in a mirror. Twice is the identity."""

# N = frames, H W = height and width of the fitted image

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from models.clip_signals import ClipSignals
from models.fitting import Points
from models.signals import Signals
from pipelines.errors import UserError
from pipelines.extractors.face_embedding import TEMPLATE
from pipelines.keypoints import MIRROR

# Parts of the drawn people's IUV that a mirror exchanges; their head is back and front, where DensePose's is right and left.
# A skirt's back and front are drawn as right and left thigh (9, 10), so a mirror exchanges these as well: its one flaw.
_DRAWN_PARTS = (0, 1, 2, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15, 18, 17, 20, 19, 22, 21, 23, 24)
_PARTS = 24
_AXIS = 2 * float(TEMPLATE[:, 0].mean())  # x and _AXIS - x are mirror images in an aligned face


def require_mirrorable(signals: ClipSignals, clip_id: str) -> None:
    """UserError for DensePose of real people: only for the drawn ones do we know which U and V a point has in a mirror.

    DensePose publishes that as a table of its own (UV_symmetry_transforms.mat), which is not among this project's weights; swapping
    the parts alone would show surfaces that no image has.
    """
    if signals.densepose is not None and not signals.drawn_charts:
        raise UserError(
            f"clip {clip_id}: a stage with flip cannot use DensePose of real people, whose U and V have no known mirror image here; "
            "set flip=0 in that stage, or leave densepose out of the pose channels"
        )


def mirrored_points(points: Points, scores: Points, width: int) -> tuple[Points, Points]:
    """[..., 133, 2] and [..., 133] of the mirrored image: x to width - 1 - x, and the person's left is the right."""
    turned = points[..., MIRROR, :].copy()
    turned[..., 0] = width - 1 - turned[..., 0]
    return turned, scores[..., MIRROR]


def mirrored_signals(signals: Signals, width: int) -> Signals:
    """Signals of the mirrored image. Densepose must be of drawn people (`require_mirrorable`).

    Embeddings, clothing, actions and caption stay: what they say does not depend on the side.
    """
    return replace(
        signals,
        blur=None if signals.blur is None else _blur(signals.blur),
        hand_boxes=None if signals.hand_boxes is None else _boxes(signals.hand_boxes, width).flip(1),
        face_boxes=None if signals.face_boxes is None else _boxes(signals.face_boxes, width),
        face_warps=None if signals.face_warps is None else _warps(signals.face_warps, signals.face_found, width),
        body_mask=None if signals.body_mask is None else signals.body_mask.flip(-1),
        densepose=None if signals.densepose is None else _densepose(signals.densepose),
    )


def _blur(blur: Tensor) -> Tensor:
    """The map mirrored; movement along x changes its sign, which is 1 - x, where there is a hand."""
    turned = blur.flip(-1)
    hand = (turned > 0).any(dim=1)
    turned[:, 0] = torch.where(hand, 1 - turned[:, 0], turned[:, 0])
    return turned


def _boxes(boxes: Tensor, width: int) -> Tensor:
    """[..., 4] x1 y1 x2 y2 (edges); boxes that are all zero stay."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    turned = torch.stack([width - x2, y1, width - x1, y2], dim=-1)
    return torch.where((boxes != 0).any(dim=-1, keepdim=True), turned, boxes)


def _warps(warps: Tensor, found: Tensor | None, width: int) -> Tensor:
    """[N, 2, 3] to the mirrored crop: with x = width - 1 - x', first the image is turned back, then the crop is turned."""
    turned = warps.clone()
    turned[..., 2] += warps[..., 0] * (width - 1)
    turned[..., 0] = -warps[..., 0]
    turned[..., 0, :] = -turned[..., 0, :]
    turned[..., 0, 2] += _AXIS
    return turned if found is None else torch.where(found[:, None, None], turned, warps)


def _densepose(image: Tensor) -> Tensor:
    """[N, 3, H, W] I / 24, U, V of drawn people: parts exchanged, U (the sine around a limb) reversed, V (along it) as it was."""
    turned = image.flip(-1)
    part = (turned[:, 0] * _PARTS).round().long()
    swapped = torch.tensor(_DRAWN_PARTS, device=image.device)[part]
    person = part > 0
    u = torch.where(person, 1 - turned[:, 1], turned[:, 1])
    return torch.stack([swapped.to(image) / _PARTS, u, turned[:, 2]], dim=1)
