"""One person moved by another: what can be measured without a true clip. Arithmetic only; eval/cross_score.py has the lake.

CSIM and CLIP-I compare generated frames with the reference image, pose error with the driving pose brought to the reference's person,
and what changes from frame to frame is compared with nothing. Everything else needs the true clip, which does not exist.

T = frames of the driving clip, H W = the protocol's size
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from eval.geometry import centred_crop, resize
from eval.sides import Features, Sides
from pipelines.clip import Frames
from pipelines.retarget import Retarget, retarget

if TYPE_CHECKING:
    from eval.metrics.warping_error import FlowFunction

NO_TRUTH = "driven by another person's clip, so there is no true clip to compare with; see the protocol cross_identity"
OWN_MOTION = "driven by its own clip: this protocol is for clips that another person drives"

Points = npt.NDArray[np.float32]
FeatureFunction = Callable[[str, Frames], npt.NDArray[np.float32]]
"""(role, frames [N, H, W, 3]) -> [N, D]; a NaN row where the network saw nothing."""


def followed_points(
    driving: Points,
    driving_scores: Points,
    reference: Points,
    reference_scores: Points,
    *,
    clip_size: tuple[int, int],
    size: tuple[int, int],
    kind: Retarget = "limb",
) -> npt.NDArray[np.float64]:
    """[T, 133, 3] x px, y px, score: where the generated person should be, in pixels of `size` (height, width).

    driving [T, 133, 2], driving_scores [T, 133] in pixels of the driving clip; reference [133, 2], reference_scores [133] in pixels of
    the reference clip of `clip_size`, of which `size` shows the largest crop in the middle. Raises ValueError where the two share no
    visible joint.
    """
    x, y, width, height = centred_crop(clip_size, size)
    scale = np.array([size[1] / width, size[0] / height])
    # pixel centres lie at .5, as resizing has them
    placed = ((reference - np.array([x, y]) + 0.5) * scale - 0.5).astype(np.float32)
    points = retarget(kind, driving, driving_scores, placed, reference_scores)
    return np.concatenate([points, driving_scores[..., None]], axis=-1).astype(np.float64)


def reference_picture(frame: Frames, size: tuple[int, int]) -> Frames:
    """[1, H, W, 3]: the middle of the reference frame [H', W', 3] at `size`, which is what a method was shown of it."""
    x, y, width, height = (round(side) for side in centred_crop((frame.shape[0], frame.shape[1]), size))
    return resize(np.ascontiguousarray(frame[None, y : y + height, x : x + width]), *size)


def cross_sides(
    prediction: Frames,
    reference: Frames | None,
    followed: npt.NDArray[np.float64] | None,
    features: FeatureFunction,
    flow: Callable[[], FlowFunction] | None = None,
) -> Sides:
    """The sides of a clip without ground truth: metrics that would look at true frames find the reference picture.

    prediction [T, H, W, 3]; reference [1, H, W, 3], or None where nobody says what it was; followed: `followed_points`. Every frame
    counts: none of them was shown to the method. A role is computed when a metric asks for it, once.
    """
    held: dict[tuple[str, str], Features] = {}

    def of(role: str, side: str) -> Features:
        if (role, side) not in held:
            held[role, side] = _features(role, side)
        return held[role, side]

    def _features(role: str, side: str) -> Features:
        if side == "prediction":
            return seen(features(role, prediction))
        if role == "pose":
            return {} if followed is None else {t: points.reshape(-1) for t, points in enumerate(followed)}
        return {} if reference is None else seen(features(role, reference))

    still = np.zeros_like(prediction[:1]) if reference is None else reference
    return Sides(
        prediction=prediction,
        truth=np.broadcast_to(still, prediction.shape),
        counted=list(range(len(prediction))),
        reference_frame=None if reference is None else 0,
        features=of,
        flow=flow,
    )


def seen(rows: npt.NDArray[np.float32]) -> Features:
    """[N, D] -> frame -> [D] float64; empty where a row is NaN: the network saw no face or person."""
    empty = np.empty(0)
    return {i: (row.astype(np.float64) if np.isfinite(row).all() else empty) for i, row in enumerate(rows)}
