"""The ground truth of one performance, and its file: plain arrays in an .npz, no pickles."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt


def truth_path(video: Path) -> Path:
    """The truth lies beside its video: dance.mp4 -> dance.truth.npz."""
    return video.with_name(f"{video.stem}.truth.npz")


@dataclass(frozen=True, kw_only=True, slots=True)
class Truth:
    """T frames of H x W px. Coordinates are px of the frame, pixel centres at whole numbers; left is the person's own."""

    keypoints: npt.NDArray[np.float32]
    """[T, 133, 2] x, y in COCO-WholeBody order; finite even where not drawn."""
    scores: npt.NDArray[np.float32]
    """[T, 133] visibility: 1 seen, 0.5 hidden by the person themself or facing away, 0 outside the frame."""
    iuv: npt.NDArray[np.uint8]
    """[T, H, W, 3] DensePose part 1..24 (0 background), U and V as 0..255."""
    mask: npt.NDArray[np.bool_]
    """[T, H, W] the person, hair and clothes included; where the part is > 0."""
    face_box: npt.NDArray[np.float32]
    """[T, 4] x1, y1, x2, y2 of the face (hairline to chin)."""
    face_points: npt.NDArray[np.float32]
    """[T, 5, 2] eye, eye, nose, mouth corner, mouth corner; the person's right first (image left when facing us)."""
    identity: npt.NDArray[np.str_]
    """[] the person, e.g. "performer_0007"."""

    def save(self, path: Path) -> None:
        """Write all arrays; the file appears whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            with partial.open("wb") as file:
                np.savez_compressed(file, **{field.name: getattr(self, field.name) for field in fields(self)})
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> Truth:
        """Read what `save` wrote. Raises OSError, KeyError or ValueError when the file is not one of ours."""
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return cls(**{field.name: arrays[field.name] for field in fields(cls)})

    def part(self, start: int, end: int, crop: tuple[int, int, int, int] | None = None) -> Truth:
        """Frames start to end (exclusive), in pixels of the crop (x, y, w, h)."""
        x, y, w, h = crop or (0, 0, self.mask.shape[2], self.mask.shape[1])
        corner = np.array([x, y], np.float32)
        return Truth(
            keypoints=self.keypoints[start:end] - corner,
            scores=self.scores[start:end],
            iuv=self.iuv[start:end, y : y + h, x : x + w],
            mask=self.mask[start:end, y : y + h, x : x + w],
            face_box=self.face_box[start:end] - np.tile(corner, 2),
            face_points=self.face_points[start:end] - corner,
            identity=self.identity,
        )

    @property
    def frames(self) -> int:
        """T."""
        return len(self.keypoints)
