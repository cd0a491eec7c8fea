"""Flesh and cloth: the tubes of one person, made once per clip from their appearance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pipelines.performers.body import Appearance
from pipelines.performers.fabric import Tile
from pipelines.performers.face import head_profile
from pipelines.performers.labels import BOTTOM, DRESS, SHOES, SKIN, TOP
from pipelines.performers.piece import LUT, Floats
from pipelines.performers.tube import Tube

OWNERS = {
    name: index
    for index, name in enumerate(
        (
            "pelvis",
            "trunk",
            "neck",
            "head",
            "hair",
            "drape",
            "skirt",
            "left_upper_arm",
            "left_forearm",
            "left_hand",
            "left_thigh",
            "left_shin",
            "left_foot",
            "right_upper_arm",
            "right_forearm",
            "right_hand",
            "right_thigh",
            "right_shin",
            "right_foot",
            "belly",
            "neckline",
            "left_sole",
            "right_sole",
        ),
        start=1,
    )
}

# DensePose parts (back, front) of each limb.
LIMB_PARTS = {
    "left_thigh": (8, 10),
    "right_thigh": (7, 9),
    "left_shin": (12, 14),
    "right_shin": (11, 13),
    "left_upper_arm": (15, 17),
    "right_upper_arm": (16, 18),
    "left_forearm": (19, 21),
    "right_forearm": (20, 22),
}
_FEET = (OWNERS["left_foot"], OWNERS["right_foot"])
_CHEST = 0.8  # a trunk is flatter than a tube
_COARSE_PX = 400  # body height on the canvas from which single texels would be seen
HAND_PARTS = {"left": 4, "right": 3}
FOOT_PARTS = {"left": 5, "right": 6}


def _profile(at: list[float], widths: list[float], unit: float) -> Floats:
    """[LUT] px from a few half widths in body heights."""
    return (np.interp(np.linspace(0, 1, LUT), at, widths) * unit).astype(np.float32)


def trunk_profile(look: Appearance, unit: float, start: float = 0.0, loose: float = 0.0) -> Floats:
    """Half widths from `start` (0 hip line) to the neck base."""
    p = look.proportions
    at = [-0.12, 0.06, 0.42, 0.72, 0.84, 0.91, 0.955, 0.985, 1.0]
    widths = [
        p.hips * 0.96,
        p.hips,
        p.waist,
        p.chest,
        p.shoulder + 0.004,
        0.96 * p.shoulder,
        0.7 * p.shoulder,
        0.046,
        0.034,
    ]
    waist = [1.0, 1.0, 1.0, 0.6, 0.2, 0, 0, 0, 0]
    widths = [w + loose * c for w, c in zip(widths, waist, strict=True)]
    return (np.interp(np.linspace(start, 1, LUT), at, widths) * unit).astype(np.float32)


def _limb(look: Appearance, name: str, unit: float) -> Tube:
    """One arm or leg segment with its share of the sleeve or trouser leg."""
    g, kind = look.proportions.girth, name.split("_", 1)[1]
    arm, second = kind in ("upper_arm", "forearm"), kind in ("forearm", "shin")
    widths = {
        "thigh": [0.058, 0.056, 0.049, 0.039],
        "shin": [0.038, 0.041, 0.032, 0.023],
        "upper_arm": [0.0225, 0.03, 0.028, 0.0245],
        "forearm": [0.025, 0.0265, 0.022, 0.0165],
    }[kind]
    cut = (look.sleeve if arm else look.leg) - second
    loose = 0.002 + 0.005 * look.looseness if arm else 0.003
    extra = [loose] * 4
    if look.bottom == "wide" and not arm:
        extra = [0.013, 0.018, 0.028, 0.036] if second else [0.003, 0.006, 0.01, 0.013]
    covered = [w * g + (e if cut > t else 0.0) for w, e, t in zip(widths, extra, (0.0, 0.3, 0.65, 1.0), strict=True)]
    return Tube(
        radii=_profile([0, 0.18 if kind == "upper_arm" else 0.3, 0.65, 1], covered, unit),
        skin=look.skin,
        cloth=look.top_cloth if arm else look.bottom_cloth,
        cut=cut,
        repeat=1.0 if arm else 1.5,
        wraps=0.5,
        fold=0.6 + 0.4 * look.looseness,
        fold_phase=len(name) + 1.3 * second,
        flat=(False, kind == "shin" and look.bottom == "wide"),
        parts=LIMB_PARTS[name],
        owner=OWNERS[name],
        shadow={"upper_arm": 0.14, "forearm": 0.3}.get(kind, 0.12),
        spares=_neighbours(name),
        blunt={"upper_arm": 1.25, "thigh": 1.9}.get(kind, 1.0),
        fades=(*(o for o in _neighbours(name) if o not in _FEET), *([OWNERS["trunk"]] if kind == "upper_arm" else [])),
        labels=(_garment(look, upper=arm), SKIN),
    )


def _garment(look: Appearance, *, upper: bool) -> int:
    """Label of what is worn on the upper or lower body."""
    return DRESS if look.bottom == "dress" else TOP if upper else BOTTOM


def _neighbours(name: str) -> tuple[int, ...]:
    side, kind = name.split("_", 1)
    chain = {
        "upper_arm": ["forearm", "hand"],
        "forearm": ["upper_arm", "hand"],
        "thigh": ["shin"],
        "shin": ["thigh", "foot"],
    }[kind]
    shared = ["pelvis", "skirt"] if kind == "thigh" else []
    return tuple(OWNERS[f"{side}_{other}"] for other in chain) + tuple(OWNERS[other] for other in shared)


def _trunk(look: Appearance, unit: float) -> dict[str, Tube]:
    loose = 0.006 + 0.01 * look.looseness
    dressed = look.bottom == "dress"
    bottom = look.top_cloth if dressed else look.bottom_cloth
    hips = look.proportions.hips
    return {
        "belly": Tube(
            radii=trunk_profile(look, unit),
            skin=look.skin,
            parts=(1, 2),
            owner=OWNERS["belly"],
            flat=(True, True),
            thick=0.72,
            round=_CHEST,
        ),
        "pelvis": Tube(
            radii=_profile([0, 0.5, 1], [0.8 * hips, hips * 0.97, 0.84 * hips], unit),
            skin=look.skin,
            cloth=bottom,
            repeat=0.5,
            flat=(True, True),
            parts=(1, 2),
            owner=OWNERS["pelvis"],
            thick=0.74,
            round=_CHEST,
            labels=(_garment(look, upper=False), SKIN),
        ),
        "shirt": Tube(
            radii=trunk_profile(look, unit, look.hem, loose),
            skin=look.skin,
            cloth=look.top_cloth,
            repeat=2.0,
            fold=0.9,
            parts=(1, 2),
            owner=OWNERS["trunk"],
            shadow=0.22,
            spares=(OWNERS["drape"], OWNERS["belly"]),
            flat=(True, True),
            thick=0.72,
            round=_CHEST,
            labels=(_garment(look, upper=True), SKIN),
        ),
        "skirt": Tube(
            radii=np.ones(LUT, np.float32),
            skin=look.skin,
            cloth=bottom,
            repeat=1.6,
            wraps=1.0,
            fold=1.8,
            parts=(9, 10),
            owner=OWNERS["skirt"],
            shadow=0.25,
            spares=(OWNERS["pelvis"],),
            thick=0.6,
            labels=(_garment(look, upper=False), SKIN),
        ),
    }


def _head(look: Appearance, unit: float) -> dict[str, Tube]:
    height = look.proportions.head * unit
    slim = 0.0245 if look.feminine else 0.03
    return {
        "neck": Tube(
            radii=_profile([0, 0.4, 1], [slim * 1.15, slim, slim * 1.02], unit),
            skin=look.skin * 0.95,
            parts=(1, 2),
            owner=OWNERS["neck"],
        ),
        "head": Tube(
            radii=head_profile(look.face) * height,
            skin=look.skin,
            parts=(23, 24),
            owner=OWNERS["head"],
            shadow=0.34,
            spares=(OWNERS["hair"], OWNERS["drape"]),
        ),
    }


def _feet(look: Appearance, unit: float) -> dict[str, Tube]:
    feet: dict[str, Tube] = {}
    for side in ("left", "right"):
        radii = _profile([0, 0.35, 0.75, 1], [0.021, 0.023, 0.026, 0.02], unit)
        for name, colour, size in (("sole", look.sole, 1.04), ("foot", look.shoe, 1.0)):
            feet[f"{side}_{name}"] = Tube(
                radii=radii * np.float32(size),
                skin=colour,
                parts=(FOOT_PARTS[side], FOOT_PARTS[side]),
                owner=OWNERS[f"{side}_{name}"],
                round_ends=True,
                labels=(SHOES, SHOES),
            )
    return feet


def _finer(cloth: Tile, unit: float) -> Tile:
    """The tile with more texels where the body is large enough to show them."""
    import cv2

    if unit < _COARSE_PX:
        return cloth
    wrapped = np.pad(cloth, ((4, 4), (4, 4), (0, 0)), mode="wrap")
    large = cv2.resize(wrapped, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.clip(large[16:-16, 16:-16], 0, 255), np.float32)


def dress_up(look: Appearance, unit: float) -> dict[str, Tube]:
    """Every tube by name; `unit` is px per body height."""
    look = replace(look, top_cloth=_finer(look.top_cloth, unit), bottom_cloth=_finer(look.bottom_cloth, unit))
    limbs = {name: _limb(look, name, unit) for name in LIMB_PARTS}
    return {**limbs, **_trunk(look, unit), **_head(look, unit), **_feet(look, unit)}
