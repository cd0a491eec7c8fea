"""A clip's signals in source pixels, and the same fitted to the network's size, as frames and points are (models/fitting.py)."""

# T = frames of the clip, N = chosen frames, 2 = hands (the person's left one first)

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.densepose_image import densepose_images
from models.face_warp import fit_boxes, fit_warps
from models.fitting import Box, fit_frames
from models.motion_blur_map import HandSignals, blur_map
from models.signals import SignalName, Signals
from pipelines.clip import Frames
from pipelines.masks import unpack_array

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Cell = tuple[bytes, Sequence[int], str]
"""zstd bytes, shape and dtype of one array (pipelines.masks.pack_array)."""

LARGE: frozenset[SignalName] = frozenset({"body_mask", "densepose", "actions"})  # not to be held for all clips at once

_IN_MEMORY_BYTES = 256 << 20  # fitted pictures of a clip beyond this are mapped from a temporary file
_AT_ONCE = 16  # frames that are fitted in one go
_WINDOW_MIDDLE = 7.5  # frames from an action window's first to its middle


class PackedFrames:
    """Arrays of T rows as compressed bytes, unpacked for whoever asks: a clip of 600 masks at 512x896 is 275 MB, packed a few."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self._cells = cells
        self.nbytes = sum(len(cell[0]) for cell in cells)

    def __len__(self) -> int:
        return len(self._cells)

    def rows(self, chosen: Sequence[int]) -> npt.NDArray[Any]:
        """[N, ...] of the chosen rows, in that order."""
        unpacked = {row: unpack_array(*self._cells[row]) for row in sorted(set(chosen))}
        return np.stack([unpacked[row] for row in chosen])


@dataclass(frozen=True, kw_only=True, slots=True)
class FaceSignals:
    """The subject's face in T frames; what is not there is zero, a warp the identity."""

    boxes: Floats  # [T, 4] x1 y1 x2 y2
    warps: Floats  # [T, 2, 3] source pixel -> pixel of the 112 x 112 crop
    found: Bools  # [T]
    embeddings: Floats  # [T, D] raw


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipSignals:
    """Signals of T frames in pixels of the clip (of its crop, where it has one); None = not asked for."""

    frames: int
    fps: float
    hands: HandSignals | None = None
    sharpness_p99: float | None = None
    """99th percentile of the training hands' s_128, by which the blur map is scaled; without it there is no map."""
    faces: FaceSignals | None = None
    body_mask: PackedFrames | None = None  # uint8 [H, W], 255 = the person
    densepose: PackedFrames | None = None  # uint8 [H, W, 3] I, U, V
    drawn_charts: bool = False  # densepose is of drawn people (models/mirror.py)
    clothing: Floats | None = None  # [12]
    actions: PackedFrames | None = None  # [M, C] of each window of 16 frames
    action_starts: tuple[int, ...] = ()  # their first frames
    caption: str = ""
    character: str = ""

    @property
    def nbytes(self) -> int:
        """Bytes of what is large."""
        return sum(packed.nbytes for packed in (self.body_mask, self.densepose, self.actions) if packed is not None)

    def joined(self, other: ClipSignals) -> ClipSignals:
        """These, with what only the other has."""
        fields = ("hands", "sharpness_p99", "faces", "body_mask", "densepose", "clothing", "actions")
        added = {name: getattr(other, name) for name in fields if getattr(self, name) is None}
        words = {name: getattr(self, name) or getattr(other, name) for name in ("action_starts", "caption", "character", "drawn_charts")}
        return replace(self, **added, **words)


def fit_signals(
    signals: ClipSignals, box: Box, size: tuple[int, int], frames: Sequence[int] | None = None, *, in_memory: int | None = None
) -> Signals:
    """Signals of some frames (None = all, in order) in the crop `box` at `size` (height, width), as `fit_frames` cuts it.

    Action tokens are those of the window whose middle is nearest to the middle of the frames. Rasters outside the source are 0.
    in_memory: bytes beyond which the fitted pictures of one signal are mapped from a temporary file; None = 256 MB.
    """
    chosen = list(range(signals.frames) if frames is None else frames)
    most = _IN_MEMORY_BYTES if in_memory is None else in_memory
    return Signals(
        **_fit_hands(signals, box, size, chosen, most),
        **_fit_faces(signals, box, size, chosen),
        body_mask=_fit_masks(signals.body_mask, box, size, chosen, most),
        densepose=_fit_densepose(signals.densepose, box, size, chosen, most),
        clothing=None if signals.clothing is None else torch.from_numpy(signals.clothing)[None],
        actions=_actions(signals, chosen),
        caption=signals.caption,
        character=signals.character,
    )


