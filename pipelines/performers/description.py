"""A performer in words: what they wear, as one of twelve names, and a sentence for the clip."""

from __future__ import annotations

import re

import numpy as np

from pipelines.performers.body import Appearance
from pipelines.performers.fabric import Tile

COLOURS: dict[str, tuple[int, int, int]] = {
    "white": (236, 234, 228), "grey": (140, 138, 138), "black": (44, 46, 52), "red": (204, 58, 54), "dark red": (122, 58, 60),
    "orange": (226, 142, 48), "yellow": (236, 200, 80), "beige": (190, 172, 142), "brown": (98, 82, 70), "green": (74, 142, 90),
    "olive": (92, 100, 78), "teal": (42, 112, 116), "blue": (62, 100, 165), "light blue": (104, 142, 182), "navy": (52, 60, 88),
    "purple": (130, 86, 146), "pink": (214, 114, 146),
}  # fmt: skip
_DOES = {"dance": "dancing", "talk": "talking", "fashion": "walking"}
_LONG, _LOOSE, _SLEEVELESS, _CROPPED = 1.2, 0.5, 0.3, 0.2


def clothing_class(look: Appearance) -> str:
    """One of the twelve names of pipelines.extractors.clothing.NAMES: the garment that says most about the outfit."""
    if look.bottom in ("dress", "skirt", "shorts"):
        return str(look.bottom)
    if look.sleeve < _SLEEVELESS or look.hem > _CROPPED:  # a top that hides little: the trousers are what is worn
        return "trousers/jeans"
    if look.sleeve < _LONG:
        return "t-shirt"
    return "sweater/hoodie" if look.looseness > _LOOSE else "shirt"


def colour_name(cloth: Tile) -> str:
    """The nearest of COLOURS to the mean of a tile."""
    mean = cloth.mean((0, 1))
    return min(COLOURS, key=lambda name: float(np.abs(mean - np.array(COLOURS[name])).sum()))


def describe(look: Appearance, action: str, place: str) -> str:
    """A sentence; the first word for a person in it is the performer's. place: as of background.place_of."""
    who = "woman" if look.feminine else "man"
    top = "top" if look.sleeve < _SLEEVELESS else "t-shirt" if look.sleeve < _LONG else "sweater" if look.looseness > _LOOSE else "shirt"
    clothes = f"a {colour_name(look.top_cloth)} {top}"
    if look.bottom == "dress":
        clothes = f"a {colour_name(look.top_cloth)} dress"
    elif look.bottom == "skirt":
        clothes += f" and a {colour_name(look.bottom_cloth)} skirt"
    else:
        clothes += f" and {colour_name(look.bottom_cloth)} {'shorts' if look.bottom == 'shorts' else 'trousers'}"
    clothes = clothes.replace("a orange", "an orange").replace("a olive", "an olive")
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", action).lower()  # JumpingJack, as UCF101 writes it
    does = _DOES.get(action, words if words.endswith("ing") else f"doing {words}")
    return f"a {who} in {clothes} is {does} {place}"
