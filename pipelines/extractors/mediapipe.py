"""Real people without a download: MediaPipe Holistic 0.10.21 (Grishchenko et al. 2020), one person, on a CPU.

Its wheel carries the networks. The weights digest covers them, MediaPipe's version and the face recogniser, if one is
at hand. Known limits: one person only; wrong in profile (the face score falls there); no small toes (score 0).
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.clip import Clip, Frames
from pipelines.errors import ClipError, UserError
from pipelines.extractors.face_embedding import RECOGNISERS, FaceEmbedder, recogniser_at_hand, similarity_warp
from pipelines.extractors.hands import hands_of
from pipelines.keypoints import BODY, FACE, KEYPOINTS, LEFT_HAND, RIGHT_HAND
from pipelines.masks import encode_rle, pack_array
from pipelines.weights import digest_of, find_weights

# T = frames, H W = height, width of the frame
Floats = npt.NDArray[np.float32]
Rows = dict[str, list[dict[str, Any]]]

_NETWORKS = (
    "pose_detection/pose_detection.tflite",
    "pose_landmark/pose_landmark_full.tflite",
    "face_landmark/face_landmark.tflite",
    "face_detection/face_detection_short_range.tflite",
    "hand_landmark/hand_landmark_full.tflite",
    "holistic_landmark/hand_recrop.tflite",
)

# COCO-WholeBody 0-22 <- BlazePose's 33 points; the small toes (18, 21) do not exist there.
_POSE = {0: 0, 1: 2, 2: 5, 3: 7, 4: 8, 5: 11, 6: 12, 7: 13, 8: 14, 9: 15, 10: 16, 11: 23, 12: 24, 13: 25, 14: 26,
         15: 27, 16: 28, 17: 31, 19: 29, 20: 32, 22: 30}  # fmt: skip

# iBUG's 68 face points <- the 468 points of the face mesh; checked by eye on drawn faces.
_IBUG = [
    162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389,  # jaw, from the person's right
    71, 63, 105, 66, 107, 336, 296, 334, 293, 301,  # brows
    168, 197, 5, 4, 75, 97, 2, 326, 305,  # nose
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,  # eyes
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,  # mouth, outside
    78, 82, 13, 312, 308, 317, 14, 87,  # mouth, inside
]  # fmt: skip
_FOREHEAD, _CHIN = 10, 152

# Distance of the eyes' centres over the height of the face, proportional to cos(yaw): 0.33 to 0.41 on ten photographs
# (median 0.36) and 0.34 to 0.47 on four clips of people who look ahead.
_FRONTAL_EYE_RATIO = 0.37
_PROFILE = (0.35, 0.7)  # share of the frontal ratio at which the face scores 0 and 1 (about 70 and 45 degrees)

# On scenes without people Holistic now and then reports a confident person (visibility 0.99) in texture, so a visibility
# threshold does not help; asking for persistence does in part. One shot of 540 frames without people has false persons in
# 9 % of them (refused), but its worst window of 150 frames has 33 %, of 30 frames 57 % (not refused). A real person is in
# only 31 % of another shot, so a higher share would lose people.
_SMALLEST_SHARE = 0.25  # of a clip's frames that must hold a person
_PERSON_VISIBILITY = 0.5  # mean of the five most visible body joints


class MediaPipe:
    """Poses, body masks, faces and hands of the most prominent person."""

    name = "mediapipe"
    version = 1
    tables = ("poses", "body_masks", "faces", "hands")

    def weights_digest(self) -> str:
        """sha256 over the networks in the wheel, MediaPipe's version and the face recogniser."""
        parts = own_networks()
        recogniser = recogniser_at_hand()
        if recogniser is not None:
            parts.append(f"{recogniser} {digest_of(find_weights(recogniser.role, download=False))}")
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def load(self, device: str) -> Callable[[Clip, Frames], Rows]:
        """From a clip and its frames to rows; raises ClipError no_person. Only the recogniser uses `device`."""
        _package()
        recogniser = recogniser_at_hand()
        embedder = None
        if recogniser is not None:
            embedder = FaceEmbedder(find_weights(recogniser.role, download=False), RECOGNISERS[recogniser.role], device)
        return lambda clip, frames: _extract(clip, frames, embedder)


