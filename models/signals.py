"""What extraction knows of frames besides their poses, at the network's size: the signals that methods are conditioned on or supervised by."""

# N = frames, 2 = hands (the person's left one first), D = numbers of an embedding

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor

SignalName = Literal["hands", "faces", "body_mask", "densepose", "clothing", "actions", "caption"]
"""What a method may need beside poses; each is a table of the lake (pipelines/tables.py)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Signals:
    """Signals of N frames, in pixels of the fitted image [H, W]; None = the method does not need it.

    Per-frame ones have N rows; `clothing` and `actions` belong to the clip and have one row (a batch: one for each reference).
    """

    blur: Tensor | None = None  # [N, 3, H, W] in [0, 1], models/motion_blur_map.py
    hand_boxes: Tensor | None = None  # [N, 2, 4] x1 y1 x2 y2; all zero where there is no hand
    face_boxes: Tensor | None = None  # [N, 1, 4] x1 y1 x2 y2 of the subject's face; all zero where there is none
    face_warps: Tensor | None = None  # [N, 2, 3] pixel of the fitted image -> pixel of the 112 x 112 crop; identity where there is none
    face_found: Tensor | None = None  # [N] bool
    face_embeddings: Tensor | None = None  # [N, D] raw, by the extractor of the table; zeros where there is none
    body_mask: Tensor | None = None  # [N, 1, H, W] soft, in [0, 1]
    densepose: Tensor | None = None  # [N, 3, H, W] in [0, 1], models/densepose_image.py
    clothing: Tensor | None = None  # [1, 12] probabilities
    actions: Tensor | None = None  # [1, M, C] spatio-temporal tokens of the action network (256 x 512)
    caption: str = ""  # one sentence
    character: str = ""  # the word of the caption that names the person

    def rows(self, chosen: list[int]) -> Signals:
        """The signals of some frames, in that order; those of the clip stay."""
        per_frame = ("blur", "hand_boxes", "face_boxes", "face_warps", "face_found", "face_embeddings", "body_mask", "densepose")
        rows: dict[str, Any] = {name: value[chosen] for name in per_frame if (value := getattr(self, name)) is not None}
        return replace(self, **rows)


def needed(signals: Signals, *names: str, by: str) -> list[Tensor]:
    """Those signals. Raises ValueError for what the data set did not deliver; by: who wants them, in words."""
    missing = [name for name in names if getattr(signals, name) is None]
    if missing:
        raise ValueError(f"{by} needs the signals {missing}; they come from the tables that the method's `needs` names")
    return [getattr(signals, name) for name in names]


def joined(parts: list[Signals]) -> Signals:
    """One after the other along the first axis; captions of the first. What one lacks, all must lack."""
    tensors: dict[str, Any] = {
        field.name: torch.cat([getattr(part, field.name) for part in parts])
        for field in fields(Signals)
        if isinstance(getattr(parts[0], field.name), Tensor)
    }
    return replace(parts[0], **tensors)
