"""Left and right exchanged: pictures, keypoints and signals as if the video had been filmed in a mirror. Twice is the identity.

DensePose's surface coordinates are not symmetric: which U and V a point has in a mirror is a table that DensePose publishes
(UV_symmetry_transforms.mat, role densepose_symmetry), needed for real people and not shipped. Swapping the parts alone, which is known without
it, would show surfaces that no image has, so without the file a flip is refused. Of the drawn people the mirror is known exactly.
"""

# N = frames, H W = height and width of the fitted image

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.clip_signals import ClipSignals
from models.fitting import Points
from models.signals import Signals
from pipelines.errors import UserError
from pipelines.extractors.face_embedding import TEMPLATE
from pipelines.keypoints import MIRROR
from pipelines.weights import digest_of, find_weights, weights_at_hand

# Parts of the drawn people's IUV that a mirror exchanges; their head is back and front, where DensePose's is right and left.
# A skirt's back and front are drawn as right and left thigh (9, 10), so a mirror exchanges these as well: its one flaw.
_DRAWN_PARTS = (0, 1, 2, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15, 18, 17, 20, 19, 22, 21, 23, 24)
# DensePose's own (point label symmetries of detectron2's DensePose): torso back and front stay, all else has a side.
_REAL_PARTS = (0, 1, 2, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15, 18, 17, 20, 19, 22, 21, 24, 23)
_PARTS = 24
_SYMMETRY = "densepose_symmetry"
_TABLES = ("U_transforms", "V_transforms")
_LEVELS = 256  # of U and V
_AXIS = 2 * float(TEMPLATE[:, 0].mean())  # x and _AXIS - x are mirror images in an aligned face


def require_mirrorable(signals: ClipSignals, clip_id: str) -> None:
    """UserError for DensePose of real people where the table of its mirror images is not at hand."""
    if signals.densepose is not None and not signals.drawn_charts and weights_at_hand(_SYMMETRY) is None:
        raise UserError(
            f"clip {clip_id}: a stage with flip cannot use DensePose of real people without the table of its U and V in a mirror: put "
            f"UV_symmetry_transforms.mat into the folder $ROTOSCOPE_WEIGHTS/{_SYMMETRY} and export ROTOSCOPE_ACCEPT_TERMS={_SYMMETRY} (it is in "
            "densepose_uv_data.tar.gz of DensePose, for non-commercial use); or set flip=0 in that stage, or leave densepose out of the pose channels"
        )


def mirrored_points(points: Points, scores: Points, width: int) -> tuple[Points, Points]:
    """[..., 133, 2] and [..., 133] of the mirrored image: x to width - 1 - x, and the person's left is the right."""
    turned = points[..., MIRROR, :].copy()
    turned[..., 0] = width - 1 - turned[..., 0]
    return turned, scores[..., MIRROR]


def mirrored_signals(signals: Signals, width: int, *, drawn_charts: bool = True) -> Signals:
    """Signals of the mirrored image. drawn_charts: densepose is of drawn people; of real ones the table must be at hand (`require_mirrorable`),
    and as its entries are rounded to 1 / 255, twice is the identity within that only.

    Embeddings, clothing, actions and caption stay: what they say does not depend on the side.
    """
    return replace(
        signals,
        blur=None if signals.blur is None else _blur(signals.blur),
        hand_boxes=None if signals.hand_boxes is None else _boxes(signals.hand_boxes, width).flip(1),
        face_boxes=None if signals.face_boxes is None else _boxes(signals.face_boxes, width),
        face_warps=None if signals.face_warps is None else _warps(signals.face_warps, signals.face_found, width),
        body_mask=None if signals.body_mask is None else signals.body_mask.flip(-1),
        densepose=None if signals.densepose is None else _densepose(signals.densepose, drawn=drawn_charts),
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


def _densepose(image: Tensor, *, drawn: bool) -> Tensor:
    """[N, 3, H, W] I / 24, U, V. Drawn people: parts exchanged, U (the sine around a limb) reversed, V (along it) as it was. Real ones: U and V
    of the published table, U' = T_U[part, V, U] and V' = T_V[part, V, U] of the part before it is exchanged.
    """
    turned = image.flip(-1)
    part = (turned[:, 0] * _PARTS).round().long()
    person = part > 0
    swapped = torch.tensor(_DRAWN_PARTS if drawn else _REAL_PARTS, device=image.device)[part]
    if drawn:
        u, v = 1 - turned[:, 1], turned[:, 2]
    else:
        tables = symmetry_tables(find_weights(_SYMMETRY)).to(image)
        levels = (turned[:, 1:] * (_LEVELS - 1)).round().long()
        u, v = tables[:, part.clamp(min=1) - 1, levels[:, 1], levels[:, 0]]
    return torch.stack([swapped.to(image) / _PARTS, torch.where(person, u, turned[:, 1]), torch.where(person, v, turned[:, 2])], dim=1)


def symmetry_tables(path: Path) -> Tensor:
    """[2, 24, 256, 256]: U and V in [0, 1] of a point's mirror image, by its part, its V and its U (0..255). Raises UserError."""
    return _read_tables(path, digest_of(path))


@lru_cache(maxsize=1)
def _read_tables(path: Path, digest: str) -> Tensor:  # the digest is part of the cache's key
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        held = loadmat(path)
        tables = np.stack([np.stack([np.asarray(held[name][0, part], np.float32) for part in range(_PARTS)]) for name in _TABLES])
    except (OSError, ValueError, KeyError, IndexError, TypeError, NotImplementedError, MatReadError) as error:
        raise UserError(f"{path} is not DensePose's UV_symmetry_transforms.mat ({error}); fetch it again") from None
    if tables.shape != (2, _PARTS, _LEVELS, _LEVELS) or not ((tables >= 0) & (tables <= 1)).all():
        raise UserError(f"{path} holds tables of {tables.shape}, expected {(2, _PARTS, _LEVELS, _LEVELS)} in 0..1; fetch it again")
    return torch.from_numpy(tables)
