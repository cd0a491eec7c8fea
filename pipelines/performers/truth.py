"""The ground truth of one performance, and its file: plain arrays in an .npz, no pickles."""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipelines.performers.labels import FACE, GARMENTS, HAIR, LEFT_HAND, RIGHT_HAND

Bools = npt.NDArray[np.bool_]


def truth_path(video: Path) -> Path:
    """The truth lies beside its video: dance.mp4 -> dance.truth.npz."""
    return video.with_name(f"{video.stem}.truth.npz")


@dataclass(frozen=True, kw_only=True, slots=True)
class Truth:
    """T frames of H x W px. Coordinates are px of the frame, pixel centres at whole numbers; left is the person's own.

    Everything is about the main person where not said otherwise; of what somebody else hides nothing is in the planes.
    """

    keypoints: npt.NDArray[np.float32]
    """[T, 133, 2] x, y in COCO-WholeBody order; finite even where not drawn."""
    scores: npt.NDArray[np.float32]
    """[T, 133] visibility: 1 seen, 0.5 hidden (by the person themself, by another one, or facing away), 0 outside the frame."""
    iuv: npt.NDArray[np.uint8]
    """[T, H, W, 3] DensePose part 1..24 (0 background), U and V as 0..255."""
    labels: npt.NDArray[np.uint8]
    """[T, H, W] what the pixel shows, an index in pipelines.performers.labels.LABELS; > 0 exactly where the part is > 0."""
    depth: npt.NDArray[np.float16]
    """[T, H, W] distance along the view behind the point where the main person stands, in their body heights (nearer is
    smaller, and below 0 in front of that point); of everybody in the scene; inf = background."""
    flow: npt.NDArray[np.float16]
    """[T - 1, H, W, 2] x, y px from each frame's pixel to where its surface is in the next frame; background 0; of everybody."""
    flow_valid: Bools
    """[T - 1, H, W] the same body part (or the background) is what is seen at the flow's end: neither hidden, turned away, nor outside."""
    face_box: npt.NDArray[np.float32]
    """[T, 4] x1, y1, x2, y2 of the face (hairline to chin)."""
    face_points: npt.NDArray[np.float32]
    """[T, 5, 2] eye, eye, nose, mouth corner, mouth corner; the person's right first (image left when facing us)."""
    hand_sharpness: npt.NDArray[np.float32]
    """[T, 2, 2] s_raw and s_128 of the left and right hand's box (pipelines.extractors.hands) in the frame as drawn; 0 without a box."""
    persons: npt.NDArray[np.int32]
    """[T] people of whom something is seen."""
    identity: npt.NDArray[np.str_]
    """[] the person, e.g. "performer_0007"."""
    clothing: npt.NDArray[np.str_]
    """[] one of pipelines.extractors.clothing.NAMES."""
    action: npt.NDArray[np.str_]
    """[] action class."""
    caption: npt.NDArray[np.str_]
    """[] a sentence: person, clothes, action, place."""

    @property
    def mask(self) -> Bools:
        """[T, H, W] the person, hair and clothes included."""
        return np.asarray(self.iuv[..., 0] > 0)

    @property
    def face_mask(self) -> Bools:
        """[T, H, W] the front of the head without hair."""
        return np.asarray(self.labels == FACE)

    @property
    def hand_masks(self) -> Bools:
        """[T, 2, H, W] left, right."""
        return np.stack([self.labels == LEFT_HAND, self.labels == RIGHT_HAND], 1)

    @property
    def hair_mask(self) -> Bools:
        """[T, H, W]."""
        return np.asarray(self.labels == HAIR)

    @property
    def clothing_mask(self) -> Bools:
        """[T, H, W] garments and shoes; which one is in `labels`."""
        return np.isin(self.labels, GARMENTS)

    def save(self, path: Path) -> None:
        """Write all arrays; the file appears whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            # numpy's own savez_compressed takes four times as long for a tenth of the bytes
            with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
                for field in fields(self):
                    with archive.open(f"{field.name}.npy", "w", force_zip64=True) as file:
                        np.save(file, getattr(self, field.name), allow_pickle=False)
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
        x, y, w, h = crop or (0, 0, self.iuv.shape[2], self.iuv.shape[1])
        corner = np.array([x, y], np.float32)
        times, steps = slice(start, end), slice(start, max(end - 1, start))
        rows, columns = slice(y, y + h), slice(x, x + w)
        return replace(
            self,
            keypoints=self.keypoints[times] - corner,
            scores=self.scores[times],
            iuv=self.iuv[times, rows, columns],
            labels=self.labels[times, rows, columns],
            depth=self.depth[times, rows, columns],
            flow=self.flow[steps, rows, columns],
            flow_valid=self._stays(x, y, w, h)[steps, rows, columns],
            face_box=self.face_box[times] - np.tile(corner, 2),
            face_points=self.face_points[times] - corner,
            hand_sharpness=self.hand_sharpness[times],
            persons=self.persons[times],
        )

    def _stays(self, x: int, y: int, w: int, h: int) -> Bools:
        """[T - 1, H, W] flow_valid, and the flow ends inside the crop."""
        if (x, y, h, w) == (0, 0, *self.iuv.shape[1:3]):
            return self.flow_valid
        end_x = np.arange(self.iuv.shape[2]) + self.flow[..., 0].astype(np.float32)
        end_y = np.arange(self.iuv.shape[1])[:, None] + self.flow[..., 1].astype(np.float32)
        return self.flow_valid & (end_x > x - 0.5) & (end_x < x + w - 0.5) & (end_y > y - 0.5) & (end_y < y + h - 0.5)

    @property
    def frames(self) -> int:
        """T."""
        return len(self.keypoints)
