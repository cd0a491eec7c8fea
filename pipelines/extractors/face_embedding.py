"""Face embeddings: align by five points, normalise, embed with an ONNX recogniser (ArcFace, Deng et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipelines.clip import Frames
from pipelines.onnx_session import open_session
from pipelines.weights import weights_at_hand

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


@dataclass(frozen=True, kw_only=True, slots=True)
class Recogniser:
    """How one set of weights wants its input: RGB in 0..1, minus mean, over std."""

    role: str
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)  # insightface: (x - 127.5) / 127.5
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    drawn: bool = field(default=False, repr=False)  # knows drawn people only, so it is used where it is named, never because it is at hand


RECOGNISERS: dict[str, Recogniser] = {
    recogniser.role: recogniser
    for recogniser in (
        Recogniser(role="face_recogniser"),
        # foamliu's networks were trained with ImageNet's statistics. Lowest cosine of the same person minus the
        # highest of two people, on photographs: 0.60 this way, 0.53 insightface's way, 0.42 in 0..1, below 0 in 0..255.
        Recogniser(role="face_recogniser_small", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        Recogniser(role="face_recogniser_tiny", drawn=True),
        Recogniser(role="face_recogniser_second_tiny", drawn=True),
    )
}


def recogniser_at_hand() -> Recogniser | None:
    """The first of RECOGNISERS for real people whose weights are here (nothing is downloaded), or None."""
    return next((recogniser for role, recogniser in RECOGNISERS.items() if not recogniser.drawn and weights_at_hand(role)), None)


class FaceEmbedder:
    """An ONNX recogniser [N, 3, 112, 112] -> [N, D]; `provider` says what ONNX Runtime runs it on."""

    def __init__(self, path: Path, recogniser: Recogniser, device: str = "cpu", threads: int = 1) -> None:
        self._session = open_session(path, device, threads)
        self.provider: str = self._session.provider
        self._mean = np.array(recogniser.mean, np.float32) * 255
        self._std = np.array(recogniser.std, np.float32) * 255

    def __call__(self, images: Sequence[Frames], warps: Sequence[Floats]) -> Floats:
        """Raw embeddings [N, D] of N faces: `warps` [2, 3] take each image [H, W, 3] RGB onto the 112x112 crop."""
        crops = np.stack([align(image, warp) for image, warp in zip(images, warps, strict=True)])
        batch = ((crops.astype(np.float32) - self._mean) / self._std).transpose(0, 3, 1, 2)
        (embeddings,) = self._session.run(batch)
        return embeddings.reshape(len(batch), -1)


def align(image: Frames, warp: Floats) -> Frames:
    """The aligned face [112, 112, 3]: bilinear, black outside the image (insightface's norm_crop)."""
    import cv2

    crop: Frames = cv2.warpAffine(image, warp, (CROP, CROP), flags=cv2.INTER_LINEAR, borderValue=0)
    return crop
