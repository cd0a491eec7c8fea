"""Keypoints of the main person of generated and true frames, for the error of the pose that a method was asked to follow.

Detectors, choice of the person and decoding are the extractors' (dwpose.py, mediapipe.py); only the shape differs here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pipelines.clip import Frames
from pipelines.extractors.dwpose import DWPose, main_person
from pipelines.extractors.mediapipe import own_networks, skeletons
from pipelines.extractors.person_box import PersonBox, digest_of_lines
from pipelines.extractors.simcc import SimCC
from pipelines.keypoints import KEYPOINTS, Points, Scores
from pipelines.weights import find_weights

Features = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class DwposeKeypoints:
    """uint8 [N, H, W, 3] RGB -> float32 [N, 133 * 3]: x px, y px, score of every point of COCO-WholeBody.

    The frames of one call are one clip in its order: its person is tracked through them and chosen over all of them. A
    frame without the person is a row of NaN. MissingWeightsError without the person detector or DWPose.
    """

    name: str = "dwpose_keypoints"
    pose: DWPose = field(default_factory=DWPose)
    version: int = 1

    def weights_digest(self) -> str:
        """sha256 over both networks and their settings."""
        return self.pose.weights_digest()

    def load(self, device: str) -> Callable[[Frames], Features]:
        """Open both networks; on CUDA they run in half precision (pipelines/onnx_session.py)."""
        find, batch = self.pose.person.finder(device), self.pose.batch_frames
        network = SimCC(find_weights(self.pose.role), device, self.pose.threads)

        def features(frames: Frames) -> Features:
            subject = main_person(frames, find(frames, batch), network, batch)
            if subject is None:
                return np.full((len(frames), KEYPOINTS * 3), np.nan, np.float32)
            return keypoint_rows(subject.keypoints, subject.scores)

        return features


@dataclass(frozen=True, kw_only=True, slots=True)
class MediapipeKeypoints:
    """The same by MediaPipe Holistic, which needs no downloaded file; UserError without the extra `mediapipe`.

    Always on the CPU. Where fewer than a quarter of the frames hold a person, all rows are NaN: then the few are not trusted.
    """

    name: str = "mediapipe_keypoints"
    version: int = 1

    def weights_digest(self) -> str:
        """sha256 over MediaPipe's version and the networks in its wheel."""
        return digest_of_lines(*own_networks())

    def load(self, device: str) -> Callable[[Frames], Features]:
        """Nothing to open: every call makes a fresh graph, so that rows do not depend on what ran before."""
        own_networks()
        return lambda frames: keypoint_rows(*skeletons(frames))


def keypoint_rows(keypoints: Points, scores: Scores) -> Features:
    """[T, 133, 2] px and [T, 133] -> [T, 133 * 3]; frames in which every score is 0 hold nobody and become NaN."""
    rows: Features = np.concatenate([keypoints, scores[..., None]], axis=2).reshape(len(keypoints), -1).astype(np.float32)
    rows[~scores.any(axis=1)] = np.nan
    return rows


DWPOSE_KEYPOINTS = DwposeKeypoints()
MEDIAPIPE_KEYPOINTS = MediapipeKeypoints()
DWPOSE_KEYPOINTS_TINY = DwposeKeypoints(  # knows performers only
    name="dwpose_keypoints_tiny",
    pose=DWPose(name="dwpose_tiny", role="dwpose_tiny", person=PersonBox(name="person_box_tiny", role="person_box_tiny")),
)
