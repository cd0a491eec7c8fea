"""The performers' own annotations as an extractor: for measuring other extractors, never for scoring methods.

It reads what pipelines.performers wrote beside the video. There is no network, so the weights digest is empty.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.clip import Clip, Frames
from pipelines.errors import ClipError
from pipelines.extractors.caption import character_span
from pipelines.extractors.clothing import NAMES
from pipelines.extractors.face_embedding import similarity_warp
from pipelines.extractors.hands import hands_of
from pipelines.masks import encode_rle, pack_array
from pipelines.performers.truth import Truth as Annotations
from pipelines.performers.truth import truth_path
from pipelines.storage import local_beside

Row = dict[str, Any]

_REMEDY = "write the data set again with pipelines.performers.write_dataset, or choose another extractor"


class Truth:
    """Poses, body masks, faces, hands, IUV, flow, clothing, action class and caption as they were drawn."""

    name = "truth"
    version = 2
    tables = ("poses", "body_masks", "faces", "hands", "densepose", "flow", "clothing", "actions", "captions")

    def weights_digest(self) -> str:
        """Empty: no network takes part."""
        return ""

    def load(self, device: str) -> Callable[[Clip, Frames], dict[str, list[Row]]]:
        """From a clip and its frames to rows; raises ClipError missing_truth. `device` is not used."""
        return _extract


def _annotations(clip: Clip, frames: Frames) -> Annotations:
    """The truth of the clip's frames, in pixels of its crop."""
    path = local_beside(clip.uri, truth_path(Path(clip.uri)).name)
    try:
        truth = Annotations.load(path)
    except FileNotFoundError:
        raise ClipError("missing_truth", clip.clip_id, f"{path.name} is not beside the video", _REMEDY) from None
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ClipError("missing_truth", clip.clip_id, f"{path.name} cannot be read ({error})", _REMEDY) from None
    part = truth.part(clip.start_frame, clip.end_frame, clip.crop)
    if truth.frames < clip.end_frame or part.mask.shape[1:] != frames.shape[1:3]:
        held = f"{truth.frames} frames of {part.mask.shape[2]}x{part.mask.shape[1]} px"
        cause = f"{path.name} holds {held}, the clip needs {clip.end_frame} of {frames.shape[2]}x{frames.shape[1]}"
        raise ClipError("missing_truth", clip.clip_id, cause, _REMEDY)
    return part


def _extract(clip: Clip, frames: Frames) -> dict[str, list[Row]]:
    truth = _annotations(clip, frames)
    _, height, width, _ = frames.shape
    keypoints, scores = truth.keypoints, truth.scores
    return {
        "poses": [{"keypoints": k.ravel().tolist(), "scores": s.tolist()} for k, s in zip(keypoints, scores, strict=True)],
        "body_masks": [_mask_row(mask) for mask in truth.mask],
        "faces": [_face_row(box, five) for box, five in zip(truth.face_box, truth.face_points, strict=True)],
        "hands": hands_of(frames, keypoints, scores, width, height),
        "densepose": [_iuv_row(iuv) for iuv in truth.iuv],
        "flow": [*(_flow_row(flow) for flow in truth.flow), {"flow": None, "shape": None, "dtype": None}],
        **_words(truth),
    }


def _words(truth: Annotations) -> dict[str, list[Row]]:
    """The tables with one row at the clip's first frame. Tokens are a network's, so they are null."""
    caption, clothing = str(truth.caption), str(truth.clothing)
    return {
        "clothing": [{"frame": 0, "names": list(NAMES), "probabilities": [float(name == clothing) for name in NAMES]}],
        "actions": [{"frame": 0, "tokens": None, "shape": None, "dtype": None, "action_class": str(truth.action)}],
        "captions": [{"frame": 0, "caption": caption, "character": character_span(caption), "tokens": None}],
    }


def _flow_row(flow: npt.NDArray[np.float16]) -> Row:
    """flow [H, W, 2] px."""
    packed, shape, dtype = pack_array(np.ascontiguousarray(flow.transpose(2, 0, 1)))
    return {"flow": packed, "shape": shape, "dtype": dtype}


def _mask_row(mask: npt.NDArray[np.bool_]) -> Row:
    soft, shape, dtype = pack_array(mask.astype(np.uint8) * np.uint8(255))
    return {"rle": encode_rle(mask), "height": mask.shape[0], "width": mask.shape[1], "area_px": int(mask.sum()),
            "soft": soft, "soft_shape": shape, "soft_dtype": dtype}  # fmt: skip


def _face_row(box: npt.NDArray[np.float32], points: npt.NDArray[np.float32]) -> Row:
    return {"boxes": box.tolist(), "box_scores": [1.0], "points": points.ravel().tolist(), "subject": 0,
            "warp": similarity_warp(points).ravel().tolist(),
            "embedding": None, "embedding_norm": None, "embedding_reason": "no recogniser"}  # fmt: skip


def _iuv_row(iuv: npt.NDArray[np.uint8]) -> Row:
    packed, shape, dtype = pack_array(iuv)
    return {"iuv": packed, "shape": shape, "dtype": dtype}
