"""Where one body part lies in one frame: what depth, flow and labels are computed from.

Image coordinates are canvas px; heights are body heights, larger = nearer to the camera.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
LUT = 256  # samples of a radius profile


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A tube's axis and section. A surface point is (t along the axis, angle around it); angle 0 is the part's front."""

    start: Floats  # [2]
    end: Floats  # [2]
    depth: tuple[float, float]  # of the axis, at start and end
    radii: Floats  # [LUT] half widths, before `scale`
    scale: float
    bow: float
    angle: float  # of the part's front against the camera's direction, radians
    thick: float  # depth of the section relative to its width
    cut: float  # fraction of the axis that cloth covers; 0 none
    labels: tuple[int, int]  # covered, bare: indices in LABELS


@dataclass(frozen=True, kw_only=True, slots=True)
class Anatomy:
    """Everything of one person and frame: tubes by owner, the head's frame and the hands' joints."""

    unit: float  # px per body height
    head_frame: Floats  # [4, 3] mid-head, and one head height left, up, front of it
    head_axes: Floats  # [3] half width and half height in px, half depth in body heights, of the skull
    hair_axes: Floats  # [3] the same of the hair
    hands: dict[str, Floats]  # [21, 3]
    pieces: dict[int, Piece] = field(default_factory=dict)
