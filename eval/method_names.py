"""What people call the methods."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

FLOOR = "copy_reference"
FLOORS: Mapping[str, str] = MappingProxyType({FLOOR: "the floor", "warp_reference": "nothing learnt"})
LONGER = "shipped"  # the variant that differs from a method's own in how long it was trained
TITLES: Mapping[str, str] = MappingProxyType(
    {
        "animate_anyone": "AnimateAnyone",
        "hfca": "HFCA",
        "hia": "HIA",
        "stable_animator": "StableAnimator",
        "pose_animate": "PoseAnimate",
        "copy_reference": "Copy of the reference",
        "warp_reference": "Warp of the reference",
        "ipc": "IPC",
        "sd_2v": "SD-2V",
        "ip_controlnet": "IP-Adapter + ControlNet",
        "mraa": "MRAA",
        "tpsmm": "TPSMM",
        "fomm": "FOMM",
        "bdmm": "BDMM",
        "dreampose": "DreamPose",
        "disco": "DisCo",
        "magic_animate": "MagicAnimate",
        "champ": "Champ",
        "unianimate": "UniAnimate",
        "mimic_motion": "MimicMotion",
        "controlnext": "ControlNeXt",
        "animate_diff": "AnimateDiff",
        "gen_2": "Gen-2",
        "moore_animate_anyone": "AnimateAnyone (Moore)",
    }
)


def method_title(row: Mapping[str, Any]) -> str:
    """The name of the row's method; its id where it has none here."""
    return TITLES.get(row["method"], row["method"])


def method_detail(row: Mapping[str, Any]) -> str:
    """Variant and seed."""
    if row["method"] in FLOORS:
        return FLOORS[row["method"]]
    return ", ".join(part for part in (row["variant"] or "", f"seed {row['seed']}") if part)
