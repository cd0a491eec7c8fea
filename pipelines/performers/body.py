"""What one person looks like: proportions, skin, hair, face and clothes, all from one seed.

Lengths are fractions of the body height; colours are RGB 0..255.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from pipelines.performers.fabric import BRIGHT, MUTED, Tile, pick, sample_fabric

Colour = npt.NDArray[np.float32]
Hair = Literal["crop", "parted", "bob", "long", "afro", "bun", "ponytail", "shaved"]
Bottom = Literal["slim", "wide", "shorts", "skirt", "dress"]

SKINS = [
    (244, 206, 180),
    (232, 188, 156),
    (218, 168, 130),
    (198, 142, 104),
    (166, 112, 78),
    (130, 84, 58),
    (98, 62, 44),
    (238, 196, 170),
]
HAIRS = [
    (34, 27, 25),
    (52, 36, 28),
    (84, 54, 36),
    (126, 82, 48),
    (186, 142, 84),
    (146, 60, 38),
    (96, 92, 92),
    (60, 40, 58),
    (214, 184, 130),
]
EYES = [(74, 50, 34), (52, 36, 28), (70, 100, 130), (84, 104, 70), (104, 76, 44)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Proportions:
    """Lengths of the skeleton and thicknesses of the flesh, in body heights."""

    head: float = 0.152  # chin to crown
    shoulder: float = 0.1  # neck to shoulder joint
    hip: float = 0.052  # pelvis centre to hip joint
    pelvis: float = 0.505  # height of the hip joints above the floor
    spine: float = 0.315  # hip line to neck base
    neck: float = 0.03  # neck base to skull base
    upper_arm: float = 0.15
    forearm: float = 0.132
    hand: float = 0.105
    thigh: float = 0.242
    shin: float = 0.228
    foot: float = 0.125  # heel to toe
    ankle: float = 0.043  # height of the ankle joint above the floor
    girth: float = 1.0  # thickness of limbs
    chest: float = 0.098  # half widths of the trunk
    waist: float = 0.078
    hips: float = 0.094


@dataclass(frozen=True, kw_only=True, slots=True)
class FaceShape:
    """Offsets of the face's parts, in head heights; 0 is the average face."""

    width: float  # half width of the skull
    jaw: float  # half width at the jaw
    eye_gap: float  # centre to eye centre
    eye_size: float  # half width of an eye
    eye_open: float  # half height of an eye
    brow_tilt: float
    brow_weight: float  # thickness
    nose: float  # half width of the nostrils
    mouth: float  # half width of the mouth
    lips: float  # half height of the closed mouth


@dataclass(frozen=True, kw_only=True, slots=True)
class Appearance:
    """Everything of a person that stays when they move."""

    proportions: Proportions
    face: FaceShape
    feminine: bool
    stature: float  # body height relative to the frame's standard
    skin: Colour
    lip: Colour
    hair_style: Hair
    hair: Colour
    eye: Colour
    bottom: Bottom
    sleeve: float  # end of the sleeve along the arm: 0 shoulder, 1 elbow, 2 wrist
    leg: float  # end of the trousers along the leg: 0 hip, 1 knee, 2 ankle
    hem: float  # where the top ends, 0 hip line, 1 neck base
    neckline: float  # radius of the neckline, in neck widths
    looseness: float  # how far the cloth stands off the body
    top_cloth: Tile
    bottom_cloth: Tile
    shoe: Colour
    sole: Colour
    beard: float  # 0 none .. 1 full
    glasses: bool


def _proportions(rng: np.random.Generator, feminine: bool) -> Proportions:
    build = float(np.clip(rng.normal(0, 1), -1.7, 1.9))
    girth = 1.0 + 0.09 * build - 0.04 * feminine
    wide = 0.007 * build
    return Proportions(
        head=0.157 + rng.uniform(-0.004, 0.008),
        shoulder=(0.094 if feminine else 0.106) + 0.35 * wide + rng.uniform(-0.004, 0.004),
        hip=0.05 + 0.2 * wide,
        pelvis=0.505 + rng.uniform(-0.01, 0.012),
        girth=girth,
        chest=(0.088 if feminine else 0.103) + wide,
        waist=(0.068 if feminine else 0.086) + 1.25 * wide,
        hips=(0.097 if feminine else 0.09) + wide,
        hand=0.105 + rng.uniform(-0.004, 0.004),
    )


