"""Identity leaks: faces of one split that are also in another, by the mean face embedding of each clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# N = clips, D = embedding's size
Floats = npt.NDArray[np.float32]

_BLOCK = 4096  # clips of either side compared at a time: 64 MB of similarities


@dataclass(frozen=True, slots=True)
class Leak:
    """The clip of another split whose face is most similar, and the cosine in -1..1."""

    clip_id: str
    similarity: float


def mean_face(embeddings: Sequence[Sequence[float] | None]) -> Floats | None:
    """[D] unit vector: the mean of the unit embeddings of a clip's frames. None without any, or where they cancel out."""
    held = [embedding for embedding in embeddings if embedding is not None and len(embedding)]
    if not held:
        return None
    rows = np.asarray(held, np.float64)
    norms = np.linalg.norm(rows, axis=1)
    rows = rows[norms > 0] / norms[norms > 0, None]
    mean = rows.mean(axis=0) if len(rows) else np.zeros(1)
    length = float(np.linalg.norm(mean))
    return (mean / length).astype(np.float32) if length > 1e-6 else None


def leaks_between(faces: Mapping[str, Floats], splits: Mapping[str, str | None]) -> dict[str, Leak]:
    """Clip id -> the most similar clip of another split, for every clip with a face in a data set with several splits.

    faces: clip id -> unit embedding, all of one size; splits: clip id -> split (clips without one take no part). Within a
    split the same person may appear as often as they like. Memory: one block of 4096 x 4096 besides the faces.
    """
    ids = sorted(clip for clip in faces if splits.get(clip) is not None)
    names = sorted({str(splits[clip]) for clip in ids})
    members = {name: [clip for clip in ids if splits[clip] == name] for name in names}
    found: dict[str, Leak] = {}
    for name in names:
        others = [clip for clip in ids if splits[clip] != name]
        if others:
            found |= _nearest(members[name], others, faces)
    return found


def _nearest(clips: Sequence[str], others: Sequence[str], faces: Mapping[str, Floats]) -> dict[str, Leak]:
    found: dict[str, Leak] = {}
    for start in range(0, len(clips), _BLOCK):
        part = clips[start : start + _BLOCK]
        queries = np.stack([faces[clip] for clip in part])
        best, where = np.full(len(part), -np.inf, np.float32), np.zeros(len(part), np.int64)
        for offset in range(0, len(others), _BLOCK):
            keys = np.stack([faces[clip] for clip in others[offset : offset + _BLOCK]])
            cosines = queries @ keys.T
            column = cosines.argmax(axis=1)
            value = cosines[np.arange(len(part)), column]
            better = value > best  # the first of equal ones stays, whatever the block
            best, where = np.where(better, value, best), np.where(better, column + offset, where)
        found |= {clip: Leak(others[i], float(np.clip(value, -1, 1))) for clip, i, value in zip(part, where.tolist(), best, strict=True)}
    return found
