"""The extractors that `extract` can be asked for, by name. Two of a kind differ in their networks: `_small` ones are for CPUs."""

from __future__ import annotations

from pipelines.errors import UserError
from pipelines.extract import Extractor
from pipelines.extractors.action import Action
from pipelines.extractors.body_mask import BodyMask
from pipelines.extractors.caption import Caption
from pipelines.extractors.clip_image import CLIP_HUGE, CLIP_LARGE
from pipelines.extractors.clothing import Clothing
from pipelines.extractors.dataset_annotations import DatasetAnnotations
from pipelines.extractors.densepose import DensePose
from pipelines.extractors.dwpose import DWPose
from pipelines.extractors.faces import FaceExtractor
from pipelines.extractors.flow import Flow
from pipelines.extractors.latents import Latents
from pipelines.extractors.mediapipe import MediaPipe
from pipelines.extractors.person_box import PersonBox
from pipelines.extractors.retinaface import load_retinaface, load_retinaface_small
from pipelines.extractors.rtmpose import RTMPose
from pipelines.extractors.scrfd import load_scrfd
from pipelines.extractors.truth import Truth

_SMALL = PersonBox(name="person_box_small", role="person_box_small")

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
)
EXTRACTORS: dict[str, Extractor] = {extractor.name: extractor for extractor in _ALL}


def extractors_named(names: list[str] | tuple[str, ...]) -> list[Extractor]:
    """The extractors of these names; UserError lists what there is."""
    unknown = [name for name in names if name not in EXTRACTORS]
    if unknown or not names:
        wrong = f"no extractor {', '.join(map(repr, unknown))}" if unknown else "no extractor was named"
        raise UserError(f"{wrong}; there are: {', '.join(sorted(EXTRACTORS))}")
    return [EXTRACTORS[name] for name in dict.fromkeys(names)]