def _face(rng: np.random.Generator, feminine: bool) -> FaceShape:
    return FaceShape(
        width=0.365 + rng.uniform(-0.02, 0.02),
        jaw=0.235 + rng.uniform(-0.03, 0.03) + 0.02 * (not feminine),
        eye_gap=0.16 + rng.uniform(-0.01, 0.01),
        eye_size=0.092 + rng.uniform(-0.008, 0.01),
        eye_open=0.048 + rng.uniform(-0.006, 0.008),
        brow_tilt=rng.uniform(-0.02, 0.02),
        brow_weight=(0.03 if feminine else 0.042) + rng.uniform(-0.008, 0.008),
        nose=0.065 + rng.uniform(-0.012, 0.014),
        mouth=0.135 + rng.uniform(-0.02, 0.02),
        lips=0.036 + rng.uniform(-0.008, 0.01),
    )


def _hair_style(rng: np.random.Generator, feminine: bool) -> Hair:
    women: list[Hair] = ["long", "bob", "bun", "ponytail", "afro", "parted", "long"]
    men: list[Hair] = ["crop", "parted", "crop", "shaved", "afro", "bob"]
    styles = women if feminine else men
    return styles[rng.integers(len(styles))]


def _clothes(rng: np.random.Generator, feminine: bool) -> tuple[Bottom, float, float, float]:
    """(bottom, sleeve end, leg end, hem)."""
    women: list[Bottom] = ["slim", "wide", "skirt", "dress", "shorts", "slim"]
    men: list[Bottom] = ["slim", "wide", "slim", "shorts"]
    bottom = (women if feminine else men)[rng.integers(6 if feminine else 4)]
    sleeve = float(rng.choice([0.16, 0.62, 0.72, 1.5, 1.95], p=[0.14, 0.3, 0.2, 0.11, 0.25]))
    leg = {"slim": 1.93, "wide": 2.01, "shorts": float(rng.uniform(0.5, 0.85)), "skirt": 0.0, "dress": 0.0}[bottom]
    hem = -0.06 if bottom == "dress" else float(rng.choice([0.02, 0.1, 0.24 if feminine else 0.06]))
    return bottom, sleeve, leg, hem


def sample_appearance(identity: int) -> Appearance:
    """The person of a seed (any int >= 0)."""
    rng = np.random.default_rng([identity, 0xB0D1])
    feminine = bool(rng.random() < 0.5)
    tone = rng.integers(len(SKINS))
    skin = pick(rng, [SKINS[tone]])
    hair = pick(rng, HAIRS[:4] if tone in (4, 5, 6) else HAIRS)
    bottom, sleeve, leg, hem = _clothes(rng, feminine)
    top_cloth = sample_fabric(rng, bottom=False)
    lip = skin * (0.78, 0.55, 0.56) + np.array((34, 0, 8)) * feminine
    return Appearance(
        proportions=_proportions(rng, feminine),
        face=_face(rng, feminine),
        feminine=feminine,
        stature=float(rng.uniform(0.95, 1.0)),
        skin=skin,
        lip=lip.astype(np.float32),
        hair_style=_hair_style(rng, feminine),
        hair=hair,
        eye=pick(rng, EYES),
        bottom=bottom,
        sleeve=sleeve,
        leg=leg,
        hem=hem,
        neckline=float(rng.uniform(0.9, 1.9 if feminine else 1.4)),
        looseness=float(rng.uniform(0.0, 1.0)),
        top_cloth=top_cloth,
        bottom_cloth=top_cloth if bottom == "dress" else sample_fabric(rng, bottom=True),
        shoe=pick(rng, [(236, 234, 230), *MUTED, *BRIGHT[:4]]),
        sole=pick(rng, [(238, 238, 234), (70, 62, 56), (226, 220, 206)]),
        beard=0.0 if feminine else float(rng.choice([0.0, 0.35, 1.0], p=[0.55, 0.25, 0.2])),
        glasses=bool(rng.random() < 0.1),
    )
