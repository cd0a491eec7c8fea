"""One person on the canvas: body parts in depth order, for one frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from pipelines.performers.body import Appearance
from pipelines.performers.face import BROW, CHIN, DEPTH, paint_features
from pipelines.performers.hair import STYLES, paint_drape, paint_hair
from pipelines.performers.hand import paint_hand
from pipelines.performers.paint import LUT, Canvas, Floats, Tube, paint_tube
from pipelines.performers.wardrobe import HAND_PARTS, OWNERS

Painter = Callable[[Canvas], None]

_ARM_BIAS = 0.045  # arms at the sides are painted over the trunk, not under it (body heights)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stance:
    """One frame, projected: image px and depth (larger is nearer)."""

    points: dict[str, Floats]  # joint -> [3]
    hands: dict[str, Floats]  # "left"/"right" -> [21, 3]
    face: Floats  # [68, 2]
    face_seen: Floats  # [68] cosine between skin and camera
    chest_front: Floats  # [3] unit vectors in image axes
    pelvis_front: Floats
    pelvis_left: Floats
    head_left: Floats
    chest_yaw: float  # radians
    head_yaw: float
    head_pitch: float  # toward the camera
    drape_tip: Floats  # [2] where long hair ends


def _yaw_scale(yaw: float, depth: float) -> float:
    """Seen width of an ellipse with half axes 1 and `depth`, turned by yaw."""
    return float(np.hypot(np.cos(yaw), depth * np.sin(yaw)))


def _bow(hip: Floats, waist: Floats, neck: Floats) -> float:
    """How far the waist lies beside the straight line from hip to neck, px."""
    chord, offset = neck - hip, waist - hip
    return float(chord[0] * offset[1] - chord[1] * offset[0]) / max(float(np.hypot(*chord)), 1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A person, dressed, at one scale."""

    look: Appearance
    tubes: dict[str, Tube]
    unit: float  # px per body height

    def paint(self, canvas: Canvas, stance: Stance) -> None:
        """Far parts first."""
        head = stance.points["head"]
        paint_drape(canvas, self.look, head[:2], stance.drape_tip, self._head_px, stance.head_left, OWNERS["drape"])
        middle = float(stance.points["neck"][2] + stance.points["pelvis"][2]) / 2
        arms = sorted(self._arms(stance), key=lambda part: part[0])
        for depth, paint in arms:
            if depth + _ARM_BIAS < middle:
                paint(canvas)
        self._paint_legs(canvas, stance)
        self._paint_trunk(canvas, stance)
        ahead = [(d, paint) for d, paint in arms if d + _ARM_BIAS >= middle]
        for depth, paint in ahead:
            if depth + _ARM_BIAS < float(head[2]):
                paint(canvas)
        self._paint_head(canvas, stance)
        for depth, paint in ahead:
            if depth + _ARM_BIAS >= float(head[2]):
                paint(canvas)

    @property
    def _head_px(self) -> float:
        return self.look.proportions.head * self.unit

    def _arms(self, stance: Stance) -> list[tuple[float, Painter]]:
        """(depth, painter) of upper arms, forearms and hands."""
        parts: list[tuple[float, Painter]] = []
        at = stance.points
        for side in ("left", "right"):
            for name, first, second in (("upper_arm", "shoulder", "elbow"), ("forearm", "elbow", "wrist")):
                a, b = at[f"{side}_{first}"], at[f"{side}_{second}"]
                limb = partial(paint_tube, tube=self.tubes[f"{side}_{name}"], start=a[:2], end=b[:2], facing=stance.chest_front)
                # the upper arm never hides its own forearm when the two lie equally deep
                parts.append((float(a[2] + b[2]) / 2 - 0.004 * (name == "upper_arm"), limb))
            depth = max(float(stance.hands[side][:, 2].mean()), parts[-1][0]) + 0.004  # a hand covers its own wrist
            parts.append((depth, partial(self._paint_hand, points=stance.hands[side][:, :2], side=side)))
        return parts

    def _paint_hand(self, canvas: Canvas, points: Floats, side: str) -> None:
        length = self.look.proportions.hand * self.unit
        paint_hand(canvas, points, length, self.look.skin, HAND_PARTS[side], OWNERS[f"{side}_hand"])

    def _paint_legs(self, canvas: Canvas, stance: Stance) -> None:
        at, front = stance.points, stance.pelvis_front
        self._paint_pelvis(canvas, stance)
        for side in sorted(("left", "right"), key=lambda side: float(at[f"{side}_knee"][2])):
            covered = self.look.leg > 1.2
            if covered:
                self._paint_foot(canvas, stance, side)
            paint_tube(canvas, self.tubes[f"{side}_thigh"], at[f"{side}_hip"][:2], at[f"{side}_knee"][:2], front)
            paint_tube(canvas, self.tubes[f"{side}_shin"], at[f"{side}_knee"][:2], at[f"{side}_ankle"][:2], front)
            if not covered:
                self._paint_foot(canvas, stance, side)
        if self.look.bottom in ("skirt", "dress"):
            self._paint_skirt(canvas, stance)

    def _paint_foot(self, canvas: Canvas, stance: Stance, side: str) -> None:
        at = stance.points
        heel, toe = at[f"{side}_heel"][:2], (at[f"{side}_big_toe"][:2] + at[f"{side}_small_toe"][:2]) / 2
        heel = heel * 0.6 + at[f"{side}_ankle"][:2] * 0.4
        down = np.array([0, 0.008 * self.unit], np.float32)
        paint_tube(canvas, self.tubes[f"{side}_sole"], heel + down, toe + down, stance.pelvis_front)
        paint_tube(canvas, self.tubes[f"{side}_foot"], heel, toe, stance.pelvis_front)

    def _paint_pelvis(self, canvas: Canvas, stance: Stance) -> None:
        """The hips, and the bare waist above them where the top is short."""
        at = stance.points
        hip, neck = at["pelvis"][:2], at["neck"][:2]
        up = at["waist"][:2] - hip
        if self.look.hem > 0.12:
            narrow = 0.97 * _yaw_scale(stance.chest_yaw, 0.72)
            bow = _bow(hip, at["waist"][:2], neck)
            paint_tube(canvas, self.tubes["belly"], hip, neck, stance.chest_front, scale=narrow, bow=bow)
        scale = _yaw_scale(stance.chest_yaw, 0.74)
        paint_tube(canvas, self.tubes["pelvis"], hip - 0.3 * up, hip + 0.42 * up, stance.pelvis_front, scale=scale)

    def _paint_skirt(self, canvas: Canvas, stance: Stance) -> None:
        """From the waist to above the knees, wide enough for both thighs."""
        at, unit = stance.points, self.unit
        knees = (at["left_knee"][:2] + at["right_knee"][:2]) / 2
        start = at["pelvis"][:2] + 0.3 * (at["waist"][:2] - at["pelvis"][:2])
        end = start + 0.86 * (knees - start)
        spread = abs(float(at["left_knee"][0] - at["right_knee"][0])) / 2
        hem = max(0.115 * unit, 0.8 * spread + 0.055 * unit)
        waist = self.look.proportions.hips * 0.93 * unit
        t = np.linspace(0, 1, LUT, dtype=np.float32)
        hips = max(waist + 0.012 * unit, (self.look.proportions.hip + 0.066 * self.look.proportions.girth) * unit)
        radii = np.interp(t, [0, 0.3, 1], [waist, hips, max(hem, hips)])
        flat = replace(self.tubes["skirt"], radii=radii.astype(np.float32), flat=(True, True))
        paint_tube(canvas, flat, start, end, stance.pelvis_left)

    def _paint_trunk(self, canvas: Canvas, stance: Stance) -> None:
        at, look = stance.points, self.look
        scale = _yaw_scale(stance.chest_yaw, 0.72)
        hip, neck = at["pelvis"][:2], at["neck"][:2]
        bow = _bow(hip, at["waist"][:2], neck) * (1 - look.hem)
        start = hip + look.hem * (neck - hip)
        paint_tube(canvas, self.tubes["shirt"], start, neck, stance.chest_front, scale=scale, bow=bow)
        self._paint_neckline(canvas, stance)

    def _paint_neckline(self, canvas: Canvas, stance: Stance) -> None:
        at, look = stance.points, self.look
        width = 0.03 * self.unit * look.neckline * abs(np.cos(stance.chest_yaw))
        depth = 0.03 * self.unit * look.neckline
        shift = np.array([0.03 * self.unit * np.sin(stance.chest_yaw), 0.0], np.float32)
        if stance.chest_front[2] > 0:
            angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
            ring = np.stack([np.cos(angle) * width, np.sin(angle) * depth], -1).astype(np.float32) + at["neck"][:2] + shift
            canvas.polygon(ring, look.top_cloth.mean((0, 1)) * 0.7, grow=2)
            canvas.polygon(ring, look.skin * 0.93)

    def _paint_head(self, canvas: Canvas, stance: Stance) -> None:
        at, look, height = stance.points, self.look, self._head_px
        head, skull = at["head"][:2], at["skull"][:2]
        up = at["crown"][:2] - head
        up = up / max(float(np.hypot(*up)), 1e-3)
        paint_tube(canvas, self.tubes["neck"], at["neck"][:2], skull + 0.1 * height * up, stance.chest_front)
        wide = _yaw_scale(stance.head_yaw, DEPTH / look.face.width)
        side_hair = STYLES[look.hair_style].side < -0.3
        if not side_hair:
            for ear, light in (("right_ear", 0.88), ("left_ear", 0.78)):
                canvas.disc(at[ear][:2], 0.085 * height, look.skin * light)
        paint_tube(
            canvas,
            self.tubes["head"],
            head + CHIN * height * up,
            head + BROW * height * up,
            stance.head_left,
            scale=wide,
        )
        paint_features(canvas, look, stance.face, stance.face_seen, height)
        paint_hair(canvas, look, head, up, height, stance.head_yaw, stance.head_pitch, OWNERS["hair"])
