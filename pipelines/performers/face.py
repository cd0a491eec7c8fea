"""Faces: 68 landmarks (iBUG order) on a head that turns, blinks and smiles, and the features painted through them.

Head coordinates: x to the person's left, y up, z to the front, in head heights, origin at mid-head.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipelines.performers.body import Appearance, FaceShape
from pipelines.performers.paint import Canvas
from pipelines.performers.piece import LUT, Floats
from pipelines.performers.pose import Track

DEPTH = 0.43  # half depth of the skull
CHIN, BROW = -0.34, 0.27  # ends of the axis that the head is painted around
_EYE_Y, _BROW_Y, _NOSE_Y, _MOUTH_Y = -0.03, 0.085, -0.185, -0.305


def half_width(face: FaceShape, y: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Half width of the head at height y (-0.5 chin .. 0.5 crown)."""
    heights = [-0.5, -0.48, -0.44, -0.35, -0.25, -0.1, 0.05, 0.2, 0.34, 0.45, 0.5]
    w, jaw = face.width, face.jaw
    return np.interp(y, heights, [0.06, 0.1, 0.15, 0.86 * jaw, 1.1 * jaw, 0.95 * w, w, 0.96 * w, 0.8 * w, 0.55 * w, 0.2])


def head_profile(face: FaceShape) -> Floats:
    """[LUT] half widths from CHIN to BROW, in head heights; the round caps of the tube end at -0.5 and 0.5."""
    y = np.linspace(CHIN, BROW, LUT)
    rounded = np.minimum(half_width(face, y), np.interp(y, [CHIN, CHIN + 0.12, 0.1, BROW], [0.16, 1, 1, 0.24]))
    smooth = np.convolve(np.pad(rounded, 12, mode="edge"), np.ones(25) / 25, mode="valid")
    return smooth.astype(np.float32)


def _on_skull(face: FaceShape, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], lift: float = 0.0) -> npt.NDArray[np.float64]:
    """[N, 3] points of the front surface."""
    across = np.clip(x / half_width(face, y), -1, 1)
    z = DEPTH * np.sqrt(1 - 0.94 * across**2) * np.sqrt(1 - np.clip(y / 0.62, -1, 1) ** 2) + lift
    return np.stack([x, y, z], -1)


def landmark_shapes(face: FaceShape) -> tuple[npt.NDArray[np.float64], ...]:
    """[68, 3] at rest, and what one unit of blink, smile and open mouth adds to it.

    Order as in iBUG: from the person's right (image left when facing the camera) to their left.
    """
    angle = np.linspace(-np.pi / 2, np.pi / 2, 17)
    jaw_y = 0.02 - 0.5 * np.cos(angle) ** 0.9
    jaw = _on_skull(face, np.sin(angle) * half_width(face, jaw_y) * 0.995, np.maximum(jaw_y, -0.49))
    arch = np.array([-0.015, 0.02, 0.03, 0.022, 0.0])
    brow_x = np.linspace(face.eye_gap + 0.115, face.eye_gap - 0.085, 5)
    left_tilt = np.linspace(-1, 1, 5) * face.brow_tilt
    right_brow = _on_skull(face, -brow_x, _BROW_Y + arch + left_tilt, 0.01)
    left_brow = _on_skull(face, brow_x[::-1], (_BROW_Y + arch + left_tilt)[::-1], 0.01)
    nose = np.concatenate(
        [
            _on_skull(face, np.zeros(4), np.linspace(_EYE_Y + 0.01, _NOSE_Y + 0.02, 4)) + np.outer([0, 0.03, 0.06, 0.09], [0, 0, 1]),
            _on_skull(
                face,
                np.linspace(-face.nose, face.nose, 5),
                _NOSE_Y + np.array([0.0, -0.015, -0.025, -0.015, 0.0]),
                0.045,
            ),
        ]
    )
    eye_x = np.array([-1.0, -0.4, 0.4, 1.0, 0.4, -0.4]) * face.eye_size
    eye_y = np.array([-0.1, 1.0, 1.0, 0.0, -0.8, -0.8]) * face.eye_open
    right_eye = _on_skull(face, eye_x - face.eye_gap, eye_y + _EYE_Y)
    left_eye = _on_skull(face, eye_x + face.eye_gap, eye_y[[3, 1, 2, 0, 4, 5]] + _EYE_Y)  # the outer corner is the lower one
    outer_x = np.array([-1, -0.62, -0.25, 0, 0.25, 0.62, 1, 0.6, 0.28, 0, -0.28, -0.6]) * face.mouth
    outer_y = np.array([0, 0.75, 1.05, 0.85, 1.05, 0.75, 0, -0.9, -1.25, -1.35, -1.25, -0.9]) * face.lips
    inner_x = np.array([-0.82, -0.3, 0, 0.3, 0.82, 0.3, 0, -0.3]) * face.mouth
    mouth = _on_skull(face, np.concatenate([outer_x, inner_x]), _MOUTH_Y + np.concatenate([outer_y, np.zeros(8)]), 0.02)
    rest = np.concatenate([jaw, right_brow, left_brow, nose, right_eye, left_eye, mouth])
    blink, smile, opened = np.zeros((68, 3)), np.zeros((68, 3)), np.zeros((68, 3))
    for first in (36, 42):
        blink[first + 1 : first + 3, 1] = rest[first + 4, 1] - rest[first + 1, 1]
    smile[48:68, 1] = 0.055 * (np.abs(rest[48:68, 0]) / face.mouth) ** 2
    smile[48:68, 0] = 0.25 * rest[48:68, 0]
    lower, inner_lower, upper = [55, 56, 57, 58, 59], [65, 66, 67], [61, 62, 63]
    opened[lower, 1], opened[inner_lower, 1], opened[upper, 1] = -0.1, -0.1, 0.01
    opened[4:13, 1] = -0.03
    return rest, blink, smile, opened


