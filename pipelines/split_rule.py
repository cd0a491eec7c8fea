"""The thresholds that turn a video into clips; their digest is stored with every clip (clip_rows.rule_digest)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitRule:
    """How shots become clips; stored with the run, so that clips can be traced to their thresholds.

    The two detectors vote for hard cuts: a cut is a frame whose content differs from its predecessor's absolutely
    (content_threshold, PySceneDetect's HSV distance) and stands out from its neighbours (adaptive_ratio).
    A fade through black is one edge (pipelines/fades.py).
    """

    content_threshold: float = 22.0  # mean HSV difference, 0..255
    adaptive_ratio: float = 3.0  # difference over the mean difference of the neighbouring frames
    window_width: int = 2  # neighbours on each side
    fade_level: float = 12.0  # mean luma, 0..255, at and below which a frame is black; negative: fades are not looked for
    fade_frames: int = 4  # frames that a fade takes at least, on one side of the black
    min_frames: int = 8  # shorter shots are kept as dropped rows
    max_seconds: float = 10.0  # longer shots are cut into equal parts
    analysis_width_px: int = 256

    def __post_init__(self) -> None:
        if self.min_frames < 1 or self.max_seconds <= 0:
            raise ValueError(f"min_frames={self.min_frames} and max_seconds={self.max_seconds} must be positive")
        if self.fade_frames < 2:
            raise ValueError(f"fade_frames={self.fade_frames} must be 2 or more: a change within one frame is a cut")


def rule_json(rule: SplitRule) -> dict[str, Any]:
    """The rule as metadata."""
    return asdict(rule)
