"""A fixed camera: weak perspective with a small downward tilt, so that toes show in front of heels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_TILT_RAD = 0.16
_PERSPECTIVE = 0.16  # relative growth per body height toward the camera


@dataclass(frozen=True, kw_only=True, slots=True)
class Camera:
    """World (body heights) to image (px)."""

    unit_px: float  # px per body height
    centre_x: float  # px
    floor_y: float  # px of the floor under the person

    def project(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """[..., 3] world to [..., 3]: x px, y px, depth (larger is nearer)."""
        x, y, z = np.moveaxis(points, -1, 0)
        scale = self.unit_px * (1 + _PERSPECTIVE * z)
        up = y * np.cos(_TILT_RAD) - z * np.sin(_TILT_RAD)
        image = np.stack([self.centre_x + scale * x, self.floor_y - scale * up, z], -1)
        return np.asarray(image, np.float32)
