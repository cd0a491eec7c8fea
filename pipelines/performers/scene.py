"""Several persons in one picture, far ones first, and what the main one of them shows.

# H, W = frame px; the canvas is SUPERSAMPLING times as large
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.clip import Frames
from pipelines.performers.annotation import OTHER, visibility, whole_body
from pipelines.performers.figure import Figure
from pipelines.performers.labels import SKIN
from pipelines.performers.paint import Canvas
from pipelines.performers.piece import Floats
from pipelines.performers.stance import Stance
from pipelines.performers.surface import Bools, Owners, Surface, next_place, surface_of

SUPERSAMPLING = 2
_SMALLEST_BODY_PX = 220  # on the canvas: where a detail of one px is as fine as can be


@dataclass(frozen=True, kw_only=True, slots=True)
class Actor:
    """One person and where they stand."""

    figure: Figure
    stances: Sequence[Stance]  # of every frame
    nearness: float = 0.0  # body heights that they stand nearer to the camera than the main person


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """What one frame shows of one person."""

    surface: Surface
    owner: Owners  # [H, W]; 0 where the person is not seen
    nearness: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Shot:
    """One frame. The main person's arrays; depth and labels of surfaces in view."""

    picture: Frames  # [H, W, 3]
    iuv: Owners  # [H, W, 3]
    labels: Owners  # [H, W]
    depth: npt.NDArray[np.float16]  # [H, W]
    scores: Floats  # [133]
    views: list[View]  # the main person's first


def picture_of(backdrop: Frames, actors: Sequence[Actor], moment: Sequence[Stance]) -> tuple[Frames, list[Canvas]]:
    """([H, W, 3] the frame, the canvases in the order of `actors`); moment: one stance for each of them."""
    import cv2

    rgb = backdrop.copy()
    for actor, stance in zip(actors, moment, strict=True):
        _shadow_feet(rgb, stance, actor.figure.unit)
    canvases = [Canvas(rgb, grain=actor.figure.unit / _SMALLEST_BODY_PX) for actor in actors]
    for i in drawing_order(actors):
        actors[i].figure.paint(canvases[i], moment[i])
    size = rgb.shape[1] // SUPERSAMPLING, rgb.shape[0] // SUPERSAMPLING
    picture: Any = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    return picture, canvases


def drawing_order(actors: Sequence[Actor]) -> list[int]:
    """Far ones first; the main person, who is the first, before others at the same distance."""
    return sorted(range(len(actors)), key=lambda i: actors[i].nearness)


def shoot(backdrop: Frames, actors: Sequence[Actor], t: int) -> Shot:
    """Frame t; the main person is actors[0]."""
    moment = [actor.stances[t] for actor in actors]
    picture, canvases = picture_of(backdrop, actors, moment)
    order = drawing_order(actors)
    for behind, i in enumerate(order):
        for j in order[behind + 1 :]:
            _hide(canvases[i], canvases[j])
    iuv, owner = _reduce(canvases[0])
    owners = [owner, *(_reduce(canvas)[1] for canvas in canvases[1:])]
    views = [_view(actor, canvas, stance, seen) for actor, canvas, stance, seen in zip(actors, canvases, moment, owners, strict=True)]
    depth, labels = np.full(owner.shape, np.inf, np.float16), np.zeros(owner.shape, np.uint8)
    for view in reversed(views):
        depth[view.surface.at] = -(view.surface.depth + view.nearness)
    labels[views[0].surface.at] = np.maximum(views[0].surface.labels, SKIN)
    scores = visibility(whole_body(moment[0]), canvases[0].owner, moment[0])
    return Shot(picture=picture, iuv=iuv, labels=labels, depth=depth, scores=scores, views=views)


def flow_between(shot: Shot, after: Shot) -> tuple[npt.NDArray[np.float16], Bools]:
    """([H, W, 2] px to the next frame, [H, W] whether the same surface is seen there)."""
    height, width = shot.labels.shape
    flow = np.zeros((height, width, 2), np.float16)
    still = ~np.any([view.owner > 0 for view in (*shot.views, *after.views)], axis=0)
    for view, following in zip(reversed(shot.views), reversed(after.views), strict=True):
        place, seen = next_place(view.surface, following.surface)
        moved = (place - view.surface.place) / SUPERSAMPLING
        rows, columns = view.surface.at
        x, y = np.rint(columns + moved[:, 0]).astype(int), np.rint(rows + moved[:, 1]).astype(int)
        inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
        there = following.owner[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
        flow[rows, columns] = moved
        still[rows, columns] = seen & inside & (there == view.surface.owner)
    return flow, still


def _view(actor: Actor, canvas: Canvas, stance: Stance, owner: Owners) -> View:
    surface = surface_of(owner, actor.figure.anatomy(canvas, stance), SUPERSAMPLING)
    return View(surface=surface, owner=owner, nearness=actor.nearness)


def _hide(canvas: Canvas, nearer: Canvas) -> None:
    """Take away what a nearer person covers."""
    covered = nearer.part > 0
    canvas.owner[covered & (canvas.owner > 0)] = OTHER
    canvas.part[covered] = 0


def _reduce(canvas: Canvas) -> tuple[Owners, Owners]:
    """([H, W, 3] IUV, [H, W] owner) at the frame's size; a pixel is the person's when half of its samples are."""
    packed = canvas.truth.view(np.uint32)[..., 0]
    corners = [(slice(y, None, 2), slice(x, None, 2)) for y in (0, 1) for x in (0, 1)]
    inside = [canvas.part[corner] > 0 for corner in corners]
    reduced = np.zeros(inside[0].shape, np.uint32)
    for corner, here in zip(corners, inside, strict=True):  # one of the samples: labels are never averaged
        np.copyto(reduced, packed[corner], where=here)
    reduced[sum(here.view(np.uint8) for here in inside) < 2] = 0
    planes = reduced.view(np.uint8).reshape(*reduced.shape, 4)
    return planes[..., :3], planes[..., 3]


def _shadow_feet(rgb: Frames, stance: Stance, unit: float) -> None:
    """Darken the floor: softly under each foot and widely under the body."""
    height, width = rgb.shape[:2]
    left, right = stance.points["left_heel"], stance.points["right_heel"]
    top = int(max(min(left[1], right[1]) - 0.06 * unit, 0))
    if top >= height:
        return
    y, x = np.arange(top, height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)[None]
    middle, floor = float(left[0] + right[0]) / 2, max(float(left[1]), float(right[1])) + 0.012 * unit
    spots = [(0.25, middle + 0.03 * unit, floor, 0.2, 0.035)]
    spots += [(0.35, float(foot[0]) + 0.01 * unit, float(foot[1]) + 0.02 * unit, 0.055, 0.018) for foot in (left, right)]
    dark = np.zeros((height - top, width), np.float32)
    for strength, at_x, at_y, wide, high in spots:
        row, column = np.exp(-(((y - at_y) / (high * unit)) ** 2)), np.exp(-(((x - at_x) / (wide * unit)) ** 2))
        dark += np.float32(strength) * row * column
    rgb[top:] = rgb[top:] * (1 - np.minimum(dark, 0.7))[..., None]
