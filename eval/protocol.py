"""Protocols: what a number means is part of its key.

A `Protocol` is a named frozen value. Two numbers may stand in one column only when they have the same protocol and
split. docs/protocols.md says it in words; faults of the literature that a protocol keeps on purpose are a field here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

from pipelines.errors import UserError

Role = Literal["lpips", "fid", "fvd"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """How clips become numbers. Both sides, generated and true, get the same geometry.

    Bad combinations are errors at construction.
    """

    name: str
    summary: str  # one sentence for people: printed above every table
    short_side: int | None  # pixels after resizing; None = native size
    crop: Literal["none", "center_square"]  # "none" = whole frame, native aspect; else the largest square in its middle
    resize: Literal["none", "pil-bicubic"]  # pil-bicubic: Pillow, antialiased, rounded to uint8 once
    window: int  # frames per FVD window
    stride: int  # frames between the starts of two windows
    networks: Mapping[Role, str]  # role -> name in pipelines.extractors.metric_networks.NETWORKS
    lpips_range: tuple[float, float]  # what 0 and 255 become before the LPIPS network
    reference: Literal["excluded", "scored"]  # is the reference frame part of the score, where it is a frame of the clip
    known_faults: tuple[str, ...]  # faults of the literature that are kept; () = none
    source: str
    standin: bool = False  # True: networks are stand-ins, numbers compare with nothing outside
    metrics: tuple[str, ...] = field(default=("l1", "psnr", "psnr_overflow", "ssim", "lpips", "fid", "fvd"))

    def __post_init__(self) -> None:
        if not 1 <= self.stride <= self.window:
            raise ValueError(f"stride={self.stride} must be in 1..window={self.window}, or frames would be left out")
        if (self.short_side is None) != (self.resize == "none"):
            raise ValueError(f"short_side={self.short_side} and resize={self.resize!r} contradict each other")
        object.__setattr__(self, "networks", MappingProxyType(dict(self.networks)))

    def size_of(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of a frame under this protocol; the long side is rounded to the nearest pixel, half up."""
        if self.crop == "center_square":
            height = width = min(height, width)
        if self.short_side is None:
            return height, width
        short = min(height, width)
        return (_rounded(height * self.short_side, short), _rounded(width * self.short_side, short))

    def scored_frames(self, num_frames: int, reference_frame: int | None) -> list[int]:
        """Clip frames that count."""
        hidden = reference_frame if self.reference == "excluded" else None
        return [frame for frame in range(num_frames) if frame != hidden]

    def windows(self, num_frames: int, reference_frame: int | None) -> list[int]:
        """First frames of the windows: runs of consecutive scored frames are cut from their start, no remainders."""
        starts: list[int] = []
        for first, length in _runs(self.scored_frames(num_frames, reference_frame)):
            starts += range(first, first + length - self.window + 1, self.stride)
        return starts


def _rounded(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)


def _runs(frames: Sequence[int]) -> list[tuple[int, int]]:
    """(first, length) of each run of consecutive numbers in a sorted list."""
    runs: list[tuple[int, int]] = []
    for frame in frames:
        if runs and frame == runs[-1][0] + runs[-1][1]:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((frame, 1))
    return runs


STANDARD = Protocol(
    name="standard",
    summary="Native aspect at short side 512, corrected PSNR, LPIPS (VGG) in [-1, 1], clean-fid FID, FVD of "
    "non-overlapping 16-frame windows, reference frame excluded.",
    short_side=512,
    crop="none",
    resize="pil-bicubic",
    window=16,
    stride=16,
    networks={"lpips": "lpips_vgg", "fid": "inception", "fvd": "i3d"},
    lpips_range=(-1.0, 1.0),
    reference="excluded",
    known_faults=(),
    source="our recommendation (docs/protocols.md); FID: Parmar et al. 2022; LPIPS: Zhang et al. 2018; FVD: "
    "Unterthiner et al. 2018, network of Skorokhodov et al. 2022",
)

DEMO_STANDIN = Protocol(
    name="demo_standin",
    summary="Native size, reference frame excluded. FID, FVD and LPIPS come from small stand-in networks "
    "with random weights: compare them inside this table only, with nothing outside.",
    short_side=None,
    crop="none",
    resize="none",
    window=16,
    stride=16,
    networks={"lpips": "standin_lpips", "fid": "standin_frames", "fvd": "standin_windows"},
    lpips_range=(-1.0, 1.0),
    reference="excluded",
    known_faults=(),
    standin=True,
    source="the demo: same arithmetic as `standard`, networks from pipelines/tiny/standin_*",
)

STANDIN_128 = replace(
    DEMO_STANDIN,
    name="standin_128",
    summary="Native aspect at short side 128, reference frame excluded. " + DEMO_STANDIN.summary.partition(". ")[2],
    short_side=128,
    resize="pil-bicubic",
    source="`demo_standin` for footage that is larger than what a demo-size method generates",
)

STANDIN_128_SQUARE = replace(
    STANDIN_128,
    name="standin_128_square",
    summary="Centre square at 128x128, reference frame excluded. " + DEMO_STANDIN.summary.partition(". ")[2],
    crop="center_square",
    source="`demo_standin` for a method that generates the centre square of larger footage",
)

PROTOCOLS: Mapping[str, Protocol] = MappingProxyType({p.name: p for p in (STANDARD, DEMO_STANDIN, STANDIN_128, STANDIN_128_SQUARE)})

# Names that documents and papers use -> ids of the code; an id here need not have a protocol or method yet.
ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "DISCO-FRAMES": "disco",
        "DISCO-GIF": "disco_gif",
        "DISCO-TM": "disco_tm",
        "NATIVE": "hia_native",
        "SGV-FVD": "stylegan_v_fvd",
        "psnr_disco_bug": "psnr_overflow",
        "FID-VID": "fid_vid",
        "FID-FVD": "fid_vid",
        "FC": "frame_consistency",
        "WE": "warping_error",
        "TikTok": "tiktok",
        "TED": "ted_talks",
        "TED-talks": "ted_talks",
        "Ted-Talk": "ted_talks",
        "UBC": "ubc_fashion",
        "tiktok-public-335-340": "tiktok_335_340",
        "new10val": "tiktok_disco10",
        "TPS": "tpsmm",
        "PSMM": "tpsmm",
        "MA": "magic_animate",
        "IP+CtrlN": "ip_controlnet",
        "SD-2V": "sd_2v",
        "demo": "demo_standin",
    }
)


def id_of(name: str) -> str:
    """The id behind a name used in documents; an id is its own."""
    return ALIASES.get(name, name)


def protocol_named(name: str) -> Protocol:
    """Look a protocol up by id or alias. Raises UserError that lists them."""
    found = PROTOCOLS.get(id_of(name))
    if found is None:
        known = "; ".join(f"{p.name}: {p.summary}" for p in PROTOCOLS.values())
        raise UserError(f"unknown protocol {name!r}; there are: {known}")
    return found
