"""Layout: what a method's public code writes, so that one converter serves all methods.

A pattern is the end of a path: `{clip}` is the clip's or video's name as the method writes it, `{frame}` the number of an
image, `{seed}` and `{cfg}` what the name says of the sampling; TOKENS has the others. All before the pattern may be anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Kind = Literal["frames", "video", "strip"]
Fit = Literal["whole", "squeezed", "covered", "none"]

TOKENS: Mapping[str, str] = MappingProxyType(
    {
        "any": r"[^/]*?",
        "word": r"[A-Za-z]+",
        "number": r"\d+",
        "frame": r"(?P<frame>\d+)",
        "seed": r"(?P<seed>\d+)",
        "cfg": r"(?P<cfg>\d+)",
        "time": r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d",
        "stamp": r"\d{14}",
        "image": r"(?:png|jpe?g)?",  # an ending whose dot the method took out
        "video": r"(?:\.(?:mp4|mov|avi|gif|png|jpg))?",  # an ending that stayed in the middle of the name
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Panels:
    """Pictures side by side in one frame, of which one is the method's."""

    columns: int
    index: int  # of the method's, from 0, left to right
    border: int = 0  # pixels around and between panels


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """One method's output. Everything that a converter must know is here; what it means is said in docs/converters.md.

    fit: how the method brings the true clip to its size. "whole": not at all, or with its aspect; "squeezed": each side alone;
    "covered": scaled until it covers, the middle cut out; "none": it never sees the clip.
    """

    method: str  # id, as eval/method_names.py has it
    title: str
    kind: Kind
    pattern: str
    source: str  # repository, commit and files in which this was read; or why it could not be
    panels: Panels | None = None
    leading: tuple[int, ...] = (0,)  # frames that may stand before the one that answers the first driving frame
    rounded_to: int = 1  # the length is brought up to a multiple of this by repeating the last driving frame
    strides: tuple[int, ...] = ()  # of the driving frames, by the published settings; any but 1 leaves frames unanswered
    sizes: tuple[tuple[int, int], ...] = ()  # (width, height) of the published settings; () = that of its input
    fit: Fit = "squeezed"
    fps: str = ""  # what the file says, in words
    steps: int | None = None  # published defaults, recorded on request only
    cfg: float | str | None = None
    sees_truth: bool = False  # driven by the true frames, not by poses
    cut_at_dot: bool = False  # names end at their first dot
    removed: str = ""  # regular expression of what is taken out of names
    verified: bool = True
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.kind == "frames") != ("{frame}" in self.pattern):
            raise ValueError(f"{self.method}: layouts of single images, and only they, say where the frame's number is")

    def own_name(self, name: str) -> str:
        """A clip's or video's name as this method writes it."""
        name = name.partition(".")[0] if self.cut_at_dot else name
        return re.sub(self.removed, "", name) if self.removed else name

    def expression(self, names: Iterable[str] | None) -> re.Pattern[str]:
        """Matches whole paths. names: what `{clip}` may be, in the method's writing; None: anything."""
        known = None if names is None else "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True)) or r"(?!)"
        tokens = {**TOKENS, "clip": r"[^/]*?" if known is None else f"(?P<clip>{known})"}
        parts = re.split(r"\{(\w+)\}", self.pattern)
        return re.compile("(?:.*/)?" + "".join(tokens[part] if i % 2 else re.escape(part) for i, part in enumerate(parts)))
