"""A sequence of poses as a few numbers: what class of action it is like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipelines.keypoints import BODY, VISIBLE, Points, Scores

_JOINTS = 17  # of the body
DESCRIPTOR = 3 * 2 * _JOINTS
"""Numbers of a descriptor: mean place, spread and mean speed of each joint, x and y."""

_SHOULDERS, _HIPS = (5, 6), (11, 12)


def pose_descriptor(points: Points, scores: Scores) -> Tensor:
    """[DESCRIPTOR] of [T, 133, 2] px and [T, 133]: places relative to the hips in torso lengths, joints that are not seen left out.

    A joint that is never seen, or whose torso is not, is all 0.
    """
    body, seen = points[:, BODY].astype(np.float64), scores[:, BODY] > VISIBLE
    hips, shoulders = (body[:, list(pair)].mean(axis=1) for pair in (_HIPS, _SHOULDERS))
    torso = np.linalg.norm(shoulders - hips, axis=-1)
    upright = seen[:, [*_SHOULDERS, *_HIPS]].all(axis=1) & (torso > 1e-6)
    if not upright.any():
        return torch.zeros(DESCRIPTOR)
    places = np.where((seen & upright[:, None])[..., None], (body - hips[:, None]) / np.median(torso[upright]), np.nan)
    steps = np.abs(np.diff(places, axis=0))
    numbers = np.concatenate([_over_time(places, np.nanmean), _over_time(places, np.nanstd), _over_time(steps, np.nanmean)])
    return torch.from_numpy(numbers).float()


def _over_time(values: npt.NDArray[np.float64], statistic: Callable[..., Any]) -> npt.NDArray[np.float64]:
    """[34] a statistic over the frames of [T, 17, 2] in which a joint is known; 0 where it never is."""
    known = ~np.isnan(values).all(axis=0) if len(values) else np.zeros(values.shape[1:], bool)
    found = np.zeros(values.shape[1:])
    found[known] = statistic(values[:, known], axis=0)
    return found.ravel()
