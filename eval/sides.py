"""Sides: a generated and a true clip under one protocol, as the metrics see them. What several metrics need is made once.

T = frames of the clip, D = feature dimensions
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipelines.clip import Frames

if TYPE_CHECKING:
    from eval.metrics.warping_error import FlowFunction
    from pipelines.extractors.lpips import PairDistance

PerFrame = npt.NDArray[np.float64]
Masks = npt.NDArray[np.bool_]
Features = Mapping[int, npt.NDArray[np.float64]]
"""Clip frame -> [D]; NaN where the network saw nothing."""

Box = tuple[int, int, int, int]
"""x1, y1, x2, y2 in pixels of the protocol's size; x2 and y2 are outside."""


@dataclass(kw_only=True)
class Sides:
    """One clip of a method beside the truth. Frames are uint8 [T, H, W, 3] RGB at the protocol's size."""

    prediction: Frames
    truth: Frames
    counted: list[int]  # clip frames that are scored
    reference_frame: int | None
    regions: Mapping[str, Masks] = field(default_factory=dict)  # name -> [T, H, W]; only what is known of the true clip
    hand_boxes: list[list[Box]] = field(default_factory=list)  # per frame, of the true clip
    l1_over_pixels: bool = False
    lpips_against: str = "truth"
    distance: Callable[[], PairDistance] | None = None
    flow: Callable[[], FlowFunction] | None = None
    features: Callable[[str, str], Features] | None = None  # (role, "prediction" or "truth")

    @property
    def counted_frames(self) -> tuple[Frames, Frames]:
        """(prediction, truth), frames that count only."""
        return self.prediction[self.counted], self.truth[self.counted]

    @property
    def pairs(self) -> list[int]:
        """Frames t for which t and t + 1 both count."""
        known = set(self.counted)
        return [t for t in self.counted if t + 1 in known]

    def scattered(self, values: npt.ArrayLike, frames: list[int] | None = None) -> PerFrame:
        """[T] with `values` at `frames` (default: those that count), NaN elsewhere."""
        full = np.full(len(self.truth), np.nan)
        full[self.counted if frames is None else frames] = values
        return full

    @cached_property
    def ssim(self) -> Mapping[str, PerFrame]:
        """ "frame" and every region -> [T] mean of SSIM's map; a region counts the windows whose centre lies in it."""
        from eval.metrics.ssim import EDGE, gray, ssim_map

        found = {name: np.full(len(self.truth), np.nan) for name in ("frame", *self.regions)}
        for t in self.counted:
            values = ssim_map(gray(self.prediction[t]), gray(self.truth[t]))
            found["frame"][t] = np.mean(values)
            for name, masks in self.regions.items():
                inside = masks[t, EDGE:-EDGE, EDGE:-EDGE]
                if inside.any():
                    found[name][t] = values[inside].mean()
        return found

    @cached_property
    def errors(self) -> Mapping[str, npt.NDArray[np.int64]]:
        """Region -> [T, 3]: sum |d|, sum d^2 (grey levels, over its pixels and channels) and number of pixels; exact. 0 in frames that do not count."""
        found = {name: np.zeros((len(self.truth), 3), np.int64) for name in self.regions}
        for t in self.counted if found else ():
            p, q = self.prediction[t], self.truth[t]
            difference = (np.maximum(p, q) - np.minimum(p, q)).astype(np.int32)
            of_pixels = difference.sum(axis=2), (difference * difference).sum(axis=2)
            for name, masks in self.regions.items():
                found[name][t] = [*(int(one[masks[t]].sum(dtype=np.int64)) for one in of_pixels), int(masks[t].sum())]
        return found

    @cached_property
    def lpips(self) -> Mapping[str, PerFrame]:
        """ "frame" and every region -> [T] LPIPS distance; all from one pass of the network."""
        if self.distance is None:
            raise ValueError("no LPIPS network")
        prediction, truth = self.counted_frames
        if self.lpips_against == "reference":
            if self.reference_frame is None:
                return {"frame": self.scattered([], [])}
            truth = np.repeat(self.truth[self.reference_frame : self.reference_frame + 1], len(prediction), axis=0)
        masks = {name: mask[self.counted] for name, mask in self.regions.items()}
        return {name: self.scattered(values) for name, values in self.distance().by_region(prediction, truth, masks).items()}

    def feature_list(self, role: str, side: str, frames: list[int]) -> npt.NDArray[np.float64]:
        """[len(frames), D] features; NaN rows where the network saw nothing."""
        if self.features is None:
            raise ValueError("no features")
        held = self.features(role, side)
        width = max((len(held[t]) for t in frames), default=0)
        empty = np.full(width, np.nan)
        return np.stack([held[t] if len(held[t]) else empty for t in frames]) if frames else np.empty((0, width))
