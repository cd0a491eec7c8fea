"""The subject's box of every frame, for networks that are shown or asked about one person.

The detector is person_box's. It is shared by all extractors of a process and remembers the last clip, so the people of a clip are detected once.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipelines.boxes import Floats
from pipelines.clip import Clip, Frames
from pipelines.errors import ClipError
from pipelines.extractors.person_box import PersonBox, largest_track

Boxes = list[Floats | None]
"""Per frame x1, y1, x2, y2 px inside the frame; None where the subject is not seen."""


def subject_finder(person: PersonBox, device: str) -> Callable[[Clip, Frames, int], Boxes]:
    """(clip, frames, frames per call) -> the subject's boxes. The function raises ClipError no_person where nobody is seen at all."""
    find = person.finder(device)

    def boxes_of(clip: Clip, frames: Frames, batch_frames: int) -> Boxes:
        people = find(frames, batch_frames)
        number = largest_track(people)
        if number < 0:
            raise ClipError("no_person", clip.clip_id, "nobody was found in any frame", "drop the clip or lower the detector's score")
        height, width = frames.shape[1:3]
        return [_inside(frame.boxes[frame.tracks == number], width, height) for frame in people]

    return boxes_of


def crop_of(frame: Frames, box: Floats) -> Frames:
    """The part of a frame [H, W, 3] that a box touches, whole pixels."""
    x1, y1 = np.floor(box[:2]).astype(int)
    x2, y2 = np.ceil(box[2:]).astype(int)
    return frame[y1:y2, x1:x2]


def _inside(boxes: Floats, width: int, height: int) -> Floats | None:
    """A detector's box may reach over the edge; one that is outside altogether shows nobody."""
    if not len(boxes):
        return None
    box: Floats = np.clip(boxes[0], 0, np.array([width, height, width, height], np.float32))
    return box if (box[2:] - box[:2] >= 1).all() else None
