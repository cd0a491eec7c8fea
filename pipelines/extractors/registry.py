"""The extractors that `extract` can be asked for, by name. Two of a kind differ in their networks: `_small` ones are for CPUs."""

from __future__ import annotations

from pipelines.errors import UserError
from pipelines.extract import Extractor
from pipelines.extractors.action import TINY_LAYERS, Action
from pipelines.extractors.body_mask import TINY_MARGIN, BodyMask
from pipelines.extractors.caption import Caption
from pipelines.extractors.clip_image import CLIP_HUGE, CLIP_LARGE, CLIP_TINY
from pipelines.extractors.clothing import Clothing
from pipelines.extractors.dataset_annotations import DatasetAnnotations
from pipelines.extractors.densepose import TINY_SIDES, DensePose
from pipelines.extractors.dwpose import DWPose
from pipelines.extractors.faces import FaceExtractor
from pipelines.extractors.flow import TINY_UPDATES, Flow, raft_tiny
from pipelines.extractors.latents import Latents
from pipelines.extractors.mediapipe import MediaPipe
from pipelines.extractors.person_box import PersonBox
from pipelines.extractors.retinaface import load_retinaface, load_retinaface_small
from pipelines.extractors.rtmpose import RTMPose
from pipelines.extractors.scrfd import load_scrfd
from pipelines.extractors.truth import Truth

_SMALL = PersonBox(name="person_box_small", role="person_box_small")
_TINY = PersonBox(name="person_box_tiny", role="person_box_tiny")

_ALL: tuple[Extractor, ...] = (
    MediaPipe(),
    Truth(),
    DatasetAnnotations(),
    PersonBox(),
    _SMALL,
    DWPose(),
    RTMPose(),
    FaceExtractor(name="scrfd", role="face_detector", open_detector=load_scrfd),
    FaceExtractor(name="retinaface", role="face_detector_retinaface", open_detector=load_retinaface),
    FaceExtractor(name="retinaface_small", role="face_detector_small", open_detector=load_retinaface_small, person=_SMALL),
    DensePose(),
    BodyMask(),
    Clothing(),
    Action(),
    CLIP_LARGE,
    CLIP_HUGE,
    Caption(),
    Flow(),
    Latents(),
    # the demo's networks, at 128 px
    _TINY,
    DWPose(name="dwpose_tiny", role="dwpose_tiny", person=_TINY),
    RTMPose(name="rtmpose_tiny", role="rtmpose_tiny", feet_role="dwpose_tiny", person=_TINY),
    DensePose(name="densepose_tiny", role="densepose_tiny", sides=TINY_SIDES),
    BodyMask(name="body_mask_tiny", role="person_mask_tiny", person=_TINY, batch_frames=16, margin=TINY_MARGIN),
    FaceExtractor(name="scrfd_tiny", role="face_detector_tiny", open_detector=load_scrfd, person=_TINY, recogniser="face_recogniser_tiny"),
    Clothing(name="clothing_tiny", role="clip_tiny", person=_TINY),
    Action(name="action_tiny", role="action_tiny", layers=TINY_LAYERS),
    CLIP_TINY,
    Caption(name="caption_tiny", role="caption_tiny", tokenizer="clip_tiny"),
    Flow(name="flow_tiny", role="flow_tiny", build=raft_tiny, updates=TINY_UPDATES),
)
EXTRACTORS: dict[str, Extractor] = {extractor.name: extractor for extractor in _ALL}


def extractors_named(names: list[str] | tuple[str, ...]) -> list[Extractor]:
    """The extractors of these names; UserError lists what there is."""
    unknown = [name for name in names if name not in EXTRACTORS]
    if unknown or not names:
        wrong = f"no extractor {', '.join(map(repr, unknown))}" if unknown else "no extractor was named"
        raise UserError(f"{wrong}; there are: {', '.join(sorted(EXTRACTORS))}")
    return [EXTRACTORS[name] for name in dict.fromkeys(names)]
