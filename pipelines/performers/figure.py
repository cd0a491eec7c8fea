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
from pipelines.performers.paint import Canvas
from pipelines.performers.piece import LUT, Anatomy, Floats
from pipelines.performers.stance import Stance
from pipelines.performers.tube import Tube, paint_tube
from pipelines.performers.wardrobe import HAND_PARTS, OWNERS

Painter = Callable[[Canvas], None]

_ARM_BIAS = 0.045  # arms at the sides are painted over the trunk, not under it (body heights)


def _yaw_scale(yaw: float, depth: float) -> float:
    """Seen width of an ellipse with half axes 1 and `depth`, turned by yaw."""
    return float(np.hypot(np.cos(yaw), depth * np.sin(yaw)))


def _is_away(stance: Stance) -> bool:
    """We see the back of the head, so long hair hangs between us and the trunk."""
    return bool(stance.head_frame[3, 2] < stance.head_frame[0, 2])


def _bow(hip: Floats, waist: Floats, neck: Floats) -> float:
    """How far the waist lies beside the straight line from hip to neck, px."""
    chord, offset = (neck - hip)[:2], (waist - hip)[:2]
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
        if not _is_away(stance):
            self._paint_drape(canvas, stance)
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

    def anatomy(self, canvas: Canvas, stance: Stance) -> Anatomy:
        """Where everything lies that `paint` has just painted."""
        shape, style = self.look.face, STYLES[self.look.hair_style]
        wide = shape.width * _yaw_scale(stance.head_yaw, DEPTH / shape.width)
        head = np.array([wide * self._head_px, 0.5 * self._head_px, DEPTH * self.look.proportions.head], np.float32)
        return Anatomy(
            unit=self.unit, head_frame=stance.head_frame, head_axes=head, hair_axes=head * np.float32(1.03 * style.shell),
            hands=stance.hands, pieces=canvas.pieces,
        )  # fmt: skip

    @property
    def _head_px(self) -> float:
        return self.look.proportions.head * self.unit

    def _paint_drape(self, canvas: Canvas, stance: Stance) -> None:
        """Long hair, from the back of the head down."""
        centre, front = stance.head_frame[0], stance.head_frame[3] - stance.head_frame[0]
        start = centre - 0.3 * front
        tip = np.array([*(stance.drape_tip - 0.3 * front[:2]), start[2]], np.float32)
        paint_drape(canvas, self.look, start, tip, self._head_px, stance.head_left, OWNERS["drape"])

    def _arms(self, stance: Stance) -> list[tuple[float, Painter]]:
        """(depth, painter) of upper arms, forearms and hands."""
        parts: list[tuple[float, Painter]] = []
        at = stance.points
        for side in ("left", "right"):
            for name, first, second in (("upper_arm", "shoulder", "elbow"), ("forearm", "elbow", "wrist")):
                a, b = at[f"{side}_{first}"], at[f"{side}_{second}"]
                if first == "shoulder":  # the flesh begins inside the trunk
                    a = a + 0.1 * (at["waist"] - a)
                limb = partial(paint_tube, tube=self.tubes[f"{side}_{name}"], start=a, end=b, facing=stance.chest_front)
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
            paint_tube(canvas, self.tubes[f"{side}_thigh"], at[f"{side}_hip"], at[f"{side}_knee"], front)
            paint_tube(canvas, self.tubes[f"{side}_shin"], at[f"{side}_knee"], at[f"{side}_ankle"], front)
            if not covered:
                self._paint_foot(canvas, stance, side)
        if self.look.bottom in ("skirt", "dress"):
            self._paint_skirt(canvas, stance)

    def _paint_foot(self, canvas: Canvas, stance: Stance, side: str) -> None:
        at = stance.points
        heel, toe = at[f"{side}_heel"], (at[f"{side}_big_toe"] + at[f"{side}_small_toe"]) / 2
        heel = heel * 0.6 + at[f"{side}_ankle"] * 0.4
        down = np.array([0, 0.008 * self.unit, 0], np.float32)
        paint_tube(canvas, self.tubes[f"{side}_sole"], heel + down, toe + down, stance.pelvis_front)
        paint_tube(canvas, self.tubes[f"{side}_foot"], heel, toe, stance.pelvis_front)

    def _paint_pelvis(self, canvas: Canvas, stance: Stance) -> None:
        """The hips, and the bare waist above them where the top is short."""
        at = stance.points
        hip, neck = at["pelvis"], at["neck"]
        up = at["waist"] - hip
        if self.look.hem > 0.12:
            narrow = 0.97 * _yaw_scale(stance.chest_yaw, 0.72)
            bow = _bow(hip, at["waist"], neck)
            paint_tube(canvas, self.tubes["belly"], hip, neck, stance.chest_front, scale=narrow, bow=bow)
        scale = _yaw_scale(stance.chest_yaw, 0.74)
        paint_tube(canvas, self.tubes["pelvis"], hip - 0.3 * up, hip + 0.42 * up, stance.pelvis_front, scale=scale)

    def _paint_skirt(self, canvas: Canvas, stance: Stance) -> None:
        """From the waist to above the knees, wide enough for both thighs."""
        at, unit = stance.points, self.unit
        knees = (at["left_knee"] + at["right_knee"]) / 2
        start = at["pelvis"] + 0.3 * (at["waist"] - at["pelvis"])
        end = start + 0.86 * (knees - start)
        spread = abs(float(at["left_knee"][0] - at["right_knee"][0])) / 2
        hem = max(0.115 * unit, 0.8 * spread + 0.055 * unit)
        waist = self.look.proportions.hips * 0.93 * unit
        t = np.linspace(0, 1, LUT, dtype=np.float32)
        hips = max(waist + 0.012 * unit, (self.look.proportions.hip + 0.066 * self.look.proportions.girth) * unit)
        radii = np.interp(t, [0, 0.14, 0.3, 1], [waist, 0.97 * hips, hips, max(hem, hips)])
        flat = replace(self.tubes["skirt"], radii=radii.astype(np.float32), flat=(True, True))
        paint_tube(canvas, flat, start, end, stance.pelvis_left)

    def _paint_trunk(self, canvas: Canvas, stance: Stance) -> None:
        at, look = stance.points, self.look
        scale = _yaw_scale(stance.chest_yaw, 0.72)
        hip, neck = at["pelvis"], at["neck"]
        bow = _bow(hip, at["waist"], neck) * (1 - look.hem)
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
            trunk = OWNERS["trunk"]
            canvas.tint(ring, look.top_cloth.mean((0, 1)) * 0.7, trunk, grow=2 * canvas.grain)
            canvas.tint(ring, look.skin * 0.93, trunk)
            canvas.pieces[OWNERS["neckline"]] = replace(canvas.pieces[OWNERS["trunk"]], cut=0.0)
            canvas.reassign(ring, OWNERS["neckline"], OWNERS["trunk"])

    def _paint_head(self, canvas: Canvas, stance: Stance) -> None:
        at, look, height = stance.points, self.look, self._head_px
        head, skull = at["head"], at["skull"]
        up = (at["crown"] - head)[:2]
        up = up / max(float(np.hypot(*up)), 1e-3)
        top = np.array([*(0.1 * height * up), 0], np.float32)
        paint_tube(canvas, self.tubes["neck"], at["neck"], skull + top, stance.chest_front)
        wide = _yaw_scale(stance.head_yaw, DEPTH / look.face.width)
        side_hair = STYLES[look.hair_style].side < -0.3
        if not side_hair:
            for ear, light in (("right_ear", 0.88), ("left_ear", 0.78)):
                place = at[ear][:2] + 0.05 * (head[:2] - at[ear][:2])
                canvas.disc(place, 0.075 * height, look.skin * light)
                canvas.label_disc(place, 0.075 * height, 24 if ear == "left_ear" else 23, OWNERS["head"])
        paint_tube(
            canvas,
            self.tubes["head"],
            head + 10 * CHIN * top,
            head + 10 * BROW * top,
            stance.head_left,
            scale=wide,
        )
        paint_features(canvas, look, stance.face, stance.face_seen, height, OWNERS["head"])
        if _is_away(stance):
            self._paint_drape(canvas, stance)
        paint_hair(canvas, look, head[:2], up, height, stance.head_yaw, stance.head_pitch, OWNERS["hair"])
