"""Clothing probabilities: zero-shot CLIP ViT-L/14 (Radford et al. 2021) over twelve fixed names (HFCA 4.1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipelines.clip import Clip, Frames
from pipelines.errors import ClipError
from pipelines.extractors.person_box import PersonBox, digest_of_lines
from pipelines.extractors.person_crops import crop_of, subject_finder
from pipelines.extractors.pretrained_folder import folder_digest, folder_of, half_on_cuda, load_strictly

Rows = dict[str, list[dict[str, Any]]]

NAMES = ("t-shirt", "shirt", "sweater/hoodie", "coat/jacket", "suit", "dress", "skirt", "trousers/jeans", "shorts",
         "swimwear/leotard", "sport/martial-arts uniform", "traditional/costume")  # fmt: skip
# The paper gives neither names nor prompt; this is CLIP's own prompt with what the category is about.
PROMPT = "a photo of a person wearing a {}."
SAMPLES = 8  # frames
_FILES = ("config.json", "preprocessor_config.json", "tokenizer.json")


@dataclass(frozen=True, kw_only=True, slots=True)
class Clothing:
    """softmax(100 cos) over NAMES of the person's crop, mean over 8 frames (fewer where the person is not seen in them)."""

    name: str = "clothing"
    role: str = "clip_large"
    person: PersonBox = field(default_factory=PersonBox)
    batch_frames: int = 8
    version = 1
    tables = ("clothing",)

    def weights_digest(self) -> str:
        """sha256 over the network, its settings, the prompts and the person detector."""
        return digest_of_lines(folder_digest(self.role, *_FILES), self.person.weights_digest(), PROMPT, *NAMES)

    def load(self, device: str) -> Callable[[Clip, Frames], Rows]:
        """From a clip and its frames to rows; raises ClipError no_person."""
        from transformers import CLIPModel, CLIPProcessor

        folder = folder_of(self.role, *_FILES)
        model = load_strictly(CLIPModel, folder, device)
        processor = CLIPProcessor.from_pretrained(str(folder), local_files_only=True)
        texts = prompt_embeddings(model, processor, device)
        boxes_of = subject_finder(self.person, device)

        def extract(clip: Clip, frames: Frames) -> Rows:
            boxes = boxes_of(clip, frames, self.batch_frames)
            crops = [crop_of(frames[i], box) for i in sampled(len(frames)) if (box := boxes[i]) is not None]
            if not crops:
                remedy = "drop the clip: its person is seen too rarely"
                raise ClipError("no_person", clip.clip_id, f"the person is in none of the {SAMPLES} sampled frames", remedy)
            parts = []
            for start in range(0, len(crops), self.batch_frames):
                parts.append(probabilities(model, processor, crops[start : start + self.batch_frames], texts, device))
            return {"clothing": [{"frame": 0, "names": list(NAMES), "probabilities": np.concatenate(parts).mean(axis=0).tolist()}]}

        return extract


def sampled(num_frames: int) -> list[int]:
    """The middles of 8 equal parts of the clip; every frame of a shorter one."""
    return sorted({int((i + 0.5) * num_frames / SAMPLES) for i in range(SAMPLES)})


def prompt_embeddings(model: Any, processor: Any, device: str) -> Any:
    """Unit embeddings [12, D] of the prompts."""
    import torch

    inputs = processor.tokenizer([PROMPT.format(name) for name in NAMES], padding=True, return_tensors="pt").to(device)
    with torch.inference_mode():
        hidden = model.text_model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).pooler_output
        return torch.nn.functional.normalize(model.text_projection(hidden), dim=-1)


def probabilities(model: Any, processor: Any, crops: list[Frames], texts: Any, device: str) -> Any:
    """[N, 12] of N pictures [h, w, 3], given `prompt_embeddings`."""
    import torch

    pixels = processor.image_processor(crops, return_tensors="pt")["pixel_values"].to(device)
    with torch.inference_mode(), half_on_cuda(device):
        embedded = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)
    unit = torch.nn.functional.normalize(embedded.float(), dim=-1)
    return (100 * unit @ texts.T).softmax(dim=-1).cpu().numpy()