def _fit_hands(signals: ClipSignals, box: Box, size: tuple[int, int], chosen: list[int], most: int) -> dict[str, Tensor]:
    if signals.hands is None:
        return {}
    hands = signals.hands
    boxes = fit_boxes(hands.boxes[chosen], box, size) * hands.valid[chosen][..., None]
    fitted = {"hand_boxes": torch.from_numpy(boxes.astype(np.float32))}
    scale = signals.sharpness_p99
    if scale is None:
        return fitted

    def piece(part: list[int]) -> Tensor:
        return blur_map(_of_frames(hands, part), box, size, signals.fps, scale)

    return {**fitted, "blur": _in_pieces(piece, chosen, (3, *size), most)}


def _of_frames(hands: HandSignals, chosen: list[int]) -> HandSignals:
    return HandSignals(
        boxes=hands.boxes[chosen], valid=hands.valid[chosen], movement=hands.movement[chosen], sharpness=hands.sharpness[chosen]
    )


def _fit_faces(signals: ClipSignals, box: Box, size: tuple[int, int], chosen: list[int]) -> dict[str, Tensor]:
    if signals.faces is None:
        return {}
    found = signals.faces.found[chosen]
    boxes = fit_boxes(signals.faces.boxes[chosen], box, size) * found[:, None]
    warps = np.where(found[:, None, None], fit_warps(signals.faces.warps[chosen], box, size), signals.faces.warps[chosen])
    return {
        "face_boxes": torch.from_numpy(boxes.astype(np.float32))[:, None],
        "face_warps": torch.from_numpy(warps.astype(np.float32)),
        "face_found": torch.from_numpy(found),
        "face_embeddings": torch.from_numpy(signals.faces.embeddings[chosen]),
    }


def _fit_masks(masks: PackedFrames | None, box: Box, size: tuple[int, int], chosen: list[int], most: int) -> Tensor | None:
    if masks is None:
        return None

    def piece(part: list[int]) -> Tensor:
        cut, inside = _covering(masks.rows(part), box)
        return torch.from_numpy(fit_frames(cut, inside, size)).float()[:, None] / 255

    return _in_pieces(piece, chosen, (1, *size), most)


def _fit_densepose(iuv: PackedFrames | None, box: Box, size: tuple[int, int], chosen: list[int], most: int) -> Tensor | None:
    """Each frame with the labels of its two native neighbours (densepose_image.steady_labels), whichever frames are chosen."""
    if iuv is None:
        return None

    def piece(part: list[int]) -> Tensor:
        near = [[f - 1, f, f + 1] if 0 < f < len(iuv) - 1 else [f] for f in part]
        needed = sorted({frame for group in near for frame in group})
        cut, inside = _covering(iuv.rows(needed), box)
        places = {frame: place for place, frame in enumerate(needed)}
        return torch.stack([densepose_images(cut[[places[f] for f in group]], inside, size)[len(group) // 2] for group in near])

    return _in_pieces(piece, chosen, (3, *size), most)


def _covering(rasters: Frames, box: Box) -> tuple[Frames, Box]:
    """Rasters [N, H, W, ...] with zeros around them so that a box that reaches outside lies inside, and the box in them."""
    x, y, w, h = (round(v) for v in box)
    height, width = rasters.shape[1:3]
    left, top, right, bottom = max(-x, 0), max(-y, 0), max(x + w - width, 0), max(y + h - height, 0)
    if not (left or top or right or bottom):
        return rasters, box
    around = [(0, 0), (top, bottom), (left, right), *[(0, 0)] * (rasters.ndim - 3)]
    return np.pad(rasters, around), (float(x + left), float(y + top), float(w), float(h))


def _actions(signals: ClipSignals, chosen: list[int]) -> Tensor | None:
    """[1, M, C] of one window."""
    if signals.actions is None:
        return None
    middles = np.asarray(signals.action_starts) + _WINDOW_MIDDLE
    nearest = int(np.abs(middles - (min(chosen) + max(chosen)) / 2).argmin())
    return torch.from_numpy(signals.actions.rows([nearest]).astype(np.float32))


def _in_pieces(piece: Callable[[list[int]], Tensor], chosen: list[int], shape: tuple[int, ...], most: int) -> Tensor:
    """[N, *shape] filled a few frames at a time; a large one is mapped from an unnamed temporary file, which the kernel pages."""
    whole = _room((len(chosen), *shape), most)
    for start in range(0, len(chosen), _AT_ONCE):
        whole[start : start + _AT_ONCE] = piece(chosen[start : start + _AT_ONCE])
    return whole


def _room(shape: tuple[int, ...], most: int) -> Tensor:
    if 4 * int(np.prod(shape)) <= most:
        return torch.empty(shape)
    with tempfile.TemporaryFile() as file:
        return torch.from_numpy(np.memmap(file, np.float32, "w+", shape=shape))
