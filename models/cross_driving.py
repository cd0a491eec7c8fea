"""One person moved by another: who follows whom, and the driver's signals on the person's canvas."""

# T = frames of the driving clip, N = frames that are followed

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from models.clip_signals import ClipSignals, FaceSignals, fit_signals
from models.fitting import Box, Points
from models.motion_blur_map import HandSignals
from models.signals import SignalName, Signals
from pipelines.clip import Clip
from pipelines.errors import UserError
from pipelines.extractors.face_embedding import similarity_warp
from pipelines.extractors.hands import hand_box, hand_movement
from pipelines.keypoints import BODY, FACE, VISIBLE

LONG_CLIP_BYTES = 8 << 20
"""Fitted pictures of a driving clip's signal are in memory up to this, beyond it in a temporary file: they are read a window at a time."""

OF_MOTION: tuple[SignalName, ...] = ("hands", "densepose", "actions")  # what is read of a driver who is somebody else

_FACE_MARGIN = 1.2  # of the 68 points' box, as HIA's face mask has it
_RIGHT_EYE, _LEFT_EYE, _NOSE, _MOUTH = slice(36, 42), slice(42, 48), 30, (48, 54)  # of the 68 iBUG points
_IDENTITY = np.array([[1, 0, 0], [0, 1, 0]], np.float32)


def cross_pairs(clips: Sequence[Clip]) -> list[tuple[Clip, Clip]]:
    """(reference clip, driving clip) for every clip: the next one in the order of ids, going round, that shows somebody else.

    Who is not named counts as another person in every video. Raises UserError where all clips show one person.
    """
    ordered = sorted(clips, key=lambda clip: clip.clip_id)
    pairs = []
    for place, clip in enumerate(ordered):
        others = [*ordered[place + 1 :], *ordered[:place]]
        driver = next((other for other in others if _person(other) != _person(clip)), None)
        if driver is None:
            raise UserError(
                f"clip {clip.clip_id}: no held-out clip shows anybody else than {_person(clip)}, so nobody can drive it; "
                "cross-identity driving needs held-out clips of two people"
            )
        pairs.append((clip, driver))
    return pairs


def _person(clip: Clip) -> str:
    return clip.subject or f"video {clip.video_id}"


def without_retargeting(animator: Any) -> bool:
    """Turn the animator's own retargeting off, for the poses come retargeted; whether it had any."""
    sampling: Any = getattr(getattr(animator, "config", None), "sampling", None)
    if not hasattr(sampling, "retarget"):
        return False
    animator.config = replace(animator.config, sampling=replace(sampling, retarget="none"))
    return True


# --- signals on the canvas -------------------------------------------------------------------------------------------


def retargeted_signals(
    signals: ClipSignals,
    frames: Sequence[int],
    source: Points,
    followed: Points,
    scores: Points,
    size: tuple[int, int],
    *,
    faces: bool,
    step: float = 1.0,
) -> Signals:
    """The driver's signals of N frames where `followed` [N, 133, 2] puts the driver on a canvas of `size` (height, width).

    signals: those of OF_MOTION. source [N, 133, 2]: the same points in the driving video; scores [N, 133]; step: native frames from
    one followed frame to the next. Hands and, if wanted, faces are measured on the followed points (HIA's movement, StableAnimator's
    boxes); sharpness stays that of the driving video. Rasters take the one scale and offset that fit the points best, so proportions
    stay the driver's there. Raises ValueError where no body point is visible.
    """
    rasters = fit_signals(replace(signals, hands=None), _seen_box(source, followed, scores, size), size, frames, in_memory=LONG_CLIP_BYTES)
    found: dict[str, Any] = {}
    if signals.hands is not None:
        found["hands"] = _hands(signals.hands.sharpness[list(frames)], followed, scores, size, step)
    if faces:
        found["faces"] = _faces(followed[:, FACE], scores[:, FACE])
    measured = ClipSignals(frames=len(followed), fps=signals.fps, sharpness_p99=signals.sharpness_p99, **found)
    canvas = fit_signals(measured, (0.0, 0.0, size[1], size[0]), size, in_memory=LONG_CLIP_BYTES)
    return replace(
        rasters, blur=canvas.blur, hand_boxes=canvas.hand_boxes, face_boxes=canvas.face_boxes, face_warps=canvas.face_warps,
        face_found=canvas.face_found,
    )  # fmt: skip


def _seen_box(source: Points, followed: Points, scores: Points, size: tuple[int, int]) -> Box:
    """The part of the driving video that the canvas shows, for followed ~ scale * source + offset over visible body points."""
    seen = scores[:, BODY] > VISIBLE
    before, after = source[:, BODY][seen].astype(np.float64), followed[:, BODY][seen].astype(np.float64)
    if not len(before):
        raise ValueError("no body joint is visible in the driving clip")
    centred = before - before.mean(axis=0)
    spread = float((centred**2).sum())
    scale = float((centred * (after - after.mean(axis=0))).sum()) / spread if spread > 0 else 1.0
    scale = scale if scale > 0 else 1.0
    corner = before.mean(axis=0) - after.mean(axis=0) / scale
    return (float(corner[0]), float(corner[1]), size[1] / scale, size[0] / scale)


def _hands(sharpness: Points, followed: Points, scores: Points, size: tuple[int, int], step: float) -> HandSignals:
    height, width = size
    count = len(followed)
    boxes, valid, movement = np.zeros((count, 2, 4), np.float32), np.zeros((count, 2), bool), np.zeros((count, 2, 2), np.float32)
    for t in range(count):
        for hand in range(2):
            box, moved = hand_box(followed[t], scores[t], hand, width, height), hand_movement(followed, scores, hand, t)
            if box is not None:
                boxes[t, hand], valid[t, hand] = box, True
            if moved is not None:
                movement[t, hand] = np.asarray(moved, np.float32) / step
    return HandSignals(boxes=boxes, valid=valid, movement=movement, sharpness=sharpness)


def _faces(points: Points, scores: Points) -> FaceSignals:
    """From the 68 landmarks [N, 68, 2]: box of the visible ones, enlarged, and the warp by eyes, nose and corners of the mouth."""
    count = len(points)
    boxes, warps, found = np.zeros((count, 4), np.float32), np.tile(_IDENTITY, (count, 1, 1)), np.zeros(count, bool)
    for t in range(count):
        five, visible = five_points(points[t]), points[t][scores[t] > VISIBLE]
        if not (scores[t, [36, 45, _NOSE, *_MOUTH]] > VISIBLE).all() or not np.ptp(five, axis=0).all():
            continue
        low, high = visible.min(axis=0), visible.max(axis=0)
        centre, half = (low + high) / 2, (high - low) / 2 * _FACE_MARGIN
        boxes[t], warps[t], found[t] = [*(centre - half), *(centre + half)], similarity_warp(five), True
    return FaceSignals(boxes=boxes, warps=warps, found=found, embeddings=np.zeros((count, 0), np.float32))


def five_points(face: Points) -> Points:
    """[68, 2] iBUG points -> [5, 2] in the order of ArcFace's template; the person's right eye comes first, it is left in the image."""
    return np.stack([face[_RIGHT_EYE].mean(axis=0), face[_LEFT_EYE].mean(axis=0), face[_NOSE], face[_MOUTH[0]], face[_MOUTH[1]]])
