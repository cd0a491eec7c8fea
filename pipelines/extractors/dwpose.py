"""DWPose: whole-body keypoints of the clip's person (Yang et al. 2023), from tracked YOLOX boxes.

Everybody's pose is estimated; the subject is the track with the largest mean body score over the clip, never the first
detection. `PersonPose` names the networks, so RTMPose (rtmpose.py) is the same with other files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.boxes import Floats, People
from pipelines.clip import Clip, Frames
from pipelines.errors import ClipError
from pipelines.extractors.hands import hands_of
from pipelines.extractors.person_box import PersonBox, digest_of_lines, index_of, person_rows
from pipelines.extractors.simcc import SimCC
from pipelines.keypoints import BODY, KEYPOINTS, Points, Scores
from pipelines.weights import digest_of, find_weights

# T = frames, M = boxes of all frames
Rows = dict[str, list[dict[str, Any]]]

MOST_PEOPLE = 10  # poses are estimated for the tracks that cover most; a crowd would take as many times longer


@dataclass(frozen=True, kw_only=True, slots=True)
class DWPose:
    """Person boxes, 133 keypoints and hands of the subject. Frames without the subject: points and scores 0."""

    name: str = "dwpose"
    role: str = "dwpose"
    person: PersonBox = field(default_factory=PersonBox)
    batch_frames: int = 16
    threads: int = 1
    version = 1
    tables = ("person_boxes", "poses", "hands")

    def weights_digest(self) -> str:
        """sha256 over both networks and the settings that change rows."""
        return digest_of_lines(self.person.weights_digest(), digest_of(find_weights(self.role)))

    def load(self, device: str) -> Callable[[Clip, Frames], Rows]:
        """From a clip and its frames to rows; raises ClipError no_person."""
        find, network = self.person.finder(device), SimCC(find_weights(self.role), device, self.threads)

        def extract(clip: Clip, frames: Frames) -> Rows:
            people = find(frames, self.batch_frames)
            subject = pose_subject(clip, frames, people, network, self.batch_frames)
            return pose_rows(frames, people, subject)

        return extract


@dataclass(frozen=True, slots=True)
class Subject:
    """The clip's person: track number, keypoints [T, 133, 2] px, scores [T, 133]; both 0 where the person is not."""

    track: int
    keypoints: Points
    scores: Scores


def pose_subject(clip: Clip, frames: Frames, people: Sequence[People], network: SimCC, batch: int) -> Subject:
    """As `main_person`. Raises ClipError no_person."""
    subject = main_person(frames, people, network, batch)
    if subject is None:
        raise ClipError("no_person", clip.clip_id, f"nobody in {len(frames)} frames", "drop the clip, or use another extractor")
    return subject


def main_person(frames: Frames, people: Sequence[People], network: SimCC, batch: int) -> Subject | None:
    """Poses of everybody; keeps the track with the largest mean body score. None where nobody is seen.

    The mean is over all frames of the clip and counts 0 where the track is absent, so that one lucky frame does not win.
    """
    chosen = most_covering(people)
    where = [(t, i) for t, frame in enumerate(people) for i in np.flatnonzero(np.isin(frame.tracks, chosen))]
    if not where:
        return None
    times, boxes = [t for t, _ in where], np.stack([people[t].boxes[i] for t, i in where])
    tracks = np.array([people[t].tracks[i] for t, i in where])
    keypoints, scores = in_batches(network, frames, times, boxes, batch)
    sums = {number: float(scores[tracks == number][:, BODY].mean(axis=1).sum()) for number in chosen}
    best = max(chosen, key=lambda number: sums[number])
    return Subject(best, *_spread(len(frames), times, tracks == best, keypoints, scores))


def in_batches(network: SimCC, frames: Frames, times: Sequence[int], boxes: Floats, batch: int) -> tuple[Points, Scores]:
    """Keypoints [M, 133, 2] and scores [M, 133] of M boxes in the frames `times`; crops of many frames share a call."""
    parts = [
        network([frames[t] for t in times[start : start + batch]], boxes[start : start + batch]) for start in range(0, len(boxes), batch)
    ]
    return np.concatenate([points for points, _ in parts]), np.concatenate([scores for _, scores in parts])


def most_covering(people: Sequence[People], most: int = MOST_PEOPLE) -> list[int]:
    """Numbers of the tracks with the largest area summed over the clip, at most `most`."""
    if not any(len(frame.tracks) for frame in people):
        return []
    tracks, boxes = np.concatenate([frame.tracks for frame in people]), np.concatenate([frame.boxes for frame in people])
    areas = np.bincount(tracks, weights=np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))
    present = np.unique(tracks)
    return [int(number) for number in present[np.argsort(-areas[present], kind="stable")][:most]]


def _spread(num_frames: int, times: Sequence[int], own: npt.NDArray[np.bool_], keypoints: Points, scores: Scores) -> tuple[Points, Scores]:
    """The subject's rows at their frames, zeros elsewhere."""
    at = np.array(times)[own]
    points, confidence = np.zeros((num_frames, KEYPOINTS, 2), np.float32), np.zeros((num_frames, KEYPOINTS), np.float32)
    points[at], confidence[at] = keypoints[own], scores[own]
    return points, confidence


def subject_boxes(people: Sequence[People], track: int) -> tuple[list[int], Floats]:
    """Frames in which a track is, and its boxes there [n, 4]."""
    where = [(t, index_of(frame.tracks, track)) for t, frame in enumerate(people)]
    where = [(t, i) for t, i in where if i >= 0]
    return [t for t, _ in where], np.array([people[t].boxes[i] for t, i in where], np.float32).reshape(-1, 4)


def pose_rows(frames: Frames, people: list[People], subject: Subject) -> Rows:
    """Rows of person_boxes, poses and hands."""
    _, height, width, _ = frames.shape
    keypoints, scores = subject.keypoints, subject.scores
    return {
        "person_boxes": person_rows(people, subject.track),
        "poses": [{"keypoints": k.ravel().tolist(), "scores": s.tolist()} for k, s in zip(keypoints, scores, strict=True)],
        "hands": hands_of(frames, keypoints, scores, width, height),
    }
