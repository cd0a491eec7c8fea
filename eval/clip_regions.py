"""Where face, hands and background of the true clips are: rows of `faces`, `hands` and `body_masks`, at the protocol's size.

The same for every method, and found by networks: `truth` counts only where nothing else in the data set has rows of the table, and every score made
with it says so. Where several extractors have rows for a clip, the first name wins; which one it was is part of a score's digest, so a better mask
gives new scores.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pyarrow.compute as pc

from eval.protocol import Protocol
from eval.sides import Box, Masks
from pipelines.clip import Clip
from pipelines.crop import to_crop
from pipelines.lake import Lake
from pipelines.masks import decode_rle
from pipelines.tables import one_of

TABLE_OF: Mapping[str, str] = {"face": "faces", "hands": "hands", "background": "body_masks"}
_COLUMNS = {
    "faces": ["boxes", "subject"],
    "hands": ["boxes", "valid"],
    "body_masks": ["rle", "height", "width"],
}
TRUTH = "truth"
_Source = tuple[str, int, str]  # extractor, version, weights_digest


@dataclass(frozen=True, slots=True)
class ClipRegions:
    """Of one clip: masks [T, H, W] by region (only what is known), and the hands' boxes per frame."""

    masks: Mapping[str, Masks] = field(default_factory=dict)
    hand_boxes: list[list[Box]] = field(default_factory=list)


class RegionIndex:
    """Which rows say where the regions of each clip are; `load` reads them."""

    def __init__(self, lake: Lake, dataset: str, regions: Sequence[str]) -> None:
        self._lake, self._dataset = lake, dataset
        self._sources = {region: _sources(lake, dataset, TABLE_OF[region]) for region in regions}

    def digest(self, region: str, clip_id: str) -> str | None:
        """What the region's place was made with; None where nothing is known of it."""
        source = self._sources.get(region, {}).get(clip_id)
        return None if source is None else hashlib.sha256(f"{region}|{source}".encode()).hexdigest()

    def extractor(self, region: str | None, clip_id: str) -> str | None:
        """Who said where the region is; None for the whole frame (no region), and where nothing is known of it."""
        source = self._sources.get(region, {}).get(clip_id) if region is not None else None
        return None if source is None else source[0]

    def load(self, clips: Sequence[Clip], protocol: Protocol) -> dict[str, Callable[[], ClipRegions]]:
        """clip id -> call for its regions at the protocol's size: masks of many clips at once would not fit into memory."""
        rows = {region: self._rows(region, clips) for region in self._sources}
        return {
            clip.clip_id: partial(_regions_of, clip, protocol, {region: rows[region].get(clip.clip_id, {}) for region in rows})
            for clip in clips
        }

    def _rows(self, region: str, clips: Sequence[Clip]) -> dict[str, dict[int, dict[str, Any]]]:
        table, sources = TABLE_OF[region], self._sources[region]
        where = (pc.field("dataset") == self._dataset) & one_of("clip_id", [clip.clip_id for clip in clips])
        found: dict[str, dict[int, dict[str, Any]]] = {}
        for row in self._lake.rows(table, where, columns=["clip_id", "frame", "extractor", "version", "weights_digest", *_COLUMNS[table]]):
            if (row["extractor"], row["version"], row["weights_digest"]) == sources.get(row["clip_id"]) and row["frame"] >= 0:
                found.setdefault(row["clip_id"], {})[row["frame"]] = row
        return found


def _sources(lake: Lake, dataset: str, table: str) -> dict[str, _Source]:
    where = (pc.field("dataset") == dataset) & (pc.field("frame") == 0)
    rows = lake.rows(table, where, columns=["clip_id", "extractor", "version", "weights_digest"])
    found = [row for row in rows if row["extractor"] != TRUTH]
    best: dict[str, tuple[Any, _Source]] = {}
    for row in found or rows:
        source = (row["extractor"], row["version"], row["weights_digest"])
        rank = (row["extractor"], -row["version"], row["weights_digest"])
        if row["clip_id"] not in best or rank < best[row["clip_id"]][0]:
            best[row["clip_id"]] = (rank, source)
    return {clip_id: source for clip_id, (_, source) in best.items()}


