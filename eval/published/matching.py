"""Under which protocol and split a published number was made, and whether it can be what its column says.

Sources: what the papers' text says, what their public code does, and what their numbers allow (docs/protocols.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

_OUR_TIMES = {"frame_consistency": 100.0}  # our column, as the papers', is times 100; `scale` brings it to a cosine
OVERFLOW_FLOOR_DB = 20 * math.log10(255 / math.sqrt(249))  # 24.168: the largest n * n mod 256 is 249


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """How a paper measured. `doubt` says why the protocol is not certain; "" = the paper says it itself."""

    protocol: str
    pixels: int  # of a scored frame: L1 is divided by it twice
    doubt: str
    splits: Mapping[str, tuple[str, str]]  # data set id -> (split id, why it is not certain or "")


_TIKTOK = ("tiktok_disco10", "the ids of the ten test videos are not published")
_TED = ("ted_csv", "the test split of TED-talks is not published")
_LISTLESS = ("test", "the list of test videos is not published")
_DISCO = {"tiktok": _TIKTOK, "ted_talks": _TED, "ubc_fashion": ("ubc_100", ""), "unseen100": _LISTLESS}
_NETWORKS = "which networks and sizes is not stated"

_SOURCES: Mapping[str, Source] = MappingProxyType(
    {
        "hfca": Source(protocol="disco", pixels=256 * 256, doubt="deduced from the scale of L1 and PSNR; not stated", splits=_DISCO),
        "animate_anyone": Source(protocol="disco", pixels=256 * 256, doubt=f"the overflow PSNR gives it away; {_NETWORKS}", splits=_DISCO),
        "pose_animate": Source(protocol="disco", pixels=256 * 256, doubt="says it follows MagicAnimate, so DisCo's code", splits=_DISCO),
        "stable_animator": Source(protocol="disco", pixels=256 * 256, doubt="deduced from the scale of L1; refers to DisCo", splits=_DISCO),
        "hia": Source(
            protocol="hia_native",
            pixels=512 * 896,
            doubt="colour and place of the padding and the size for LPIPS are not stated",
            splits={"tiktok": ("hia_41", "the 41 test videos are not listed"), "human_dance": _LISTLESS},
        ),
    }
)
_WILD = Source(
    protocol="pose_animate_wild",
    pixels=512 * 512,
    doubt="CLIP model, LPIPS network and the 50 pairs are not stated",
    splits={"wild": _LISTLESS},
)


def source_of(paper: str, table: str) -> Source:
    """How the numbers of a paper's table were made. Raises KeyError for a paper that is not in the table."""
    return _WILD if (paper, table) == ("pose_animate", "Table 1") else _SOURCES[paper]


def column_scale(row: Mapping[str, Any]) -> float:
    """What a printed cell is multiplied with to stand in the unit of our column."""
    return float(row["scale"] or 1.0) * _OUR_TIMES.get(row["metric_id"], 1.0)


def true_value(row: Mapping[str, Any]) -> float | None:
    """The cell in the unit of our column: corrected where the text at hand is misread, times the column's scale."""
    value = row["corrected_value"] if row["corrected_value"] is not None else row["value"]
    return None if value is None else float(value) * column_scale(row)


def l1_ceiling_db(l1: float, pixels: int) -> float:
    """PSNR that an L1 allows: RMSE is never under the mean error, which is l1 * pixels in grey levels.

    Exact for a frame; for a mean over frames about so, because decibels are averaged.
    """
    return 20 * math.log10(255 / (l1 * pixels))


def impossible(row: Mapping[str, Any], siblings: Sequence[Mapping[str, Any]]) -> str:
    """Why a PSNR cell cannot be what its column says; "" when it can. siblings: the cells of its row in the paper's table."""
    value = true_value(row)
    if value is None or row["metric_id"] not in ("psnr", "psnr_overflow"):
        return ""
    ceiling = _ceiling(row, siblings)
    if row["metric_id"] == "psnr":
        return f"above the {ceiling:.2f} dB that its own L1 allows" if ceiling is not None and value > ceiling else ""
    if value >= OVERFLOW_FLOOR_DB:
        return ""
    also = f", and above the {ceiling:.2f} dB that its own L1 allows a corrected PSNR" if ceiling is not None and value > ceiling else ""
    return f"under {OVERFLOW_FLOOR_DB:.3f} dB, the least that the overflow formula can give{also}"


def _ceiling(row: Mapping[str, Any], siblings: Sequence[Mapping[str, Any]]) -> float | None:
    """None without an L1 of the same data set in the row."""
    for other in siblings:
        if other["metric_id"] == "l1" and other["dataset_id"] == row["dataset_id"]:
            l1 = true_value(other)
            return None if not l1 else l1_ceiling_db(l1, source_of(row["paper"], row["table"]).pixels)
    return None
