"""Face embeddings for CSIM: the largest face of every frame, found, aligned by five points, and embedded.

ArcFace is the published one (antelopev2: SCRFD-10G at 640, ResNet-100 on Glint360K, 512-d). MobileFaceNet (128-d) has another
scale: its cosines are comparable with each other only, never with those of ArcFace.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipelines.clip import Frames
from pipelines.errors import UserError
from pipelines.extractors.face_embedding import RECOGNISERS, FaceEmbedder, similarity_warp
from pipelines.extractors.faces import Faces, embeddings_of
from pipelines.extractors.person_box import digest_of_lines
from pipelines.extractors.retinaface import load_retinaface_small
from pipelines.extractors.scrfd import load_scrfd
from pipelines.weights import digest_of, find_weights

Features = npt.NDArray[np.float32]

_BATCH = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class FaceIdentity:
    """uint8 [N, H, W, 3] RGB -> float32 [N, size], raw (not unit length); a frame without a face is a row of NaN.

    The face is the one with the largest box, as in StableAnimator's code, of whomever it is: no person is looked for.
    On CUDA both networks run in half precision, as they do in extraction. MissingWeightsError without both files;
    UserError where the terms of non-commercial ones are not accepted.
    """

    name: str
    size: int  # D of the embedding
    detector: str  # role
    recogniser: str  # role, one of RECOGNISERS
    open_detector: Callable[[Path, str, int], Callable[[Frames], list[Faces]]]
    version: int = 1

    def weights_digest(self) -> str:
        """sha256 over detector, recogniser and the recogniser's settings."""
        recogniser = f"{RECOGNISERS[self.recogniser]} {digest_of(find_weights(self.recogniser))}"
        return digest_of_lines(digest_of(find_weights(self.detector)), recogniser)

    def load(self, device: str) -> Callable[[Frames], Features]:
        """Open both networks. The callable raises UserError where the recogniser gives another size than stated."""
        detect = self.open_detector(find_weights(self.detector), device, 1)
        embedder = FaceEmbedder(find_weights(self.recogniser), RECOGNISERS[self.recogniser], device)

        def features(frames: Frames) -> Features:
            rows = np.full((len(frames), self.size), np.nan, np.float32)
            for start in range(0, len(frames), _BATCH):
                part = frames[start : start + _BATCH]
                largest = {t: faces.by_area().points[0] for t, faces in enumerate(detect(part)) if len(faces.boxes)}
                warps = {t: similarity_warp(points) for t, points in largest.items()}
                for t, embedding in embeddings_of(part, warps, embedder).items():
                    rows[start + t] = self._checked(embedding)
            return rows

        return features

    def _checked(self, embedding: Features) -> Features:
        if embedding.shape != (self.size,):
            raise UserError(f"the file of role {self.recogniser} gives embeddings of {embedding.size} numbers, {self.name} has {self.size}")
        return embedding


ARCFACE = FaceIdentity(name="arcface", size=512, detector="face_detector", recogniser="face_recogniser", open_detector=load_scrfd)
MOBILEFACENET = FaceIdentity(
    name="mobilefacenet",
    size=128,
    detector="face_detector_small",
    recogniser="face_recogniser_small",
    open_detector=load_retinaface_small,
)
# The two of the tiny family know drawn people only; two networks that were trained apart, for protocols that say so.
CSIM_TINY = FaceIdentity(
    name="csim_tiny", size=128, detector="face_detector_tiny", recogniser="face_recogniser_tiny", open_detector=load_scrfd
)
CSIM_TINY_SECOND = FaceIdentity(
    name="csim_tiny_second", size=96, detector="face_detector_tiny", recogniser="face_recogniser_second_tiny", open_detector=load_scrfd
)
