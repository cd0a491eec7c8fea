"""Protocol: what a number means is part of its key.

A `Protocol` is a named frozen value. Two numbers may stand in one column only when they have the same protocol and
split. eval/protocols.py holds the values, docs/protocols.md says them in words; faults of the literature that a protocol
keeps on purpose are fields here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from pipelines.prediction_manifest import DrivenBy

MAIN_ROLES = ("lpips", "fid", "fid_vid", "fvd")
"""Roles without whose networks a protocol cannot be computed at all; the others may be missing, and the table says so."""

Resize = Literal["none", "pil-bicubic", "pil-bilinear"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """How clips become numbers. Bad combinations are errors at construction.

    Geometry: the truth is cropped and resized; the prediction too, or (`cv2-linear`) it is only brought to the truth's size.
    """

    name: str
    summary: str  # one sentence for people: printed above every table
    short_side: int | None  # pixels after resizing; None = native size
    crop: Literal["none", "center_square"]  # "none" = whole frame, native aspect; else the largest square in its middle
    resize: Resize  # Pillow, antialiased, rounded to uint8 once
    window: int  # frames per window of the video metrics
    stride: int  # frames between the starts of two windows
    networks: Mapping[str, str]  # role -> name in pipelines.extractors.metric_networks
    lpips_range: tuple[float, float]  # what 0 and 255 become before the LPIPS network
    reference: Literal["excluded", "scored"]  # is the reference frame part of the score, where it is a frame of the clip
    known_faults: tuple[str, ...]  # faults of the literature that are kept; () = none
    source: str
    standin: bool = False  # True: networks are stand-ins, numbers compare with nothing outside
    metrics: tuple[str, ...]
    prediction_resize: Literal["same", "cv2-linear"] = "same"  # "same" = the truth's filter; cv2-linear is not antialiased
    pad: Literal["none", "square-black"] = "none"  # of the frames that feature networks see, centred
    tail: Literal["drop", "walk-back", "drop-last"] = "drop"  # of a run of frames that windows do not fill; see `windows`
    pixel_frames: Literal["all", "first-of-window"] = "all"  # which frames image metrics and FID see
    codec: Literal["none", "gif", "mp4"] = "none"  # lossy round trip of both sides before the video metrics
    l1: Literal["unit", "over-pixels"] = "unit"  # mean |d| of values in 0..1, or mean |d| of 0..255 over H * W (DisCo)
    lpips_against: Literal["truth", "reference"] = "truth"
    frechet: Literal["float64", "float32-means"] = "float64"  # arithmetic of the means of the video metrics
    driven_by: DrivenBy = "self"  # "cross": clips that another person's motion drives, which have no ground truth
    facts: Mapping[str, str] = field(default_factory=dict)  # further choices in words, for the report

    def __post_init__(self) -> None:
        if not 1 <= self.stride <= self.window:
            raise ValueError(f"stride={self.stride} must be in 1..window={self.window}, or frames would be left out")
        if (self.short_side is None) != (self.resize == "none"):
            raise ValueError(f"short_side={self.short_side} and resize={self.resize!r} contradict each other")
        for name in ("networks", "facts"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    def size_of(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of a frame under this protocol; the long side is rounded to the nearest pixel, half up."""
        if self.crop == "center_square":
            height = width = min(height, width)
        if self.short_side is None:
            return height, width
        short = min(height, width)
        return (_rounded(height * self.short_side, short), _rounded(width * self.short_side, short))

    def scored_frames(self, num_frames: int, reference_frame: int | None) -> list[int]:
        """Clip frames that count for image metrics and FID."""
        if self.pixel_frames == "first-of-window":
            return self.windows(num_frames, reference_frame)
        return self._open_frames(num_frames, reference_frame)

    def _open_frames(self, num_frames: int, reference_frame: int | None) -> list[int]:
        hidden = reference_frame if self.reference == "excluded" else None
        return [frame for frame in range(num_frames) if frame != hidden]

    def windows(self, num_frames: int, reference_frame: int | None) -> list[int]:
        """First frames of the windows, cut from the start of every run of consecutive open frames.

        tail "drop": a rest that is shorter than a window is left out; "walk-back": one more window ends at the last frame;
        "drop-last": the last window that would fit is left out as well (an off-by-one of DisCo's GIF code).
        """
        starts: list[int] = []
        for first, length in _runs(self._open_frames(num_frames, reference_frame)):
            last = first + length - self.window
            found = list(range(first, last + (self.tail != "drop-last"), self.stride))
            if self.tail == "walk-back" and found and found[-1] != last:
                found.append(last)
            starts += found
        return starts


def _rounded(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)


def _runs(frames: Sequence[int]) -> list[tuple[int, int]]:
    """(first, length) of each run of consecutive numbers in a sorted list."""
    runs: list[tuple[int, int]] = []
    for frame in frames:
        if runs and frame == runs[-1][0] + runs[-1][1]:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((frame, 1))
    return runs
