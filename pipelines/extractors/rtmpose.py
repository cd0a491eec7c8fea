"""RTMPose with DWPose's feet: the merged set of HIA's HumanDance (body, face and hands of one network, feet of the other)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from pipelines.clip import Clip, Frames
from pipelines.extractors.dwpose import Rows, Subject, in_batches, pose_rows, pose_subject, subject_boxes
from pipelines.extractors.person_box import PersonBox, digest_of_lines
from pipelines.extractors.simcc import SimCC
from pipelines.keypoints import FEET, Points, Scores
from pipelines.weights import digest_of, find_weights


@dataclass(frozen=True, kw_only=True, slots=True)
class RTMPose:
    """As DWPose, but rows 17-22 (feet) of the 133 keypoints come from a second network, on the subject's boxes only."""

    name: str = "rtmpose"
    role: str = "rtmpose"
    feet_role: str = "dwpose"
    person: PersonBox = field(default_factory=PersonBox)
    batch_frames: int = 16
    threads: int = 1
    version = 1
    tables = ("person_boxes", "poses", "hands")

    def weights_digest(self) -> str:
        """sha256 over the three networks and the settings that change rows."""
        networks = [digest_of(find_weights(role)) for role in (self.role, self.feet_role)]
        return digest_of_lines(self.person.weights_digest(), *networks)

    def load(self, device: str) -> Callable[[Clip, Frames], Rows]:
        """From a clip and its frames to rows; raises ClipError no_person."""
        find = self.person.finder(device)
        network, feet = (SimCC(find_weights(role), device, self.threads) for role in (self.role, self.feet_role))

        def extract(clip: Clip, frames: Frames) -> Rows:
            people = find(frames, self.batch_frames)
            subject = pose_subject(clip, frames, people, network, self.batch_frames)
            times, boxes = subject_boxes(people, subject.track)
            keypoints, scores = in_batches(feet, frames, times, boxes, self.batch_frames)
            return pose_rows(frames, people, with_feet(subject, times, keypoints, scores))

        return extract


def with_feet(subject: Subject, times: list[int], keypoints: Points, scores: Scores) -> Subject:
    """The subject with the feet [n, 133, 2], [n, 133] of the frames `times`; the arguments stay as they are."""
    points, confidence = subject.keypoints.copy(), subject.scores.copy()
    points[times, FEET], confidence[times, FEET] = keypoints[:, FEET], scores[:, FEET]
    return replace(subject, keypoints=points, scores=confidence)
