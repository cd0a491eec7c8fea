"""Faces as a recogniser gets them: warped onto ArcFace's template from frames in which they are small, with a detector's inaccuracy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from models.tiny.degradation import degraded
from models.tiny.face_detector import seen_share
from models.tiny.people import UNSEEN_IDENTITIES, Casting, cast, draw
from pipelines.clip import Frames
from pipelines.extractors.face_embedding import CROP, align, similarity_warp

# Telling strangers apart takes many people: twice as many as the other networks see, and nobody of the other ranges.
MANY_IDENTITIES = range(2000, 2320)

_TRUTH = ("scores", "face_box", "face_points")
_LEAST_SEEN = 0.6  # share of the inner face's landmarks
_MARGIN = 1.2  # face sizes around the face that are kept of a frame


@dataclass(frozen=True, slots=True)
class Face:
    """A part of a frame about a face [h, w, 3], the five points [5, 2] in its px, who it is, and which clip it is from."""

    patch: Frames
    points: npt.NDArray[np.float32]
    person: int
    clip: int


def castings(identities: range) -> tuple[Casting, ...]:
    """The demo's size, and twice that."""
    return (
        cast(identities, clips=4, frames=7, every=3, truth=_TRUTH),
        cast(identities, clips=1, frames=4, every=3, size=256, truth=_TRUTH),
    )


def faces_of(casting: Casting, cache: Path) -> list[Face]:
    """Every face of a casting that can be seen."""
    people = draw(casting, cache)
    found = np.flatnonzero(seen_share(np.asarray(people.truth["scores"])) >= _LEAST_SEEN)
    return [
        _cut(people.frames[i], people.truth["face_box"][i], people.truth["face_points"][i], int(people.identity[i]), int(people.clip[i]))
        for i in found
    ]


def many_faces(cache: Path) -> list[Face]:
    """What the recognisers learn from."""
    return [face for casting in castings(MANY_IDENTITIES) for face in faces_of(casting, cache)]


def unseen_faces(cache: Path) -> list[Face]:
    """What they are measured on: unseen people at the demo's size, six clips of each."""
    return faces_of(cast(UNSEEN_IDENTITIES, clips=6, frames=7, every=3, truth=_TRUTH), cache)


def _cut(frame: Frames, box: npt.NDArray[np.float32], points: npt.NDArray[np.float32], person: int, clip: int) -> Face:
    reach = _MARGIN * float((box[2:] - box[:2]).max())
    low = np.clip(np.floor(box[:2] - reach), 0, frame.shape[0]).astype(int)
    high = np.clip(np.ceil(box[2:] + reach), 0, frame.shape[0]).astype(int)
    return Face(np.array(frame[low[1] : high[1], low[0] : high[0]]), (points - low).astype(np.float32), person, clip)


def training_crop(face: Face, rng: np.random.Generator) -> Frames:
    """[112, 112, 3] with augmentation: lower resolution, degradation, inaccurate points, mirrored."""
    patch, points = face.patch, face.points
    size = float(np.ptp(points, axis=0).max()) * 2.2  # about the height of the face
    factor = rng.uniform(max(10 / size, 0.4), 1.0) if rng.random() < 0.5 and size > 10 else 1.0
    if factor < 1:
        small = max(int(patch.shape[1] * factor), 4), max(int(patch.shape[0] * factor), 4)
        points = (points + 0.5) * (np.array(small) / patch.shape[1::-1]).astype(np.float32) - 0.5
        patch, size = cv2.resize(patch, small, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False), size * factor
    common, own = rng.normal(0, 0.015, 2), rng.normal(0, 0.02, (5, 2))
    shaken = points + (common + own).astype(np.float32) * size
    crop = align(degraded(patch, rng), similarity_warp(shaken))
    return np.ascontiguousarray(crop[:, ::-1]) if rng.random() < 0.5 else crop


__all__ = ["CROP", "MANY_IDENTITIES", "Face", "castings", "faces_of", "many_faces", "training_crop", "unseen_faces"]
