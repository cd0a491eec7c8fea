"""What an animator is given and gives: one reference image, one driving clip, and a new clip of that person."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from models.clip_dataset import Points
from models.signals import Signals
from pipelines.clip import Frames


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """The person to be moved, at the network's size."""

    image: Frames  # uint8 [H, W, 3]
    points: Points  # [133, 2] in pixels of the image
    scores: Points  # [133] in 0..1
    signals: Signals = field(default_factory=Signals)  # of one frame: N = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Driving:
    """The motion to be followed, in pixels of the reference's canvas."""

    points: Points  # [T, 133, 2]
    scores: Points  # [T, 133] in 0..1
    fps: float = 30.0
    signals: Signals = field(default_factory=Signals)  # of T frames


class Animator(Protocol):
    """A loaded model that makes clips of one size."""

    size: tuple[int, int] | None
    """Height and width of what it makes; None = the source's own."""
    sampler: Mapping[str, Any]
    """Settings that belong to a prediction's identity."""

    def __call__(self, reference: Reference, driving: Driving, seed: int) -> Frames:
        """uint8 [T, H, W, 3]."""
        ...

    def in_pieces(self, reference: Reference, driving: Driving, seed: int, advance: Callable[[], None] | None = None) -> Iterator[Frames]:
        """The same clip in order, a few frames at a time, for driving clips of any length; `advance` is called after every sampling step."""
        ...
