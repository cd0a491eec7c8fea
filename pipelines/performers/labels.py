"""What a pixel shows, as one plane of small numbers: the index in LABELS."""

from __future__ import annotations

LABELS = ("background", "skin", "face", "left hand", "right hand", "hair", "top", "bottom", "dress", "shoes")
SKIN, FACE, LEFT_HAND, RIGHT_HAND, HAIR, TOP, BOTTOM, DRESS, SHOES = range(1, len(LABELS))
GARMENTS = (TOP, BOTTOM, DRESS, SHOES)
