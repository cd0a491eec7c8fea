"""Fades to and from black as one edge between two shots, from the mean luma of every frame.

    luma  ────╲              ╱────        edge: the middle of the black frames;
               ╲____________╱             cuts found on the slopes are part of the fade and go
          out     black      in

A fade on one side and a hard cut on the other: the edge is that hard cut (a = first black frame, b = first frame after).
A video that begins with a fade in, or ends with a fade out, gets no edge there. Black between two hard cuts is a shot like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise

from pipelines.split_rule import SplitRule

_LEAST_STEP = 0.25  # luma per frame, below which a slope counts as flat
_FLAT_FRAMES = 2  # flat frames in a row that a slope may hold (repeated frames, easing)


def merge_fades(cuts: Sequence[int], luma: Sequence[float], rule: SplitRule) -> list[int]:
    """Cuts with every fade through black as one edge. luma: mean of each frame, 0..255."""
    merged = set(cuts)
    for start, end in black_runs(luma, rule.fade_level):
        fade_out = ramp(luma[: start + 1][::-1], rule.fade_frames)
        fade_in = ramp(luma[end - 1 :], rule.fade_frames)
        if not fade_out and not fade_in:
            continue
        merged -= {cut for cut in merged if start - fade_out <= cut <= end + fade_in}
        edge = (start + end) // 2 if fade_out and fade_in else end if fade_out else start
        if start > 0 and end < len(luma):
            merged.add(edge)
    return sorted(merged)


def black_runs(luma: Sequence[float], level: float) -> list[tuple[int, int]]:
    """[start, end) of every run of frames at or below `level`."""
    runs, place = [], 0
    for black, group in groupby(luma, lambda value: value <= level):
        length = len(list(group))
        if black:
            runs.append((place, place + length))
        place += length
    return runs


def ramp(luma: Sequence[float], least: int) -> int:
    """Frames of the slope that rises from luma[0], a black frame, outwards; 0 where it takes fewer than `least`.

    The slope ends where it is flat, or with a jump out of proportion to the steps before it (a cut). Where one step
    is more than half of the whole rise, that is a hard cut to or from black and no slope.
    """
    steps: list[float] = []
    rising = 0  # steps up to the last that rises
    for before, value in pairwise(luma):
        step = value - before
        if (len(steps) >= 3 and step > 3 * max(steps[-3:]) + 2) or len(steps) - rising > _FLAT_FRAMES:
            break
        steps.append(step)
        if step >= _LEAST_STEP:
            rising = len(steps)
    return rising if rising >= least and max(steps[:rising]) <= 0.5 * sum(steps[:rising]) else 0
