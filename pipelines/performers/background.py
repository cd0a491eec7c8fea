"""Where a performer dances: studio, room, stage, street or park. One still picture per clip."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from pipelines.performers.camera import FULL_BODY, Framing

Picture = npt.NDArray[np.float32]
Brush = Callable[[np.random.Generator, int], Picture]


def _hsv(hue: float, saturation: float, value: float) -> npt.NDArray[np.float32]:
    """RGB 0..255 of a colour; all arguments 0..1."""
    channels = (np.array([5, 3, 1]) + hue * 6) % 6
    return ((value - value * saturation * np.clip(np.minimum(channels, 4 - channels), 0, 1)) * 255).astype(np.float32)


def _ramp(top: npt.NDArray[np.float32], bottom: npt.NDArray[np.float32], side: int) -> Picture:
    weight = np.linspace(0, 1, side, dtype=np.float32)[:, None, None]
    return np.ascontiguousarray(np.broadcast_to(top + (bottom - top) * weight, (side, side, 3)))


def _floor(picture: Picture, rng: np.random.Generator, colour: npt.NDArray[np.float32], horizon: float, planks: bool) -> None:
    """Fill from the horizon down, lighter in front, with planks in perspective where asked."""
    side = picture.shape[0]
    rows = np.arange(int(horizon * side), side)
    depth = ((rows / side - horizon) / (1 - horizon))[:, None]
    shade = np.broadcast_to(0.82 + 0.25 * depth, (len(rows), side)).copy()
    if planks:
        x = (np.arange(side)[None] / side - 0.5) / (0.25 + depth)
        cell = np.floor(x * 9).astype(int)
        tint = np.random.default_rng(rng.integers(1 << 30)).uniform(0.9, 1.06, 64)
        shade *= tint[cell % 64]
        shade *= 1 - 0.22 * (np.abs(x * 9 - np.round(x * 9)) < 0.035)
    picture[rows] = colour * shade[..., None]


def _studio(rng: np.random.Generator, side: int) -> Picture:
    hue, saturation = rng.random(), rng.uniform(0.05, 0.45)
    picture = _ramp(_hsv(hue, saturation, rng.uniform(0.5, 0.85)), _hsv(hue, saturation * 0.7, rng.uniform(0.75, 0.95)), side)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side - 0.5
    glow = np.exp(-(x**2 + (y + 0.1) ** 2) / 0.16)[..., None]
    picture = picture * (0.78 + 0.3 * glow)
    floor = picture[int(0.87 * side) :]
    floor *= np.linspace(0.9, 1.04, len(floor), dtype=np.float32)[:, None, None]
    return np.asarray(picture, np.float32)


def _room(rng: np.random.Generator, side: int) -> Picture:
    import cv2

    wall = _hsv(rng.random(), rng.uniform(0.08, 0.32), rng.uniform(0.65, 0.92))
    picture = _ramp(wall * 1.03, wall * 0.9, side)
    horizon = rng.uniform(0.78, 0.84)
    _floor(picture, rng, _hsv(rng.uniform(0.06, 0.1), rng.uniform(0.3, 0.5), rng.uniform(0.5, 0.75)), horizon, planks=True)
    line = int(horizon * side)
    cv2.rectangle(picture, (0, line - side // 40), (side, line), (wall * 0.55 + 110).tolist(), -1)
    for place in (rng.uniform(0.02, 0.14), rng.uniform(0.68, 0.8)):
        x, y = int(place * side), int(rng.uniform(0.08, 0.22) * side)
        w, h = int(rng.uniform(0.16, 0.22) * side), int(rng.uniform(0.2, 0.34) * side)
        frame = _hsv(rng.random(), 0.2, rng.choice([0.25, 0.95]))
        cv2.rectangle(picture, (x, y), (x + w, y + h), frame.tolist(), -1)
        inner = picture[y + 5 : y + h - 4, x + 5 : x + w - 4]
        inner[:] = _ramp(_hsv(rng.random(), 0.4, 0.9), _hsv(rng.random(), 0.35, 0.7), side)[: inner.shape[0], : inner.shape[1]]
    if rng.random() < 0.6:
        _plant(picture, rng, int(rng.choice([0.09, 0.91]) * side), line + side // 30)
    return picture


def _plant(picture: Picture, rng: np.random.Generator, x: int, floor: int) -> None:
    import cv2

    side = picture.shape[0]
    for _ in range(14):
        tip = (int(x + rng.normal(0, 0.05) * side), int(floor - rng.uniform(0.14, 0.36) * side))
        cv2.line(
            picture,
            (x, floor - side // 12),
            tip,
            _hsv(rng.uniform(0.25, 0.4), 0.5, rng.uniform(0.3, 0.6)).tolist(),
            side // 50,
        )
    pot = np.array(
        [
            [x - side // 24, floor - side // 10],
            [x + side // 24, floor - side // 10],
            [x + side // 32, floor],
            [x - side // 32, floor],
        ]
    )
    cv2.fillPoly(picture, [pot], _hsv(rng.uniform(0.02, 0.08), 0.5, 0.65).tolist())


def _stage(rng: np.random.Generator, side: int) -> Picture:
    hue = rng.random()
    picture = _ramp(_hsv(hue, 0.7, 0.1), _hsv(hue, 0.6, 0.28), side)
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    for lamp in (rng.uniform(0, 0.25), rng.uniform(0.4, 0.6), rng.uniform(0.75, 1.0)):
        aim = 0.5 + rng.uniform(-0.15, 0.15)
        beam = np.exp(-(((x - (lamp + (aim - lamp) * y)) / (0.03 + 0.12 * y)) ** 2)) * (1 - 0.35 * y)
        picture += (beam * 0.42)[..., None] * _hsv((hue + rng.uniform(-0.2, 0.2)) % 1, 0.55, 1.0)
    floor = y > 0.85
    pool = np.exp(-(((x - 0.5) / 0.36) ** 2) - ((y - 0.95) / 0.06) ** 2)
    picture = np.where(floor[..., None], picture * 0.55 + 24 + 95 * pool[..., None], picture)
    return np.asarray(np.clip(picture, 0, 255), np.float32)


def _street(rng: np.random.Generator, side: int) -> Picture:
    import cv2

    picture = _ramp(_hsv(0.58, 0.35, 0.88), _hsv(0.1, 0.12, 0.95), side)
    x = -0.05
    while x < 1:
        width, top = rng.uniform(0.16, 0.34), rng.uniform(0.0, 0.35)
        wall = _hsv(rng.choice([0.04, 0.08, 0.58, 0.1]), rng.uniform(0.1, 0.4), rng.uniform(0.42, 0.8))
        x0, x1, y0 = int(x * side), int((x + width) * side), int(top * side)
        cv2.rectangle(picture, (x0, y0), (x1, side), wall.tolist(), -1)
        step = max(6, int(0.075 * side))
        for wy in range(y0 + step // 2, int(0.74 * side), step):
            for wx in range(x0 + step // 3, x1 - step // 2, step):
                lit = rng.random() < 0.3
                cv2.rectangle(
                    picture,
                    (wx, wy),
                    (wx + step // 2, wy + int(step * 0.6)),
                    (wall * 0.55 + (90 if lit else 10)).tolist(),
                    -1,
                )
        x += width
    picture = cv2.GaussianBlur(picture, (0, 0), side / 130)
    _floor(picture, rng, _hsv(0.6, 0.05, rng.uniform(0.45, 0.68)), 0.82, planks=False)
    cv2.rectangle(picture, (0, int(0.82 * side)), (side, int(0.845 * side)), (176, 172, 166), -1)
    return np.asarray(picture, np.float32)


def _park(rng: np.random.Generator, side: int) -> Picture:
    import cv2

    picture = _ramp(_hsv(0.57, 0.4, 0.92), _hsv(0.13, 0.1, 0.98), side)
    for layer in range(3):
        for _ in range(16):
            centre = (
                int(rng.uniform(-0.05, 1.05) * side),
                int((0.42 + 0.14 * layer + rng.uniform(-0.06, 0.06)) * side),
            )
            green = _hsv(rng.uniform(0.2, 0.36), rng.uniform(0.3, 0.55), 0.72 - 0.13 * layer + rng.uniform(-0.06, 0.06))
            cv2.circle(picture, centre, int(rng.uniform(0.06, 0.13) * side), green.tolist(), -1)
    picture = cv2.GaussianBlur(picture, (0, 0), side / 70)
    _floor(picture, rng, _hsv(rng.uniform(0.2, 0.28), 0.45, rng.uniform(0.55, 0.7)), 0.77, planks=False)
    return np.asarray(picture, np.float32)


BRUSHES: tuple[Brush, ...] = (_studio, _room, _stage, _street, _park)
_ODDS = (0.32, 0.24, 0.14, 0.15, 0.15)


_PLACES = ("in a studio", "in a room", "on a stage", "in a street", "in a park")


def _choose(background: int) -> tuple[np.random.Generator, int]:
    rng = np.random.default_rng([background, 0xBAC2])
    return rng, int(rng.choice(len(BRUSHES), p=_ODDS))


def place_of(background: int) -> str:
    """Where a background seed is, in words."""
    return _PLACES[_choose(background)[1]]


def paint_background(background: int, side: int) -> npt.NDArray[np.uint8]:
    """[side, side, 3] RGB of a background seed."""
    rng, place = _choose(background)
    picture = BRUSHES[place](rng, side)
    grain = rng.normal(0, 1.2, (side, side, 1)).astype(np.float32)
    return np.clip(picture + grain, 0, 255).astype(np.uint8)


def paint_backdrop(background: int, height: int, width: int, framing: Framing) -> npt.NDArray[np.uint8]:
    """[height, width, 3] RGB: the part of the place that lies behind a person so framed; nearer framings see less of it."""
    zoom = max((framing.body_share / FULL_BODY.body_share) ** 0.6, 1.0)
    side = 2 * round(max(zoom * height, width) / 2)
    picture = paint_background(background, side)
    # the place is painted for a whole body; its row for a height on the body is where the frame's middle shall be
    middle = 0.5 + FULL_BODY.body_share * (FULL_BODY.centre - framing.centre)
    top = int(np.clip(round(middle * side - height / 2), 0, side - height))
    left = (side - width) // 2
    return np.ascontiguousarray(picture[top : top + height, left : left + width])
