"""A performance: frames and truth of one person dancing, from seeds."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.clip import Frames
from pipelines.performers.annotation import face_boxes, five_points, visibility, whole_body
from pipelines.performers.background import paint_background
from pipelines.performers.body import Appearance, sample_appearance
from pipelines.performers.camera import Camera
from pipelines.performers.face import landmarks
from pipelines.performers.figure import Figure, Stance
from pipelines.performers.hand import hand_joints
from pipelines.performers.motion import choreograph
from pipelines.performers.paint import Canvas, Floats
from pipelines.performers.pose import Track
from pipelines.performers.skeleton import SIDES, Skeleton, build_skeleton, turn
from pipelines.performers.truth import Truth
from pipelines.performers.wardrobe import dress_up

_SUPERSAMPLING = 2
_BODY_SHARE = 0.85  # of the frame's height, for the tallest performer
_FLOOR = 0.955  # of the frame's height


@dataclass(frozen=True, kw_only=True, slots=True)
class Performance:
    """One clip."""

    frames: Frames
    """[T, H, W, 3] uint8 RGB."""
    truth: Truth
    fps: Fraction


def identity_name(identity: int) -> str:
    """The subject's name in rows and truth files."""
    return f"performer_{identity:04d}"


def _stances(look: Appearance, pose: dict[str, Track], blink: Track, skeleton: Skeleton, camera: Camera) -> list[Stance]:
    """Everything a painter needs, projected, one per frame."""
    p = look.proportions
    crown = skeleton.joints["head"] + turn(skeleton.head, np.array([0.0, 0.5 * p.head, 0.0]))
    ears = {
        f"{name}_ear": skeleton.joints["head"] + turn(skeleton.head, np.array([side * look.face.width, -0.05, -0.02]) * p.head)
        for name, side in SIDES
    }
    points = {name: camera.project(joint) for name, joint in {**skeleton.joints, "crown": crown, **ears}.items()}
    hands = {
        side: camera.project(hand_joints(skeleton, side, p.hand, pose[f"{side}_curl"], pose[f"{side}_flex"])) for side in ("left", "right")
    }
    local = landmarks(look.face, blink, pose["smile"], pose["mouth_open"])
    world = skeleton.joints["head"][:, None] + np.einsum("tij,tkj->tki", skeleton.head, local * p.head)
    face = camera.project(world)
    normal = local * (1.0, 0.35, 1.0) - (0, 0, 0.12)
    normal = np.einsum("tij,tkj->tki", skeleton.head, normal)
    seen = (normal[..., 2] / np.linalg.norm(normal, axis=-1)).astype(np.float32)
    tips = _drape_tips(points["head"][:, :2], p.head * camera.unit_px, look)
    flip = np.array([1, -1, 1])
    chest, pelvis, head_left = (
        (frame * flip).astype(np.float32) for frame in (skeleton.chest[:, :, 2], skeleton.pelvis[:, :, 2], skeleton.head[:, :, 0])
    )
    pelvis_left = (skeleton.pelvis[:, :, 0] * flip).astype(np.float32)
    chest_yaw, head_yaw = (np.arctan2(f[:, 0, 2], f[:, 2, 2]) for f in (skeleton.chest, skeleton.head))
    return [
        Stance(
            points={name: track[t] for name, track in points.items()},
            hands={side: track[t] for side, track in hands.items()},
            face=face[t, :, :2],
            face_seen=seen[t],
            chest_front=chest[t],
            pelvis_front=pelvis[t],
            pelvis_left=pelvis_left[t],
            head_left=head_left[t],
            chest_yaw=float(chest_yaw[t]),
            head_yaw=float(head_yaw[t]),
            head_pitch=float(pose["head_pitch"][t]) + 0.16,
            drape_tip=tips[t],
        )
        for t in range(len(blink))
    ]


def _drape_tips(head: Floats, height: float, look: Appearance) -> Floats:
    """[T, 2] px: long hair follows the head with a delay."""
    from pipelines.performers.hair import STYLES

    lagged = head.copy()
    for t in range(1, len(head)):
        lagged[t] = lagged[t - 1] + 0.22 * (head[t] - lagged[t - 1])
    tip: Floats = head * (0.5, 1.0) + lagged * (0.5, 0.0) + np.array([0, STYLES[look.hair_style].drape * height])
    return tip.astype(np.float32)


