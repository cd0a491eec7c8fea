"""Person boxes: YOLOX (Ge et al. 2021), tracked through the clip by overlap.

Pre- and post-processing are YOLOX's own: letterbox at the top left on grey 114, BGR 0..255 without normalisation, grids of
strides 8, 16, 32; class 0 with objectness times class score over 0.3; suppression at 0.45 counting the last pixel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from weakref import ReferenceType, WeakValueDictionary, ref

import numpy as np

from pipelines.boxes import Floats, People, fill_between, letterbox, nms, track
from pipelines.clip import Clip, Frames
from pipelines.onnx_session import open_session, planes
from pipelines.weights import digest_of, find_weights

Rows = dict[str, list[dict[str, Any]]]

SCORE, NMS_IOU, GREY, PERSON = 0.3, 0.45, 114, 0
_STRIDES = (8, 16, 32)
_AS_IS = np.repeat(np.arange(256, dtype=np.float32)[:, None], 3, axis=1)
_OPEN_SIZE = (640, 640)  # of graphs that leave the input's size open


class Yolox:
    """Frames [N, H, W, 3] RGB -> (boxes [n, 4] px of the frame, scores [n]) per frame, best first.

    Boxes are as the network gives them: they may reach over the frame's edge.
    """

    def __init__(self, path: Path, device: str = "cpu", threads: int = 1, score: float = SCORE) -> None:
        self._session = open_session(path, device, threads)
        self._score = score
        self.size = self._session.size or _OPEN_SIZE

    def __call__(self, frames: Frames) -> list[tuple[Floats, Floats]]:
        canvas, scale = letterbox(frames, self.size, GREY)
        images = planes(canvas, _AS_IS, order=(2, 1, 0))  # YOLOX was trained on BGR
        return [self._people(raw, scale) for raw in self._session.run(images)[0]]

    @cached_property
    def _anchors(self) -> tuple[Floats, Floats]:
        """Cell (x, y) [A, 2] and stride [A, 1] of every prediction."""
        cells, strides = [], []
        for stride in _STRIDES:
            y, x = np.mgrid[: self.size[0] // stride, : self.size[1] // stride]
            cells.append(np.stack([x, y], axis=-1).reshape(-1, 2))
            strides.append(np.full((x.size, 1), stride))
        return np.concatenate(cells).astype(np.float32), np.concatenate(strides).astype(np.float32)

    def _people(self, raw: Floats, scale: float) -> tuple[Floats, Floats]:
        """raw [A, 5 + classes]: offset x, y, log width, height, objectness, classes."""
        scores = raw[:, 4] * raw[:, 5 + PERSON]
        found = np.flatnonzero(scores > self._score)
        cells, strides = (values[found] for values in self._anchors)
        centre, size = (raw[found, :2] + cells) * strides, np.exp(raw[found, 2:4]) * strides
        boxes = np.concatenate([centre - size / 2, centre + size / 2], axis=1) / np.float32(scale)
        keep = nms(boxes, scores[found], NMS_IOU)
        return boxes[keep], scores[found][keep]


class PeopleFinder:
    """Detects and tracks; remembers the last clip, so that the extractors of one worker detect its people once."""

    def __init__(self, detect: Callable[[Frames], list[tuple[Floats, Floats]]], every: int) -> None:
        self._detect, self._every = detect, every
        self._last: tuple[ReferenceType[Frames], list[People]] | None = None

    def __call__(self, frames: Frames, batch_frames: int) -> list[People]:
        """People of every frame of one clip [T, H, W, 3], detected in every `every`-th frame and the last one."""
        if self._last is not None and self._last[0]() is frames:
            return self._last[1]
        marks = sorted({*range(0, len(frames), self._every), len(frames) - 1})
        found: list[tuple[Floats, Floats]] = []
        for start in range(0, len(marks), batch_frames):
            found += self._detect(_picked(frames, marks[start : start + batch_frames]))
        tracks = track([boxes for boxes, _ in found])
        seen = {mark: People(*pair, numbers) for mark, pair, numbers in zip(marks, found, tracks, strict=True)}
        people = fill_between(seen, len(frames))
        self._last = ref(frames), people
        return people


def _picked(frames: Frames, marks: list[int]) -> Frames:
    neighbours = marks[-1] - marks[0] == len(marks) - 1
    return frames[marks[0] : marks[-1] + 1] if neighbours else frames[marks]  # a slice copies nothing


_FINDERS: WeakValueDictionary[tuple[object, ...], PeopleFinder] = WeakValueDictionary()


@dataclass(frozen=True, kw_only=True, slots=True)
class PersonBox:
    """All people of every frame, tracked; the subject is the track that covers most (area summed over the clip).

    A frame without people has empty lists and subject -1, which screening counts; it is no failure.
    """

    name: str = "person_box"
    role: str = "person_box"
    every: int = 1  # detect in every k-th frame and move the boxes in between
    batch_frames: int = 16
    threads: int = 1
    version = 1
    tables = ("person_boxes",)

    def weights_digest(self) -> str:
        """sha256 over the network and the settings that change rows."""
        return digest_of_lines(f"{digest_of(find_weights(self.role))}", f"every {self.every}")

    def finder(self, device: str) -> PeopleFinder:
        """The detector, shared with other extractors of this process that want the same."""
        path = find_weights(self.role)
        key = (digest_of(path), self.every, device, self.threads)
        finder = _FINDERS.get(key)
        if finder is None:
            finder = _FINDERS[key] = PeopleFinder(Yolox(path, device, self.threads), self.every)
        return finder

    def load(self, device: str) -> Callable[[Clip, Frames], Rows]:
        """From a clip and its frames to rows."""
        finder = self.finder(device)

        def extract(clip: Clip, frames: Frames) -> Rows:
            people = finder(frames, self.batch_frames)
            return {"person_boxes": person_rows(people, largest_track(people))}

        return extract


def digest_of_lines(*lines: str) -> str:
    """sha256 of what an extractor's rows depend on, one line each."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def largest_track(people: list[People]) -> int:
    """The track with the largest area summed over the clip, so both large and persistent; -1 where nobody is."""
    areas: dict[int, float] = {}
    for frame in people:
        for number, area in zip(frame.tracks, np.prod(frame.boxes[:, 2:] - frame.boxes[:, :2], axis=1), strict=True):
            areas[int(number)] = areas.get(int(number), 0.0) + float(area)
    return max(areas, key=lambda number: areas[number], default=-1)


def index_of(tracks: Any, number: int) -> int:
    """Where a track is among the boxes of one frame, or -1."""
    where = np.flatnonzero(np.asarray(tracks) == number)
    return int(where[0]) if len(where) else -1


def person_rows(people: list[People], subject: int) -> list[dict[str, Any]]:
    """Rows of the table person_boxes; `subject` is the number of the clip's person."""
    return [
        {"boxes": frame.boxes.ravel().tolist(), "box_scores": frame.scores.tolist(),
         "tracks": frame.tracks.tolist(), "subject": index_of(frame.tracks, subject)}
        for frame in people
    ]  # fmt: skip
