"""Faces of every frame: boxes, five points, which one is the subject's, its warp to ArcFace's template, its embedding.

Detectors (scrfd.py, retinaface.py) see the frames at full resolution, and the aligned face is cut from the full frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.boxes import Floats, iou
from pipelines.clip import Clip, Frames
from pipelines.extractors.face_embedding import RECOGNISERS, FaceEmbedder, Recogniser, recogniser_at_hand, similarity_warp
from pipelines.extractors.person_box import PersonBox, digest_of_lines, largest_track
from pipelines.weights import digest_of, find_weights

Rows = dict[str, list[dict[str, Any]]]

_NOSE = 2  # of the five points: eye, eye, nose, corner of the mouth, corner of the mouth


@dataclass(frozen=True, slots=True)
class Faces:
    """Faces of one frame: boxes [n, 4] px, scores [n] in 0..1, points [n, 5, 2] px in the order of ArcFace's template."""

    boxes: Floats
    scores: Floats
    points: Floats

    def by_area(self) -> Faces:
        """The largest face first."""
        order = np.argsort(-np.prod(self.boxes[:, 2:] - self.boxes[:, :2], axis=1), kind="stable")
        return Faces(self.boxes[order], self.scores[order], self.points[order])


@dataclass(frozen=True, kw_only=True, slots=True)
class FaceExtractor:
    """All faces of every frame, and the subject's embedding where a recogniser is at hand.

    open_detector: opens the file of `role` on a device with a number of threads.
    recogniser: role of the one to use; None = the first that is at hand.
    """

    name: str
    role: str
    open_detector: Callable[[Path, str, int], Callable[[Frames], list[Faces]]]
    person: PersonBox = field(default_factory=PersonBox)
    recogniser: str | None = None
    batch_frames: int = 8
    threads: int = 1
    version = 1
    tables = ("faces",)

    def weights_digest(self) -> str:
        """sha256 over the detector, the person detector, the recogniser and the settings that change rows."""
        lines = [digest_of(find_weights(self.role)), self.person.weights_digest()]
        recogniser = _recogniser(self.recogniser)
        if recogniser is not None:
            lines.append(f"{recogniser} {digest_of(find_weights(recogniser.role, download=False))}")
        return digest_of_lines(*lines)

    def load(self, device: str) -> Callable[[Clip, Frames], Rows]:
        """From a clip and its frames to rows."""
        find = self.person.finder(device)
        detect = self.open_detector(find_weights(self.role), device, self.threads)
        embedder = _embedder(_recogniser(self.recogniser), device, self.threads)

        def extract(clip: Clip, frames: Frames) -> Rows:
            people = find(frames, self.batch_frames)
            number, rows = largest_track(people), []
            for start in range(0, len(frames), self.batch_frames):
                part = frames[start : start + self.batch_frames]
                boxes = [person.boxes[person.tracks == number] for person in people[start : start + len(part)]]
                rows += face_rows(part, [faces.by_area() for faces in detect(part)], boxes, embedder)
            return {"faces": rows}

        return extract


def _recogniser(role: str | None) -> Recogniser | None:
    return recogniser_at_hand() if role is None else RECOGNISERS[role]


def _embedder(recogniser: Recogniser | None, device: str, threads: int) -> FaceEmbedder | None:
    if recogniser is None:
        return None
    return FaceEmbedder(find_weights(recogniser.role, download=False), RECOGNISERS[recogniser.role], device, threads)


def subject_face(faces: Faces, person: Floats) -> int:
    """Index of the face whose nose is inside the person's box [0 or 1, 4] and that overlaps it most (IoU), or -1."""
    if not len(faces.boxes) or not len(person):
        return -1
    nose = faces.points[:, _NOSE]
    inside = ((nose >= person[0, :2]) & (nose <= person[0, 2:])).all(axis=1)
    overlap = np.where(inside, iou(faces.boxes, person)[:, 0], -1)
    return int(overlap.argmax()) if inside.any() else -1


def face_rows(frames: Frames, found: Sequence[Faces], people: Sequence[Floats], embedder: FaceEmbedder | None) -> list[dict[str, Any]]:
    """Rows of the table faces for [T, H, W, 3], T frames' faces and the subject's boxes [0 or 1, 4]; T faces share a call."""
    subjects = [subject_face(faces, person) for faces, person in zip(found, people, strict=True)]
    warps = {t: similarity_warp(found[t].points[i]) for t, i in enumerate(subjects) if i >= 0}
    embeddings = {} if embedder is None else embeddings_of(frames, warps, embedder)
    return [_row(faces, subjects[t], warps.get(t), embeddings.get(t), embedder) for t, faces in enumerate(found)]


def embeddings_of(frames: Frames, warps: dict[int, Floats], embedder: FaceEmbedder) -> dict[int, Floats]:
    """Raw embeddings [D] of the frames that have a warp [2, 3], by frame; they share a call."""
    if not warps:
        return {}
    return dict(zip(warps, embedder([frames[t] for t in warps], list(warps.values())), strict=True))


def _row(faces: Faces, subject: int, warp: Floats | None, embedding: Floats | None, embedder: FaceEmbedder | None) -> dict[str, Any]:
    missing = "no recogniser" if embedder is None else "no face"
    return {
        "boxes": faces.boxes.ravel().tolist(),
        "box_scores": faces.scores.tolist(),
        "points": faces.points.ravel().tolist(),
        "subject": subject,
        "warp": None if warp is None else warp.ravel().tolist(),
        "embedding": None if embedding is None else embedding.tolist(),
        "embedding_norm": None if embedding is None else float(np.linalg.norm(embedding)),
        "embedding_reason": None if embedding is not None else "no face" if subject < 0 else missing,
    }
