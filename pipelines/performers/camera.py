"""A fixed camera: weak perspective with a small downward tilt, so that toes show in front of heels; and what it frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_TILT_RAD = 0.16
PERSPECTIVE = 0.16  # relative growth per body height toward the camera
_FULL_SHARE, _FULL_CENTRE = 0.85, 0.455 / 0.85
_GROUND = 0.2  # body heights that the floor moves down in the image per unit of scale, as for a camera above the floor


@dataclass(frozen=True, kw_only=True, slots=True)
class Framing:
    """What part of a standing person the frame holds. The default is the whole body."""

    body_share: float = _FULL_SHARE
    """Height of the tallest performer as a share of the frame's height; above 1 the frame cuts the body."""
    centre: float = _FULL_CENTRE
    """Height on the body (0 floor .. 1 crown of the tallest) that lies at the vertical middle of the frame."""
    offset: float = 0.0
    """Where the person stands, right of the frame's middle, as a share of the frame's width."""

    def __post_init__(self) -> None:
        """Raises ValueError for shares that show nobody."""
        if not (0.05 <= self.body_share <= 8 and -1 <= self.centre <= 2 and -1 <= self.offset <= 1):
            raise ValueError(f"{self}: body_share must be in 0.05..8, centre in -1..2, offset in -1..1")


FULL_BODY = Framing()
UPPER_BODY = Framing(body_share=1.62, centre=0.755)
"""Hips up, as in recorded talks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Camera:
    """World (body heights) to image (px)."""

    unit_px: float  # px per body height
    centre_x: float  # px
    floor_y: float  # px of the floor under the person

    @classmethod
    def framed(cls, framing: Framing, height: int, width: int, stature: float, offset: float = 0.0, scale: float = 1.0) -> Camera:
        """For a canvas of height x width px; offset in frame widths, scale 1 stands where the main person does."""
        unit = height * framing.body_share
        return cls(
            unit_px=unit * stature * scale,
            centre_x=(0.5 + framing.offset + offset) * width - 0.5,
            floor_y=(0.5 + framing.body_share * framing.centre) * height - 0.5 + _GROUND * (scale - 1) * unit,
        )

    def project(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """[..., 3] world to [..., 3]: x px, y px, depth (larger is nearer)."""
        x, y, z = np.moveaxis(points, -1, 0)
        scale = self.unit_px * (1 + PERSPECTIVE * z)
        up = y * np.cos(_TILT_RAD) - z * np.sin(_TILT_RAD)
        image = np.stack([self.centre_x + scale * x, self.floor_y - scale * up, z], -1)
        return np.asarray(image, np.float32)
