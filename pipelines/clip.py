"""The vocabulary: a Clip is a range of frames of a video, never a file of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

Frames = npt.NDArray[np.uint8]
"""[T, H, W, 3] RGB, upright (rotation metadata applied)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """Frames `start_frame` to `end_frame` (exclusive, counted from 0 in presentation order) of one video.

    Sizes are those of the upright frame (rotation metadata applied), or of its crop where the clip has one. The pts range is [start_pts, end_pts)
    in units of time_base; it is None where the container gives no usable timestamps, then frames are counted.
    """

    dataset: str
    clip_id: str
    video_id: str
    uri: str
    start_frame: int
    end_frame: int
    start_pts: int | None
    end_pts: int | None
    time_base: Fraction  # seconds per pts tick
    fps: Fraction  # average frames per second
    width: int
    height: int
    crop: tuple[int, int, int, int] | None = None  # x, y, w, h of the full upright frame; width and height above are then w and h
    subject: str | None = None  # identity of the person, where the source knows it
    split: str | None = None  # "train", "test", or None where the source has none

    @property
    def num_frames(self) -> int:
        """Frames in the clip."""
        return self.end_frame - self.start_frame

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Clip:
        """The clip of one row of the `clips` table."""
        plain = {name: row[name] for name in cls.__slots__ if name in row}
        if row.get("crop"):
            plain |= {"crop": tuple(row["crop"]), "width": row["crop"][2], "height": row["crop"][3]}
        return cls(**plain, time_base=Fraction(row["time_base_num"], row["time_base_den"]), fps=Fraction(row["fps_num"], row["fps_den"]))


def clip_id_of(video_sha256: str, start_frame: int, end_frame: int, crop: Sequence[int] | None = None) -> str:
    """Id from content, not from names: 16 hex digits of sha256 over the video's digest, the frame range and the crop (x, y, w, h), if any."""
    parts = [video_sha256, start_frame, end_frame, *(crop or ())]
    return hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()[:16]
