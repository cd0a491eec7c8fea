"""Hair: a shell around the skull that is there where the hairline says, and what hangs behind the head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.performers.body import Appearance, Hair
from pipelines.performers.face import DEPTH
from pipelines.performers.paint import Canvas, lit, offsets
from pipelines.performers.piece import LUT, Floats
from pipelines.performers.tube import Tube


@dataclass(frozen=True, kw_only=True, slots=True)
class Style:
    """Heights of the hairline on the unit sphere of the head: -1 chin .. 1 crown."""

    shell: float  # size relative to the skull
    front: float
    side: float
    back: float
    part: float = 0.0  # slant of the front hairline
    cover: float = 1.0  # opacity
    rough: float = 0.0  # uneven outline
    drape: float = 0.0  # length that hangs behind, in head heights
    knot: tuple[float, float] | None = None  # place of a bun, head heights (side, up)


STYLES: dict[Hair, Style] = {
    "crop": Style(shell=1.06, front=0.5, side=0.06, back=-0.4, part=0.06),
    "parted": Style(shell=1.1, front=0.45, side=-0.04, back=-0.5, part=0.3),
    "bob": Style(shell=1.13, front=0.42, side=-0.62, back=-1.2, part=0.15, drape=0.62),
    "long": Style(shell=1.11, front=0.46, side=-0.5, back=-1.2, part=0.2, drape=1.35),
    "afro": Style(shell=1.36, front=0.36, side=-0.16, back=-0.45, rough=0.03),
    "bun": Style(shell=1.05, front=0.48, side=0.05, back=-0.5, knot=(0.0, 0.6)),
    "ponytail": Style(shell=1.07, front=0.46, side=0.0, back=-0.5, part=0.12, knot=(0.2, 0.42), drape=0.0),
    "shaved": Style(shell=1.015, front=0.55, side=0.1, back=-0.4, cover=0.55),
}


def paint_drape(canvas: Canvas, look: Appearance, start: Floats, tip: Floats, height: float, facing: Floats, owner: int) -> None:
    """What hangs behind the head; start and tip [3] px and depth, height of the head in px."""
    style = STYLES[look.hair_style]
    if style.drape:
        widths = np.interp(np.linspace(0, 1, LUT), [0, 0.25, 0.7, 1], [0.4, 0.46, 0.44, 0.26]).astype(np.float32)
        tube = Tube(radii=widths * height, skin=look.hair * 0.8, parts=(23, 24), owner=owner)
        paint_tube_strands(canvas, tube, start, tip, facing)


def paint_tube_strands(canvas: Canvas, tube: Tube, start: Floats, end: Floats, facing: Floats) -> None:
    """A tube with lighter and darker strands along it."""
    from dataclasses import replace

    from pipelines.performers.fabric import TILE
    from pipelines.performers.tube import paint_tube

    columns = np.arange(TILE, dtype=np.float32) / TILE * 2 * np.pi
    strands = 1 + 0.07 * np.sin(columns * 5) + 0.06 * np.sin(columns * 11 + 1)
    tile = np.broadcast_to(strands[None, :, None] * tube.skin, (TILE, TILE, 3)).astype(np.float32)
    paint_tube(canvas, replace(tube, cloth=tile), start, end, facing)


def _shell(where: tuple[slice, slice], centre: Floats, up: Floats, axes: tuple[float, float]) -> tuple[Floats, Floats, Floats, Floats]:
    """(nx, ny, nz, radius) of the ellipsoid's surface in view: x right, y up, z to the camera."""
    dx, dy = offsets(where, centre)
    nx = (dx * -up[1] + dy * up[0]) / axes[0]
    ny = (dx * up[0] + dy * up[1]) / axes[1]
    radius = np.sqrt(nx * nx + ny * ny)
    return nx, ny, np.sqrt(np.clip(1 - radius * radius, 0, 1)), radius


def _hairline(style: Style, lx: Floats, lz: Floats) -> Floats:
    front = np.clip(lz * 1.7 - 0.25, 0, 1)
    front = front * front * (3 - 2 * front)
    behind = np.clip(-lz * 2, 0, 1)
    line: Floats = style.side + (style.front + style.part * lx - style.side) * front + (style.back - style.side) * behind
    return line


def paint_hair(canvas: Canvas, look: Appearance, centre: Floats, up: Floats, height: float, yaw: float, pitch: float, owner: int) -> None:
    """centre [2] and height of the head in px; up [2] its crown direction in the image; yaw, pitch to the camera in radians."""
    style = STYLES[look.hair_style]
    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    if style.knot:
        knot = centre + height * (style.knot[1] * up + style.knot[0] * cy * np.array([-up[1], up[0]], np.float32))
        canvas.disc(knot, 0.17 * height, look.hair * 0.82)
        canvas.label_disc(knot, 0.17 * height, 24 if knot[0] > centre[0] else 23, owner)
        canvas.disc(knot + np.array([-0.03, -0.04], np.float32) * height, 0.11 * height, np.minimum(look.hair * 1.08 + 6, 250))
    wide = float(np.hypot(look.face.width * cy, DEPTH * sy))
    axes = (wide * style.shell * height, 0.515 * style.shell * height)
    where = canvas.window(centre - max(axes), centre + max(axes), 2 + 0.05 * height)
    if where is None:
        return
    nx, ny, nz, radius = _shell(where, centre + 0.02 * height * up, up, axes)
    lx, lz = nx * cy - nz * sy, nx * sy + nz * cy
    ly = ny * cp + nz * sp
    above = ly - _hairline(style, lx, lz)
    if style.rough:
        radius = (
            radius
            + style.rough * np.clip(1.5 * above, 0, 1) * (np.sin(np.arctan2(ny, nx) * 23) + np.sin(np.arctan2(ny, nx) * 37 + 2)) * 0.5
        )
    alpha = np.clip((1 - radius) * axes[0] + 0.5, 0, 1) * np.clip(above * axes[1] * 0.7 + 0.5, 0, 1)
    angle = np.arctan2(lx, lz + 0.3)
    strands = 1 + 0.07 * np.sin(angle * 16 + ly * 3) + 0.05 * np.sin(angle * 37 - ly * 5)
    shine = np.exp(-(((ly - 0.62) / 0.16) ** 2)) * np.clip(nz, 0, 1) * 0.35
    shade = (lit(nx * -up[1] + ny * up[0], nx * up[0] + ny * up[1], nz) * strands + shine)[..., None]
    canvas.blend(where, np.clip(look.hair * shade + 14 * shine[..., None], 0, 255), alpha * style.cover)
    left = np.where(lx > 0, 24, 23)
    canvas.label(where, alpha >= 0.5, left, 127.5 + 127 * np.clip(lz, -1, 1), 127.5 + 127 * np.clip(ny, -1, 1), owner)
