"""Face embeddings: align by five points, normalise, embed with an ONNX recogniser (ArcFace, Deng et al. 2019)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

# (x, y) in the 112x112 crop of the eye at the left of the image, the other eye, the nose, and the corners of the mouth
# in the same order: the template of insightface, used by every ArcFace checkpoint.
TEMPLATE: Floats = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)
CROP = 112


def similarity_warp(points: Floats) -> Floats:
    """The similarity (scale, rotation, translation) that takes five face points [5, 2] onto TEMPLATE, float32 [2, 3].

    Least squares (Umeyama 1991) without reflections, which in the plane is one complex regression:
    with z, w the centred points as x + iy, a = sum(conj(z) w) / sum(|z|^2). Raises ValueError if the points coincide.
    """
    source = points.astype(np.float64) @ np.array([1, 1j])
    target = TEMPLATE.astype(np.float64) @ np.array([1, 1j])
    centred = source - source.mean()
    spread = float((np.abs(centred) ** 2).sum())
    if not spread > 0:
        raise ValueError("the five face points coincide; there is no face to align")
    a = (centred.conj() * (target - target.mean())).sum() / spread
    shift = target.mean() - a * source.mean()
    return np.array([[a.real, -a.imag, shift.real], [a.imag, a.real, shift.imag]], np.float32)
