"""CLIP image embeddings for CLIP-I and frame consistency (Radford et al. 2021): OpenAI's networks, each with its preprocessing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.clip import Frames
from pipelines.extractors.clip_image import CLIP_TINY as IMAGE_TINY
from pipelines.extractors.clip_image import MEAN, SIZE, STD, resize_direct
from pipelines.extractors.pretrained_folder import folder_digest, folder_of, load_strictly

Features = npt.NDArray[np.float32]

_BATCH = 16


def prepare(frames: Frames) -> Any:
    """CLIP's own: [N, H, W, 3] uint8 -> float32 [N, 3, 224, 224], shorter side to 224 (Pillow bicubic), middle square, normalised.

    Odd remainders are cut as transformers does (the smaller part at the top and left); OpenAI's code rounds half to even.
    """
    import torch
    from PIL import Image

    height, width = frames.shape[1:3]
    short = min(height, width)
    new = int(SIZE * height / short), int(SIZE * width / short)
    top, left = (new[0] - SIZE) // 2, (new[1] - SIZE) // 2
    resized = [np.asarray(Image.fromarray(frame).resize(new[::-1], Image.Resampling.BICUBIC)) for frame in frames]
    middle = np.stack(resized)[:, top : top + SIZE, left : left + SIZE]
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (MEAN, STD))
    return (torch.from_numpy(middle).permute(0, 3, 1, 2).float() / 255 - mean) / std


def prepare_evalcrafter(frames: Frames) -> Any:
    """EvalCrafter's faults, kept: straight to 224x224 (aspect lost), values 0..255, neither mean nor deviation.

    Bilinear without antialiasing, which is what Resize does to tensors in its torchvision 0.15.2.
    """
    import torch

    x = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float()
    return torch.nn.functional.interpolate(x, (SIZE, SIZE), mode="bilinear", align_corners=False)


def prepare_tiny(frames: Frames) -> Any:
    """As the tiny CLIP learnt: straight to its size (aspect lost), normalised."""
    import torch

    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (MEAN, STD))
    return (resize_direct(frames, IMAGE_TINY.size) - mean) / std


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipSimilarity:
    """uint8 [N, H, W, 3] RGB -> float32 [N, D], not normalised (D = 768 for ViT-L/14, 512 for ViT-B/32).

    role: a repository's model.safetensors, with its config.json beside it; MissingWeightsError without them.
    """

    name: str
    role: str
    prepare: Callable[[Frames], Any]
    version: int = 1

    def weights_digest(self) -> str:
        """sha256 over the network and its config.json."""
        return folder_digest(self.role, "config.json")

    def load(self, device: str) -> Callable[[Frames], Features]:
        """Open the network strictly, in float32; the text half is let go. Raises UserError for files that are no CLIP."""
        import torch
        from transformers import CLIPModel

        model = load_strictly(CLIPModel, folder_of(self.role, "config.json"), device).float()
        vision, projection = model.vision_model, model.visual_projection

        def features(frames: Frames) -> Features:
            parts = []
            for start in range(0, len(frames), _BATCH):
                pixels = self.prepare(frames[start : start + _BATCH]).to(device)
                with torch.inference_mode():
                    parts.append(projection(vision(pixel_values=pixels).pooler_output).cpu().numpy())
            return np.asarray(np.concatenate(parts), dtype=np.float32)

        return features


CLIP_L14 = ClipSimilarity(name="clip_l14", role="clip_large", prepare=prepare)
CLIP_B32 = ClipSimilarity(name="clip_b32", role="clip_base", prepare=prepare)
CLIP_B32_EVALCRAFTER = ClipSimilarity(name="clip_b32_evalcrafter", role="clip_base", prepare=prepare_evalcrafter)
CLIP_TINY = ClipSimilarity(name="clip_tiny", role="clip_tiny", prepare=prepare_tiny)  # knows performers only
