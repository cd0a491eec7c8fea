"""Whose signals these are: where a picture shows several people, everything that a method is given must be of one of them.

The rule: the subject of a clip is the person whose poses are followed. Pose extractors take the track with the largest mean body score over the
clip (or know one person only); detectors of faces, masks, surfaces and clothes do not see scores and take the largest person. Where the two
differ, the signal is of somebody else and is not used.
"""

# T = frames, n = people of a frame

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from models.clip_signals import ClipSignals, FaceSignals, PackedFrames
from models.fitting import Points
from models.signals import SignalName
from pipelines.boxes import Floats, People, iou
from pipelines.extractors.person_box import largest_track
from pipelines.keypoints import BODY, VISIBLE

LEAST_SHARE = 0.3  # of the joints on a mask, of the frames on a face: below it, it is of somebody else
_NOSE = 0
_MARGIN = 0.5  # of the face box's sides, around it
_SAMPLED = 8  # frames of a clip whose rasters are looked at


def share_of_faces(faces: FaceSignals, points: Points, scores: Points) -> float | None:
    """Of the frames with a face and a visible nose, in how many the nose of [T, 133, 2] is in the face's box; None where there is no such frame."""
    seen = faces.found & (scores[:, _NOSE] > VISIBLE)
    if not seen.any():
        return None
    nose, boxes = points[seen, _NOSE], faces.boxes[seen]
    around = (boxes[:, 2:] - boxes[:, :2]) * _MARGIN
    inside = (nose >= boxes[:, :2] - around) & (nose <= boxes[:, 2:] + around)
    return float(inside.all(axis=1).mean())


def share_on_mask(frames: PackedFrames, points: Points, scores: Points) -> float | None:
    """Of the visible body joints of [T, 133, 2], how many lie on what is not zero in [H, W] or [H, W, 3] (its first channel); None where
    nothing of either is seen. A few frames, evenly spread, are looked at.
    """
    chosen = sorted({int((i + 0.5) * len(frames) / _SAMPLED) for i in range(_SAMPLED)})
    shares = []
    for t, raster in zip(chosen, frames.rows(chosen), strict=True):
        shown = _shown(raster)
        joints = points[t, BODY][scores[t, BODY] > VISIBLE].round().astype(int)
        height, width = shown.shape
        joints = joints[((joints >= 0) & (joints < (width, height))).all(axis=1)]
        if shown.any() and len(joints):
            shares.append(float(shown[joints[:, 1], joints[:, 0]].mean()))
    return float(np.mean(shares)) if shares else None


def _shown(raster: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Soft masks hold the person from the middle grey on, IUV wherever there is a part."""
    shown: npt.NDArray[np.bool_] = raster[..., 0] > 0 if raster.ndim == 3 else raster >= 128
    return shown


def share_of_largest(people: Sequence[People], points: Points, scores: Points) -> float | None:
    """Of the frames that show the largest track and the pose, in how many its box is the one that fits the joints of [T, 133, 2] best (IoU);
    None where there is no such frame.
    """
    number, fits = largest_track(list(people)), []
    for t, frame in enumerate(people):
        joints = points[t, BODY][scores[t, BODY] > VISIBLE]
        if len(joints) > 1 and (frame.tracks == number).any():
            box = np.concatenate([joints.min(axis=0), joints.max(axis=0)])[None].astype(np.float32)
            fits.append(frame.tracks[int(iou(frame.boxes, box)[:, 0].argmax())] == number)
    return float(np.mean(fits)) if fits else None


def shares_of(signals: ClipSignals, pose: tuple[Points, Points]) -> dict[SignalName, float | None]:
    """By signal that has a place: how much of it is where the poses [T, 133, 2] and scores [T, 133] of the same T frames are."""
    found: dict[SignalName, float | None] = {}
    if signals.faces is not None:
        found["faces"] = share_of_faces(signals.faces, *pose)
    if signals.body_mask is not None:
        found["body_mask"] = share_on_mask(signals.body_mask, *pose)
    if signals.densepose is not None:
        found["densepose"] = share_on_mask(signals.densepose, *pose)
    return found


def is_somebody_else(share: float | None) -> bool:
    """Whether a share says so; nothing seen says nothing."""
    return share is not None and share < LEAST_SHARE


def people_of(rows: Sequence[dict[str, object]], to_clip: Callable[[Floats], Floats]) -> list[People]:
    """Rows of person_boxes in the order of their frames; to_clip: points [n, 2] of the full frame -> of the clip."""
    made = []
    for row in rows:
        corners = np.asarray(row["boxes"] or [], np.float32).reshape(-1, 2)
        tracks = np.asarray(row["tracks"] or [], np.int32)
        made.append(People(to_clip(corners).reshape(-1, 4).astype(np.float32), np.ones(len(tracks), np.float32), tracks))
    return made