def landmarks(face: FaceShape, blink: Track, smile: Track, mouth_open: Track) -> npt.NDArray[np.float64]:
    """[T, 68, 3] in head coordinates."""
    rest, by_blink, by_smile, by_open = landmark_shapes(face)
    return np.asarray(
        rest
        + blink[:, None, None] * by_blink
        + np.clip(smile, 0, 1)[:, None, None] * by_smile
        + np.clip(mouth_open, 0, 1)[:, None, None] * by_open
    )


def _eye(canvas: Canvas, look: Appearance, points: Floats, height: float) -> None:
    """points [6, 2]; a closed eye is a line."""
    opening = float(points[[4, 5], 1].mean() - points[[1, 2], 1].mean())
    lash = np.minimum(look.hair, look.skin * 0.35)
    if opening > 0.025 * height:
        canvas.polygon(points, np.array([246, 244, 240], np.float32))
        centre = points[[1, 2, 4, 5]].mean(0)
        radius = min(0.6 * opening, 0.052 * height)
        canvas.disc(centre, radius, look.eye * 0.7)
        canvas.disc(centre, 0.62 * radius, np.array([16, 14, 14], np.float32))
        canvas.disc(centre + np.array([-0.4, -0.45]) * radius, 0.3 * radius, np.array([250, 250, 250], np.float32))
    canvas.line(points[:4], lash, max(1, round(0.036 * height)))
    canvas.line(points[[3, 4, 5, 0]], look.skin * 0.72, canvas.grain)


def _mouth(canvas: Canvas, look: Appearance, points: Floats, height: float) -> None:
    """points [20, 2]: lips, then teeth and the dark between them."""
    canvas.polygon(points[:12], look.lip)
    gap = float(points[[17, 18, 19], 1].mean() - points[[13, 14, 15], 1].mean())
    if gap > 0.03 * height:
        canvas.polygon(points[12:], np.array([92, 34, 36], np.float32))
        canvas.line(
            points[[13, 14, 15]] + np.array([0, 0.012 * height], np.float32),
            np.array([240, 238, 232], np.float32),
            round(0.035 * height),
        )
    else:
        canvas.line(points[12:17], look.lip * 0.55, canvas.grain)


def _nose(canvas: Canvas, look: Appearance, points: Floats, height: float) -> None:
    """points [9, 2]: a soft shadow beside the bridge, nostrils, a light on the tip."""
    shadow = look.skin * 0.82
    canvas.line(
        np.stack([points[1], points[2], points[8]]) + np.array([0.025 * height, 0], np.float32),
        look.skin * 0.91,
        round(0.03 * height),
    )
    canvas.line(points[4:9], shadow, round(0.03 * height))
    canvas.disc(points[5], 0.014 * height, look.skin * 0.5)
    canvas.disc(points[7], 0.014 * height, look.skin * 0.5)
    canvas.disc(points[3] + np.array([-0.01 * height, 0], np.float32), 0.022 * height, np.minimum(look.skin * 1.1 + 8, 252))


def _beard(canvas: Canvas, look: Appearance, points: Floats, height: float, owner: int) -> None:
    """From ear to ear and over the lip, on the head only; a short one lets the skin through."""
    jaw, middle = points[2:15], points[[2, 14]].mean(0)
    cheeks = points[[35, 33, 31]] + np.array([[0, 0.06], [0, 0.035], [0, 0.06]], np.float32) * height
    outline = np.concatenate([middle + (jaw - middle) * np.float32(1.45), cheeks])
    canvas.tint(outline, look.hair * 0.8, owner, opacity=0.25 + 0.55 * look.beard)


def paint_features(canvas: Canvas, look: Appearance, points: Floats, seen: Floats, height: float, owner: int) -> None:
    """Beard, brows, eyes, nose, mouth, glasses.

    points [68, 2] and height of the head in px, seen [68] cosine to the camera, owner: the head's.
    """
    if seen.max() < 0.1:
        return
    turned = seen[27:36].mean() < 0.1  # at most an eye is left
    if look.beard and not turned:
        _beard(canvas, look, points, height, owner)
    for eye, brow in ((slice(36, 42), slice(17, 22)), (slice(42, 48), slice(22, 27))):
        if seen[eye].mean() > 0.12:
            _eye(canvas, look, points[eye], height)
            canvas.line(points[brow], look.hair * 0.7 + look.skin * 0.1, max(1, round(look.face.brow_weight * height)))
            if look.glasses:
                canvas.ring(
                    points[eye].mean(0),
                    0.112 * height,
                    np.array([44, 40, 44], np.float32),
                    max(1, round(0.018 * height)),
                )
    if not turned:
        _nose(canvas, look, points[27:36], height)
        _mouth(canvas, look, points[48:68], height)