@dataclass(frozen=True, slots=True)
class _Window:
    """From pixels of the clip's frames to pixels of the protocol."""

    clip: Clip
    left: int
    top: int
    scale_x: float
    scale_y: float
    height: int
    width: int

    @classmethod
    def of(cls, clip: Clip, protocol: Protocol) -> _Window:
        side = min(clip.height, clip.width)
        square = protocol.crop == "center_square"
        left, top = ((clip.width - side) // 2, (clip.height - side) // 2) if square else (0, 0)
        seen_width, seen_height = (side, side) if square else (clip.width, clip.height)
        height, width = protocol.size_of(clip.height, clip.width)
        return cls(clip, left, top, width / seen_width, height / seen_height, height, width)

    def box(self, corners: Sequence[float]) -> Box | None:
        """A box in pixels of the full frame; None where nothing of it is inside."""
        (x1, y1), (x2, y2) = to_crop(np.asarray(corners, np.float32).reshape(2, 2), self.clip.crop)
        left, right = (float(np.clip((x - self.left) * self.scale_x, 0, self.width)) for x in (x1, x2))
        top, bottom = (float(np.clip((y - self.top) * self.scale_y, 0, self.height)) for y in (y1, y2))
        found = (int(np.floor(left)), int(np.floor(top)), int(np.ceil(right)), int(np.ceil(bottom)))
        return found if found[2] > found[0] and found[3] > found[1] else None

    def mask(self, row: Mapping[str, Any]) -> Masks:
        """A mask of the clip's frames; a pixel is inside where half of it is."""
        import cv2

        mask = decode_rle(row["rle"], row["height"], row["width"])
        bottom, right = self.top + round(self.height / self.scale_y), self.left + round(self.width / self.scale_x)
        part = np.ascontiguousarray(mask[self.top : bottom, self.left : right], dtype=np.float32)
        shrinks = part.shape[0] > self.height
        resized = cv2.resize(part, (self.width, self.height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        return np.asarray(resized >= 0.5)


def _regions_of(clip: Clip, protocol: Protocol, rows: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> ClipRegions:
    window, frames = _Window.of(clip, protocol), range(clip.num_frames)
    masks: dict[str, Masks] = {}
    hands: list[list[Box]] = []
    if rows.get("face"):
        masks["face"] = _filled(window, [_face(window, rows["face"].get(t)) for t in frames])
    if rows.get("hands"):
        hands = [_hands(window, rows["hands"].get(t)) for t in frames]
        masks["hands"] = _filled(window, hands)
    if rows.get("background"):
        masks["background"] = np.stack([_background(window, rows["background"].get(t)) for t in frames])
    return ClipRegions(masks, hands)


def _face(window: _Window, row: Mapping[str, Any] | None) -> list[Box]:
    if row is None or row["boxes"] is None or row["subject"] is None or row["subject"] < 0:
        return []
    box = window.box(row["boxes"][4 * row["subject"] : 4 * row["subject"] + 4])
    return [] if box is None else [box]


def _hands(window: _Window, row: Mapping[str, Any] | None) -> list[Box]:
    if row is None or row["boxes"] is None:
        return []
    boxes = [window.box(row["boxes"][4 * hand : 4 * hand + 4]) for hand in range(2) if row["valid"][hand]]
    return [box for box in boxes if box is not None]


def _background(window: _Window, row: Mapping[str, Any] | None) -> Masks:
    if row is None or row["rle"] is None:
        return np.zeros((window.height, window.width), bool)
    return ~window.mask(row)


def _filled(window: _Window, boxes: Sequence[Sequence[Box]]) -> Masks:
    masks = np.zeros((len(boxes), window.height, window.width), bool)
    for mask, found in zip(masks, boxes, strict=True):
        for x1, y1, x2, y2 in found:
            mask[y1:y2, x1:x2] = True
    return masks
