"""CLIP image embeddings, not normalised, as the generators want them: two encoders, each with the resize that it was trained behind.

clip_image_large: ViT-L/14 of sd-image-variations (768), frame straight to 224x224 (Pillow bicubic).
clip_image_huge: ViT-H/14 of SVD (1024), Gaussian blur, then bicubic with aligned corners, on values in -1..1 (SVD's own antialiasing).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.clip import Clip, Frames
from pipelines.extractors.person_box import digest_of_lines
from pipelines.extractors.pretrained_folder import folder_digest, folder_of, half_on_cuda, load_strictly

Rows = dict[str, list[dict[str, Any]]]

SIZE = 224
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of CLIP's training images, 0..1


def resize_direct(frames: Frames, size: int = SIZE) -> Any:
    """[N, H, W, 3] uint8 -> float32 [N, 3, size, size] in 0..1; the aspect is not kept."""
    import torch
    from PIL import Image

    small = [np.asarray(Image.fromarray(frame).resize((size, size), Image.Resampling.BICUBIC)) for frame in frames]
    return torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2).float() / 255


def resize_svd(frames: Frames, size: int = SIZE) -> Any:
    """The same as SVD does it: Gaussian blur of sigma (factor - 1) / 2 per axis, then bicubic, in -1..1; may leave 0..1 a little."""
    import torch

    x = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255 * 2 - 1
    for axis in (2, 3):
        x = _blurred(x, axis, size)
    return (torch.nn.functional.interpolate(x, (size, size), mode="bicubic", align_corners=True) + 1) / 2


def _blurred(x: Any, axis: int, size: int) -> Any:
    import torch

    sigma = max((x.shape[axis] / size - 1) / 2, 0.001)
    taps = int(max(4 * sigma, 3)) // 2 * 2 + 1
    at = torch.arange(taps, dtype=x.dtype) - taps // 2
    kernel = torch.exp(-at.square() / (2 * sigma**2))
    shape = [1, 1, taps, 1] if axis == 2 else [1, 1, 1, taps]
    weight = (kernel / kernel.sum()).reshape(shape).expand(x.shape[1], -1, -1, -1)
    pad = (0, 0, taps // 2, taps // 2) if axis == 2 else (taps // 2, taps // 2, 0, 0)
    return torch.nn.functional.conv2d(torch.nn.functional.pad(x, pad, mode="reflect"), weight, groups=x.shape[1])


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipImage:
    """One embedding [D] per frame, so that every frame may serve as reference."""

    name: str
    role: str
    resize: Callable[[Frames, int], Any]
    size: int = SIZE  # px of the network's input
    whole: bool = False  # the file is a whole CLIPModel, of which the image half is used
    batch_frames: int = 16
    version = 1
    tables = ("clip_embeddings",)

    def weights_digest(self) -> str:
        """sha256 over the encoder and its settings."""
        other_size = () if self.size == SIZE else (f"size {self.size}",)
        return digest_of_lines(folder_digest(self.role, "config.json"), self.resize.__name__, *other_size)

    def load(self, device: str) -> Callable[[Clip, Frames], Rows]:
        """From a clip and its frames to rows."""
        import torch

        embed = _image_half(folder_of(self.role, "config.json"), device, self.whole)
        mean, std = (torch.tensor(values, device=device).reshape(3, 1, 1) for values in (MEAN, STD))

        def extract(clip: Clip, frames: Frames) -> Rows:
            rows: list[dict[str, Any]] = []
            for start in range(0, len(frames), self.batch_frames):
                x = (self.resize(frames[start : start + self.batch_frames], self.size).to(device) - mean) / std
                with torch.inference_mode(), half_on_cuda(device):
                    embeddings = embed(x).float().cpu().numpy()
                rows += [{"embedding": one.tolist()} for one in embeddings]
            return {"clip_embeddings": rows}

        return extract


def _image_half(folder: Any, device: str, whole: bool) -> Callable[[Any], Any]:
    """Normalised pictures [N, 3, size, size] -> embeddings [N, D]."""
    from transformers import CLIPModel, CLIPVisionModelWithProjection

    if whole:
        clip = load_strictly(CLIPModel, folder, device)
        vision, projection = clip.vision_model, clip.visual_projection
        return lambda x: projection(vision(pixel_values=x).pooler_output)
    model = load_strictly(CLIPVisionModelWithProjection, folder, device)
    return lambda x: model(pixel_values=x).image_embeds


CLIP_LARGE = ClipImage(name="clip_image_large", role="clip_image_encoder", resize=resize_direct)
CLIP_HUGE = ClipImage(name="clip_image_huge", role="svd_image_encoder", resize=resize_svd)
CLIP_TINY = ClipImage(name="clip_image_tiny", role="clip_tiny", resize=resize_direct, size=64, whole=True)
