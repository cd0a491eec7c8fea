"""The networks of evaluation that look at people and frames as a whole: faces, CLIP, poses, appearance."""

from __future__ import annotations

from pipelines.extractors.clip_similarity import CLIP_B32, CLIP_B32_EVALCRAFTER, CLIP_L14, CLIP_TINY, ClipSimilarity
from pipelines.extractors.face_identity import ARCFACE, CSIM_TINY, CSIM_TINY_SECOND, MOBILEFACENET, FaceIdentity
from pipelines.extractors.generated_pose import (
    DWPOSE_KEYPOINTS,
    DWPOSE_KEYPOINTS_TINY,
    MEDIAPIPE_KEYPOINTS,
    DwposeKeypoints,
    MediapipeKeypoints,
)
from pipelines.extractors.person_reid import PersonReid
from pipelines.extractors.rtpose_vgg import RTPOSE_VGG, RTPOSE_VGG_SINGLE, RtposeVgg

PEOPLE_NETWORKS: tuple[FaceIdentity | ClipSimilarity | DwposeKeypoints | MediapipeKeypoints | PersonReid | RtposeVgg, ...] = (
    ARCFACE,
    MOBILEFACENET,
    CLIP_L14,
    CLIP_B32,
    CLIP_B32_EVALCRAFTER,
    DWPOSE_KEYPOINTS,
    MEDIAPIPE_KEYPOINTS,
    PersonReid(),
    RTPOSE_VGG,
    RTPOSE_VGG_SINGLE,
)

# Of the tiny family: they know performers only.
TINY_PEOPLE_NETWORKS = (CSIM_TINY, CSIM_TINY_SECOND, CLIP_TINY, DWPOSE_KEYPOINTS_TINY)
