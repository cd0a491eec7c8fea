"""Person masks: SAM 2.1 (Ravi et al. 2024), one frame at a time, prompted by the subject's box; soft = sigmoid of the logits.

The image predictor, not the video one: frames can be batched, memory does not grow with the clip, and a lost frame is not carried on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.boxes import Floats
from pipelines.clip import Clip, Frames
from pipelines.extractors.person_box import PersonBox, digest_of_lines
from pipelines.extractors.person_crops import Boxes, crop_of, subject_finder
from pipelines.extractors.pretrained_folder import folder_digest, folder_of, half_on_cuda, load_strictly
from pipelines.masks import encode_rle, pack_array

Rows = dict[str, list[dict[str, Any]]]

_FILES = ("config.json", "preprocessor_config.json")
TINY_MARGIN = 1.2


@dataclass(frozen=True, kw_only=True, slots=True)
class BodyMask:
    """Mask of the subject in every frame; frames without the subject have an empty one. ClipError no_person where all have none.

    margin: the network sees the subject's box alone, enlarged by this factor about its middle; None: the whole frame, as SAM does.
    """

    name: str = "body_mask"
    role: str = "person_mask"
    person: PersonBox = field(default_factory=PersonBox)
    batch_frames: int = 4
    margin: float | None = None
    version = 1
    tables = ("body_masks",)

    def weights_digest(self) -> str:
        """sha256 over the network, its settings and the person detector."""
        shown = [] if self.margin is None else [f"margin {self.margin}"]
        return digest_of_lines(folder_digest(self.role, *_FILES), self.person.weights_digest(), *shown)

    def load(self, device: str) -> Callable[[Clip, Frames], Rows]:
        """From a clip and its frames to rows."""
        network = MaskNetwork(folder_of(self.role, *_FILES), device, self.margin)
        boxes_of = subject_finder(self.person, device)

        def extract(clip: Clip, frames: Frames) -> Rows:
            boxes = boxes_of(clip, frames, self.batch_frames)
            rows: list[dict[str, Any]] = []
            for start in range(0, len(frames), self.batch_frames):
                stop = start + self.batch_frames
                rows += network.rows(frames[start:stop], boxes[start:stop])
            return {"body_masks": rows}

        return extract


class MaskNetwork:
    """SAM 2.1 of a folder, opened strictly."""

    def __init__(self, folder: Path, device: str, margin: float | None = None) -> None:
        from transformers import Sam2Model
        from transformers.models.sam2.image_processing_sam2 import Sam2ImageProcessor
        from transformers.models.sam2.processing_sam2 import Sam2Processor

        self._device, self._model = device, load_strictly(Sam2Model, folder, device)
        self._processor = Sam2Processor(Sam2ImageProcessor.from_pretrained(str(folder), local_files_only=True))
        self._margin = margin

    def rows(self, frames: Frames, boxes: Boxes) -> list[dict[str, Any]]:
        """Rows of body_masks of N frames [N, H, W, 3] from the subject's boxes in them."""
        soft = np.zeros(frames.shape[:3], np.uint8)
        seen = [(i, box) for i, box in enumerate(boxes) if box is not None]
        if seen:
            windows = [window_of(box, frames.shape[1:3], self._margin) for _, box in seen]
            pictures = [crop_of(frames[i], window) for (i, _), window in zip(seen, windows, strict=True)]
            prompts = [[(box - np.tile(window[:2], 2)).tolist()] for (_, box), window in zip(seen, windows, strict=True)]
            for (i, _), window, picture, logits in zip(seen, windows, pictures, self._logits(pictures, prompts), strict=True):
                crop_of(soft[i], window)[:] = soft_mask(logits, picture.shape[:2])
        return [mask_row(mask) for mask in soft]

    def _logits(self, pictures: list[Frames], prompts: list[list[list[float]]]) -> Any:
        """[N, h, w] at the decoder's own size. prompts: a box in px of each picture."""
        import torch

        inputs = self._processor(images=pictures, input_boxes=prompts, return_tensors="pt").to(self._device)
        with torch.inference_mode(), half_on_cuda(self._device):
            masks = self._model(pixel_values=inputs["pixel_values"], input_boxes=inputs["input_boxes"], multimask_output=False).pred_masks
        return masks[:, 0, 0].float()


def window_of(box: Floats, size: tuple[int, ...], margin: float | None) -> Floats:
    """x1, y1, x2, y2 in whole px of the part of a frame (H, W) that the network sees."""
    height, width = size
    if margin is None:
        return np.array([0, 0, width, height], np.float32)
    middle, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2 * margin
    corners = np.concatenate([np.floor(middle - half), np.ceil(middle + half)])
    window: Floats = np.clip(corners, 0, np.array([width, height, width, height])).astype(np.float32)
    return window


def soft_mask(logits: Any, size: tuple[int, ...]) -> Frames:
    """Logits [h, w] -> sigmoid of them, bilinearly enlarged to size (H, W), uint8 0..255."""
    import torch

    large = torch.nn.functional.interpolate(logits[None, None], tuple(size), mode="bilinear", align_corners=False)[0, 0]
    soft: Frames = (large.sigmoid() * 255).round().to(torch.uint8).cpu().numpy()
    return soft


def mask_row(soft: Frames) -> dict[str, Any]:
    """A row of body_masks from a soft mask [H, W], uint8 0..255; the hard one is its upper half."""
    hard = soft >= 128
    packed, shape, dtype = pack_array(soft)
    return {"rle": encode_rle(hard), "height": soft.shape[0], "width": soft.shape[1], "area_px": int(hard.sum()),
            "soft": packed, "soft_shape": shape, "soft_dtype": dtype}  # fmt: skip