def own_networks() -> list[str]:
    """MediaPipe's version, and name and sha256 of each network in its wheel. UserError without the extra."""
    package = _package()
    modules = Path(package.__file__).parent / "modules"
    return [f"mediapipe {package.__version__}", *(f"{name} {digest_of(modules / name)}" for name in _NETWORKS)]


def skeletons(frames: Frames) -> tuple[Floats, Floats]:
    """Keypoints [T, 133, 2] px and scores [T, 133] of a clip [T, H, W, 3]; zeros where nobody is.

    All zeros where fewer than a quarter of the frames hold a person: then the few are not trusted.
    """
    found = _holistic(frames)
    keypoints, scores = np.stack([p.keypoints for p in found]), np.stack([p.scores for p in found])
    return (keypoints, scores) if _seen_enough(found) else (np.zeros_like(keypoints), np.zeros_like(scores))


def _package() -> Any:
    os.environ.setdefault("GLOG_minloglevel", "3")
    try:
        with _quiet():
            import mediapipe
    except ImportError as error:
        raise UserError(f"the extractor mediapipe needs its extra ({error}); run: pip install -e '.[mediapipe]'") from None
    return mediapipe


@contextmanager
def _quiet() -> Iterator[None]:
    """MediaPipe's graphs write to file descriptor 2 from C++ whatever the log level; protobuf warns of its own use."""
    saved, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(sink)


def _extract(clip: Clip, frames: Frames, embedder: FaceEmbedder | None) -> Rows:
    found = _holistic(frames)
    if not _seen_enough(found):
        cause = f"a person in {sum(person.present for person in found)} of {len(frames)} frames, fewer than {_SMALLEST_SHARE:.0%}"
        raise ClipError("no_person", clip.clip_id, cause, "drop the clip, or use another extractor")
    _, height, width, _ = frames.shape
    keypoints, scores = np.stack([p.keypoints for p in found]), np.stack([p.scores for p in found])
    return {
        "poses": [{"keypoints": k.ravel().tolist(), "scores": s.tolist()} for k, s in zip(keypoints, scores, strict=True)],
        "body_masks": [_mask_row(person.mask) for person in found],
        "faces": [_face_row(image, person, embedder) for image, person in zip(frames, found, strict=True)],
        "hands": hands_of(frames, keypoints, scores, width, height),
    }


def _seen_enough(found: list[_Person]) -> bool:
    return sum(person.present for person in found) >= _SMALLEST_SHARE * len(found)


class _Person:
    """What Holistic sees in one frame, in pixels; all zeros where there is nobody."""

    def __init__(self, result: Any, height: int, width: int) -> None:
        self.keypoints, self.scores = np.zeros((KEYPOINTS, 2), np.float32), np.zeros(KEYPOINTS, np.float32)
        self.mesh: Floats | None = None
        self.face_score = 0.0
        self.mask = np.zeros((height, width), np.uint8)
        self.present = result.pose_landmarks is not None
        if self.present:
            self._place(result, np.array([width, height], np.float32))

    def _place(self, result: Any, size: Floats) -> None:
        pose = _points(result.pose_landmarks, size)
        visibility = np.array([point.visibility for point in result.pose_landmarks.landmark], np.float32)
        self.keypoints[list(_POSE)], self.scores[list(_POSE)] = (
            pose[list(_POSE.values())],
            visibility[list(_POSE.values())],
        )
        self.present = bool(np.sort(self.scores[BODY])[-5:].mean() >= _PERSON_VISIBILITY)
        if not self.present:
            self.keypoints[:], self.scores[:] = 0, 0
            return
        for hand, landmarks in ((LEFT_HAND, result.left_hand_landmarks), (RIGHT_HAND, result.right_hand_landmarks)):
            if landmarks is not None:  # Holistic gives hands and face no scores
                self.keypoints[hand], self.scores[hand] = _points(landmarks, size), 1
        drop_doubled_hand(self.keypoints, self.scores)
        if result.face_landmarks is not None:
            self.mesh = _points(result.face_landmarks, size)
            self.face_score = profile_score(self.mesh)
            self.keypoints[FACE], self.scores[FACE] = self.mesh[_IBUG], self.face_score
        # The networks extrapolate the limbs that the frame cuts off; what is outside is not visible.
        self.scores[((self.keypoints < 0) | (self.keypoints > size)).any(axis=1)] = 0
        if result.segmentation_mask is not None:
            self.mask = np.rint(np.clip(result.segmentation_mask, 0, 1) * 255).astype(np.uint8)