def _shadow_feet(backdrop: npt.NDArray[np.uint8], stance: Stance, unit: float) -> npt.NDArray[np.uint8]:
    """The backdrop with a soft shadow under each foot and a wide one under the body."""
    picture = backdrop.copy()
    side = backdrop.shape[0]
    left, right = stance.points["left_heel"], stance.points["right_heel"]
    top = int(np.clip(min(left[1], right[1]) - 0.06 * unit, 0, side - 1))
    y, x = np.arange(top, side, dtype=np.float32)[:, None], np.arange(side, dtype=np.float32)[None]
    middle, floor = float(left[0] + right[0]) / 2, max(float(left[1]), float(right[1])) + 0.012 * unit
    dark = 0.25 * np.exp(-(((x - middle - 0.03 * unit) / (0.2 * unit)) ** 2) - ((y - floor) / (0.035 * unit)) ** 2)
    for foot in (left, right):
        dark += 0.35 * np.exp(-(((x - foot[0] - 0.01 * unit) / (0.055 * unit)) ** 2) - ((y - foot[1] - 0.02 * unit) / (0.018 * unit)) ** 2)
    picture[top:] = picture[top:] * (1 - np.minimum(dark, 0.7))[..., None]
    return picture


def _to_frame(points: Floats) -> Floats:
    """Canvas px to frame px, both with pixel centres at whole numbers."""
    return np.asarray((points + 0.5) / _SUPERSAMPLING - 0.5, np.float32)


def _reduce(canvas: Canvas) -> tuple[Frames, npt.NDArray[np.uint8]]:
    """([H, W, 3] colour, [H, W, 3] IUV) at the frame's size; a pixel is the person's when half of its samples are."""
    import cv2

    side = canvas.rgb.shape[0] // _SUPERSAMPLING
    colour: Any = cv2.resize(canvas.rgb, (side, side), interpolation=cv2.INTER_AREA)
    corners = [(slice(y, None, 2), slice(x, None, 2)) for y in (0, 1) for x in (0, 1)]
    inside = [canvas.part[corner] > 0 for corner in corners]
    iuv = np.zeros((side, side, 3), np.uint8)
    for channel, plane in enumerate((canvas.part, canvas.u, canvas.v)):
        for corner, here in zip(corners, inside, strict=True):  # one of the samples: labels are never averaged
            np.copyto(iuv[..., channel], plane[corner], where=here)
    iuv[sum(here.astype(np.uint8) for here in inside) < 2] = 0
    return colour, iuv


def perform(
    identity: int,
    motion: int,
    *,
    frames: int,
    size: int = 128,
    fps: Fraction = Fraction(24),
    background: int | None = None,
) -> Performance:
    """Frames and truth of `identity` dancing `motion`; equal arguments give equal frames.

    identity, motion, background: seeds >= 0; background None = one that follows from the motion seed.
    frames: T >= 1; a shorter clip is a prefix of a longer one.  size: side of the square frame in px, even, >= 64.
    Raises ValueError for arguments out of range.
    """
    if frames < 1 or size < 64 or size % 2 or min(identity, motion, background or 0) < 0:
        raise ValueError(f"frames={frames} must be at least 1, size={size} even and at least 64, seeds not negative")
    look = sample_appearance(identity)
    pose, blink = choreograph(motion, frames, fps)
    side = size * _SUPERSAMPLING
    camera = Camera(unit_px=side * _BODY_SHARE * look.stature, centre_x=side / 2 - 0.5, floor_y=_FLOOR * side - 0.5)
    skeleton = build_skeleton(look.proportions, pose)
    stances = _stances(look, pose, blink, skeleton, camera)
    figure = Figure(look=look, tubes=dress_up(look, camera.unit_px), unit=camera.unit_px)
    backdrop = paint_background(motion * 7919 + 13 if background is None else background, side)
    pictures, maps, scores = [], [], []
    keypoints = [whole_body(stance) for stance in stances]
    for stance, points in zip(stances, keypoints, strict=True):
        canvas = Canvas(_shadow_feet(backdrop, stance, camera.unit_px))
        figure.paint(canvas, stance)
        picture, iuv = _reduce(canvas)
        pictures.append(picture)
        maps.append(iuv)
        scores.append(visibility(points, canvas.owner, stance))
    face = np.stack([stance.face for stance in stances])
    truth = Truth(
        keypoints=_to_frame(np.stack(keypoints)),
        scores=np.stack(scores),
        iuv=np.stack(maps),
        mask=np.stack(maps)[..., 0] > 0,
        face_box=_to_frame(face_boxes(face)),
        face_points=_to_frame(five_points(face)),
        identity=np.array(identity_name(identity)),
    )
    return Performance(frames=np.stack(pictures), truth=truth, fps=fps)
