"""Pictures as CLIP's image embeddings, not normalised: what an IP-Adapter reads of its picture prompt."""

# N = pictures, H W = their height and width, D = numbers of an embedding

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipelines.clip import Frames
from pipelines.extractors.clip_image import MEAN, STD, resize_direct
from pipelines.extractors.pretrained_folder import load_strictly


class PictureEncoder(nn.Module):
    """Frames straight to the encoder's square (no crop: what is at the border counts, too), then the projected embedding [N, D]."""

    def __init__(self, vision: Any, projection: nn.Module, side: int) -> None:
        super().__init__()
        self.vision, self.projection, self.side = vision.eval().requires_grad_(False), projection.requires_grad_(False), side

    @classmethod
    def load(cls, folder: Path) -> PictureEncoder:
        """Of a CLIPVisionModelWithProjection's folder, or of a whole CLIPModel's (the tiny family's). Raises UserError where the weights do not fit."""
        from transformers import CLIPModel, CLIPVisionModelWithProjection

        whole = "vision_config" in json.loads((folder / "config.json").read_text())
        model = load_strictly(CLIPModel if whole else CLIPVisionModelWithProjection, folder, "cpu").float()
        return cls(model.vision_model, model.visual_projection, model.vision_model.config.image_size)

    @classmethod
    def fresh(cls, dim: int = 32, seed: int = 0) -> PictureEncoder:
        """An untrained one for 32x32 pictures: the same weights for the same seed. Tells pictures apart, knows nothing of them."""
        from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

        config = CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=32,
            patch_size=8,
            projection_dim=dim,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = CLIPVisionModelWithProjection(config)
        return cls(model.vision_model, model.visual_projection, 32)

    @property
    def dim(self) -> int:
        """D."""
        return int(self.projection.out_features)  # type: ignore[arg-type]

    @torch.no_grad()
    def forward(self, frames: Frames) -> Tensor:
        """uint8 [N, H, W, 3] -> [N, D]."""
        device = next(self.parameters()).device
        mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (MEAN, STD))
        pixels = (resize_direct(frames, self.side).to(device) - mean) / std
        return self.projection(self.vision(pixel_values=pixels).pooler_output)