def _points(landmarks: Any, size: Floats) -> Floats:
    """[N, 2] pixels; Holistic's coordinates are shares of the image's width and height."""
    return np.array([(point.x, point.y) for point in landmarks.landmark], np.float32) * size


def _holistic(frames: Frames) -> list[_Person]:
    """One person per frame, tracked; a fresh graph per clip, so that rows do not depend on the order of clips."""
    from mediapipe.python.solutions.holistic import Holistic

    with _quiet(), Holistic(static_image_mode=False, model_complexity=1, enable_segmentation=True) as graph:
        return [_Person(graph.process(image), *image.shape[:2]) for image in frames]


def profile_score(mesh: Floats) -> float:
    """1 for a face that looks ahead, falling to 0 where the eyes' distance collapses: mesh [468, 2] in pixels."""
    ibug = mesh[_IBUG]
    eyes = float(np.hypot(*(ibug[36:42].mean(axis=0) - ibug[42:48].mean(axis=0))))
    height = float(np.hypot(*(mesh[_FOREHEAD] - mesh[_CHIN])))
    share = eyes / max(height, 1e-6) / _FRONTAL_EYE_RATIO
    return float(np.clip((share - _PROFILE[0]) / (_PROFILE[1] - _PROFILE[0]), 0, 1))


def drop_doubled_hand(keypoints: Floats, scores: Floats) -> None:
    """Score 0 for one of two hands on the same spot: Holistic now and then finds the one visible hand twice.

    The hand whose wrist lies farther from the arm's wrist (9, 10) goes. Changes scores [133] in place.
    """
    left, right = keypoints[LEFT_HAND], keypoints[RIGHT_HAND]
    if not (scores[LEFT_HAND].any() and scores[RIGHT_HAND].any()):
        return
    apart = float(np.hypot(*(left - right).T).mean())
    if apart < 0.25 * float(max(np.ptp(left, axis=0).max(), np.ptp(right, axis=0).max())):
        to_arm = [float(np.hypot(*(hand[0] - keypoints[wrist]))) for hand, wrist in ((left, 9), (right, 10))]
        scores[LEFT_HAND if to_arm[0] > to_arm[1] else RIGHT_HAND] = 0


def five_points(ibug: Floats) -> Floats:
    """Eyes, nose and corners of the mouth [5, 2], in the order of face_embedding.TEMPLATE, from 68 points [68, 2]."""
    return np.stack([ibug[36:42].mean(axis=0), ibug[42:48].mean(axis=0), ibug[30], ibug[48], ibug[54]])


def _mask_row(mask: npt.NDArray[np.uint8]) -> dict[str, Any]:
    hard = mask >= 128
    soft, shape, dtype = pack_array(mask)
    return {"rle": encode_rle(hard), "height": mask.shape[0], "width": mask.shape[1], "area_px": int(hard.sum()),
            "soft": soft, "soft_shape": shape, "soft_dtype": dtype}  # fmt: skip


def _face_row(image: Frames, person: _Person, embedder: FaceEmbedder | None) -> dict[str, Any]:
    nobody: dict[str, Any] = {"boxes": [], "box_scores": [], "points": [], "subject": -1, "warp": None}
    nobody |= {"embedding": None, "embedding_norm": None, "embedding_reason": "no face"}
    if person.mesh is None:
        return nobody
    size = np.array([image.shape[1], image.shape[0]])
    low, high = np.clip(person.mesh.min(axis=0), 0, size), np.clip(person.mesh.max(axis=0), 0, size)
    if not (high > low).all():
        return nobody
    points = five_points(person.mesh[_IBUG])
    warp = similarity_warp(points)
    box = {"boxes": [*low.tolist(), *high.tolist()], "box_scores": [person.face_score], "subject": 0}
    aligned = {"points": points.ravel().tolist(), "warp": warp.ravel().tolist()}
    return {**nobody, **box, **aligned, **_embedding(image, warp, person.face_score, embedder)}


def _embedding(image: Frames, warp: Floats, score: float, embedder: FaceEmbedder | None) -> dict[str, Any]:
    if embedder is None:
        return {"embedding_reason": "no recogniser"}
    if score == 0:
        return {"embedding_reason": "profile"}
    embedding = embedder([image], [warp])[0]
    return {
        "embedding": embedding.tolist(),
        "embedding_norm": float(np.linalg.norm(embedding)),
        "embedding_reason": None,
    }
