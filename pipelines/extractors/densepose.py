"""DensePose IUV (Gueler et al. 2018): the public TorchScript export of R_50_FPN, (boxes, coarse, fine, u, v) per image.

The papers name R_50_FPN_s1x; the export is of R_50_FPN_DL (the only one that needs no detectron2), so numbers differ a little.
Post-processing is that of DensePose's chart predictor. The network looks for people in the whole frame, with a margin of grey round it:
a person cut out by a tight box loses the head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.clip import Clip, Frames
from pipelines.errors import ClipError, UserError
from pipelines.extractors.torchscript import load_torchscript
from pipelines.masks import pack_array
from pipelines.micro_batch import is_out_of_memory
from pipelines.weights import digest_of, find_weights

Rows = dict[str, list[dict[str, Any]]]

SIDES = (800, 1333)  # detectron2's resize at test time: the short side, the long one at most
TINY_SIDES = (128, 224)  # of the demo's network
GREY, MARGIN = 114, 0.05  # of the frame's sides
PARTS = 25  # background and 24


@dataclass(frozen=True, kw_only=True, slots=True)
class DensePose:
    """uint8 [H, W, 3]: part 0..24, U and V times 255, of the largest person; zeros in frames without one."""

    name: str = "densepose"
    role: str = "densepose"
    sides: tuple[int, int] = SIDES  # px of the network's image: the short one, the long one at most
    batch_frames: int = 1  # the export takes one image
    version = 1
    tables = ("densepose",)

    def weights_digest(self) -> str:
        """sha256 of the TorchScript file."""
        return digest_of(find_weights(self.role))

    def load(self, device: str) -> Callable[[Clip, Frames], Rows]:
        """From a clip and its frames to rows; raises ClipError no_person where all frames are empty."""
        path = find_weights(self.role)
        network = load_torchscript(path, device).float()  # a file may hold its weights in half precision

        def extract(clip: Clip, frames: Frames) -> Rows:
            rows, seen = [], False
            for frame in frames:
                iuv = iuv_of(network, frame, device, str(path), self.sides)
                seen = seen or bool(iuv.any())
                packed, shape, dtype = pack_array(iuv)
                rows.append({"iuv": packed, "shape": shape, "dtype": dtype})
            if not seen:
                raise ClipError("no_person", clip.clip_id, "DensePose found nobody in any frame", "drop the clip")
            return {"densepose": rows}

        return extract


def network_input(frame: Frames, sides: tuple[int, int] = SIDES) -> tuple[Frames, float, tuple[int, int]]:
    """(image [h, w, 3] BGR, scale, (left, top) margin px of the frame): a point p of the image is p / scale - margin in the frame."""
    import cv2
    from PIL import Image

    height, width, _ = frame.shape
    left, top = round(width * MARGIN), round(height * MARGIN)
    padded = cv2.copyMakeBorder(frame, top, top, left, left, cv2.BORDER_CONSTANT, value=(GREY, GREY, GREY))
    short, long = sorted(padded.shape[:2])
    scale = min(sides[0] / short, sides[1] / long)
    size = (round(padded.shape[1] * scale), round(padded.shape[0] * scale))
    image = np.asarray(Image.fromarray(padded).resize(size, Image.Resampling.BILINEAR))
    return np.ascontiguousarray(image[..., ::-1]), scale, (left, top)  # detectron2 models are trained on BGR


def iuv_of(network: Any, frame: Frames, device: str, path: str, sides: tuple[int, int] = SIDES) -> Frames:
    """IUV [H, W, 3] of the largest person of a frame. Raises UserError for a network that gives something else."""
    import torch

    image, scale, margin = network_input(frame, sides)
    try:
        with torch.inference_mode():
            boxes, coarse, fine, u, v = network(torch.from_numpy(image).permute(2, 0, 1).to(device))
    except (RuntimeError, ValueError, TypeError) as error:
        if is_out_of_memory(error):
            raise
        raise UserError(f"{path} does not work as DensePose ({str(error).splitlines()[-1][:200]}); fetch the export again") from None
    if fine.shape[1:2] != (PARTS,) or u.shape != fine.shape or v.shape != fine.shape:
        raise UserError(f"{path} does not give {PARTS} parts with u and v (fine {tuple(fine.shape)}); fetch the export again")
    if not len(boxes):
        return np.zeros_like(frame)
    best = int(((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).argmax())
    box = boxes[best].float().cpu().numpy() / scale - np.array(margin * 2, np.float32)
    return paste(frame.shape[:2], box, [part[best].float() for part in (coarse, fine, u, v)])


def paste(size: tuple[int, ...], box: Any, charts: list[Any]) -> Frames:
    """Charts [C, h, w] (coarse, fine, u, v) -> IUV [H, W, 3]; box x1, y1, x2, y2 px, may reach over the edge.

    Box to whole pixels by truncation, charts bilinearly to its size, part = argmax of fine where coarse says person, U and V of that part.
    """
    import torch

    x, y = int(box[0]), int(box[1])
    wide, high = max(int(box[2] - box[0]), 1), max(int(box[3] - box[1]), 1)
    coarse, fine, u, v = (torch.nn.functional.interpolate(c[None], (high, wide), mode="bilinear", align_corners=False)[0] for c in charts)
    part = fine.argmax(0) * (coarse.argmax(0) > 0)
    uv = [(chart.gather(0, part[None])[0].clamp(0, 1) * 255 * (part > 0)).to(torch.uint8) for chart in (u, v)]
    inside = torch.stack([part.to(torch.uint8), *uv], dim=-1).cpu().numpy()
    iuv = np.zeros((*size, 3), np.uint8)
    left, top, right, bottom = max(x, 0), max(y, 0), min(x + wide, size[1]), min(y + high, size[0])
    if left < right and top < bottom:
        iuv[top:bottom, left:right] = inside[top - y : bottom - y, left - x : right - x]
    return iuv
